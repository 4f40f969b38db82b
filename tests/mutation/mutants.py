"""One-point mutations of a module: its text in, a list of mutants out. No I/O."""

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

Expressions = Iterator[tuple[str, ast.expr]]
"""Pairs of what kind of change it is, and the expression that takes the place of the original."""
Function = ast.FunctionDef | ast.AsyncFunctionDef

SHOWN_CHARACTERS: Final = 160
"""A statement longer than this is shown as the part that changes."""
CONTEXT_CHARACTERS: Final = 50
"""What is shown on each side of that part."""
SMALL: Final = 10
"""Numbers below this become one more; others are bounds, and become twice as much."""

BOUNDARIES: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
OPPOSITES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
NOT_BEHAVIOUR: Final = frozenset({"__all__", "__slots__", "__match_args__"})
TEXT_FOR_PEOPLE: Final = frozenset({"__repr__", "__str__"})
TYPES_ONLY: Final = frozenset({"cast", "TypeVar", "NewType", "assert_never"})
LOGGERS: Final = frozenset({"_log", "log", "logger"})


@dataclass(frozen=True)
class Mutant:
    """One change of one module. `number` counts changes that read the same in one function."""

    module: str
    function: str
    kind: str
    was: str
    becomes: str
    number: int
    index: int
    """The place among all mutants of the module's present text."""
    line: int
    """Where the statement begins that is changed."""
    cached: bool
    """Whether the function keeps its results, so that a later call may not run it."""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What stays the same while lines move."""
        return self.module, self.function, self.was, self.becomes, self.number


@dataclass(frozen=True)
class _Edit:
    kind: str
    function: str
    unit: ast.AST
    """The smallest statement, handler or case around the change."""
    line: int
    cached: bool
    owner: ast.AST
    field: str
    new: object


def find_mutants(module: str, source: str) -> list[Mutant]:
    """Return all mutants of a module."""
    seen: Counter[tuple[str, str, str]] = Counter()
    mutants = []
    for index, edit in enumerate(_find_edits(ast.parse(source))):
        was, becomes = _show(edit)
        seen[edit.function, was, becomes] += 1
        mutants.append(
            Mutant(
                module=module,
                function=edit.function,
                kind=edit.kind,
                was=was,
                becomes=becomes,
                number=seen[edit.function, was, becomes],
                index=index,
                line=edit.line,
                cached=edit.cached,
            )
        )
    return mutants


def build_mutant(source: str, index: int | None) -> ast.Module:
    """Return the module with the change at `index` made; without an index, unchanged."""
    tree = ast.parse(source)
    if index is not None:
        edit = _find_edits(tree)[index]
        setattr(edit.owner, edit.field, edit.new)
    return ast.fix_missing_locations(tree)


def _show(edit: _Edit) -> tuple[str, str]:
    """Return the statement before and after the change, cut to what differs where it is long."""
    before = getattr(edit.owner, edit.field)
    was = _head(edit.unit)
    setattr(edit.owner, edit.field, edit.new)
    becomes = "pass" if _is_removed(edit, before) else _head(edit.unit)
    if edit.kind == "order of statements":
        was, becomes = (
            "; ".join(ast.unparse(each) for each in pair)
            for pair in _changed_pair(before, getattr(edit.owner, edit.field))
        )
    setattr(edit.owner, edit.field, before)
    return _cut(was, becomes)


def _is_removed(edit: _Edit, before: object) -> bool:
    return edit.kind == "removed" and isinstance(before, list)


def _changed_pair(before: list[ast.stmt], after: list[ast.stmt]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    first = next(index for index, (one, other) in enumerate(zip(before, after, strict=True)) if one is not other)
    return before[first : first + 2], after[first : first + 2]


def _head(node: ast.AST) -> str:
    """Return the text of a statement; of one that holds others, the line that begins it."""
    node = copy.copy(node)
    compound = False
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        if isinstance(getattr(node, name, None), list):
            compound = True
            setattr(node, name, [ast.Pass()] if name == "body" else [])
    text = ast.unparse(node).strip()
    return text.rsplit("\n", 1)[0].rstrip() if compound and "\n" in text else text


def _cut(was: str, becomes: str) -> tuple[str, str]:
    if max(len(was), len(becomes)) <= SHOWN_CHARACTERS or becomes == "pass":
        return was if len(was) <= 2 * SHOWN_CHARACTERS else f"{was[: 2 * SHOWN_CHARACTERS]}…", becomes
    shorter = min(len(was), len(becomes))
    start = next((at for at in range(shorter) if was[at] != becomes[at]), shorter)
    end = next((at for at in range(shorter - start) if was[-1 - at] != becomes[-1 - at]), shorter - start)
    left, right = max(0, start - CONTEXT_CHARACTERS), max(0, end - CONTEXT_CHARACTERS)

    def part(text: str) -> str:
        return ("…" if left else "") + text[left : len(text) - right] + ("…" if right else "")

    return part(was), part(becomes)


def _find_edits(tree: ast.Module) -> list[_Edit]:
    return list(_Finder(tree).find())


class _Finder:
    """Walks the statements of one module; the order of what it finds depends on the text alone."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._modules_attributes = _attributes_by_base(tree)

    def find(self) -> Iterator[_Edit]:
        yield from self._body(self._tree, "body", _Scope("", cached=False, attributes={}))

    def _body(self, owner: ast.AST, field: str, scope: "_Scope") -> Iterator[_Edit]:
        statements: list[ast.stmt] = getattr(owner, field)
        for at, statement in enumerate(statements):
            if _says_nothing(statement, scope):
                continue
            if _may_be_removed(statement):
                removed = [*statements[:at], ast.copy_location(ast.Pass(), statement), *statements[at + 1 :]]
                yield scope.edit("removed", statement, statement, owner, field, removed)
            if at + 1 < len(statements) and _may_be_swapped(statement, statements[at + 1]):
                swapped = [*statements[:at], statements[at + 1], statement, *statements[at + 2 :]]
                yield scope.edit("order of statements", statement, statement, owner, field, swapped)
            yield from self._statement(statement, scope)

    def _statement(self, statement: ast.stmt, scope: "_Scope") -> Iterator[_Edit]:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from self._function(statement, scope)
                return
            case ast.ClassDef():
                yield from self._body(statement, "body", scope.within(statement.name))
                return
            case ast.Return(value=ast.expr() as value) if not _is_none(value):
                none = ast.copy_location(ast.Constant(None), value)
                yield scope.edit("returned value", statement, statement, statement, "value", none)
            case ast.AugAssign(op=op) if type(op) in OPERATORS:
                yield scope.edit("operator", statement, statement, statement, "op", OPERATORS[type(op)]())
        yield from self._children(statement, statement, statement, scope)

    def _function(self, function: Function, scope: "_Scope") -> Iterator[_Edit]:
        if function.name in TEXT_FOR_PEOPLE or any(_name(each) == "overload" for each in function.decorator_list):
            return
        for field, values in (("defaults", function.args.defaults), ("kw_defaults", function.args.kw_defaults)):
            for at, default in enumerate(values):
                if default is not None:
                    yield from self._slot(function.args, field, at, default, function, function, scope)
        inner = scope.within(
            function.name,
            cached=any("cache" in ast.unparse(each) for each in function.decorator_list),
            attributes=_attributes_by_base(function),
        )
        yield from self._body(function, "body", inner)

    def _children(self, node: ast.AST, unit: ast.AST, at: ast.stmt, scope: "_Scope") -> Iterator[_Edit]:
        """Yield the changes below a node: in its expressions, and in the statements that it holds."""
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "decorator_list", "target", "targets", "pattern"}:
                continue
            if isinstance(value, list):
                yield from self._list(node, field, value, unit, at, scope)
            elif isinstance(value, ast.expr):
                yield from self._slot(node, field, None, value, unit, at, scope)
            elif isinstance(value, ast.AST):
                yield from self._children(value, unit, at, scope)

    def _list(
        self, node: ast.AST, field: str, values: list[object], unit: ast.AST, at: ast.stmt, scope: "_Scope"
    ) -> Iterator[_Edit]:
        if values and isinstance(values[0], ast.stmt):
            yield from self._body(node, field, scope)
            return
        for index, each in enumerate(values):
            if isinstance(each, ast.expr):
                yield from self._slot(node, field, index, each, unit, at, scope)
            elif isinstance(each, ast.ExceptHandler | ast.match_case):
                yield from self._children(each, each, at, scope)
            elif isinstance(each, ast.AST):
                yield from self._children(each, unit, at, scope)

    def _slot(
        self,
        owner: ast.AST,
        field: str,
        index: int | None,
        node: ast.expr,
        unit: ast.AST,
        at: ast.stmt,
        scope: "_Scope",
    ) -> Iterator[_Edit]:
        """Yield the changes of one expression, and those below it."""
        if _is_for_people(node) or (isinstance(node, ast.Constant) and isinstance(at, ast.Raise)):
            return
        for kind, new in self._replacements(owner, field, node, scope):
            fresh = ast.copy_location(new, node)
            value: object = fresh
            if index is not None:
                values = getattr(owner, field)
                value = [*values[:index], fresh, *values[index + 1 :]]
            yield scope.edit(kind, unit, at, owner, field, value)
        if isinstance(node, ast.comprehension | ast.Constant):
            return
        yield from self._children(node, unit, at, scope)

    def _replacements(self, owner: ast.AST, field: str, node: ast.expr, scope: "_Scope") -> Expressions:
        if field == "test" and isinstance(owner, ast.If | ast.While | ast.IfExp) and not _is_comparison(node):
            yield "negated", ast.UnaryOp(ast.Not(), node)
        if field == "ifs":
            yield "filter", ast.Constant(value=True)
        if field == "type" and isinstance(owner, ast.ExceptHandler) and isinstance(node, ast.Tuple):
            for each in _without_one(node.elts):
                yield "caught", ast.Tuple(each, ast.Load())
            return
        if isinstance(node, ast.Attribute) and not isinstance(owner, ast.Attribute) and field != "func":
            yield from self._siblings(node, scope)
        yield from EXPRESSIONS.get(type(node), _nothing)(node)

    def _siblings(self, node: ast.Attribute, scope: "_Scope") -> Expressions:
        """Yield the attribute's neighbour: of the same thing, named in the same function or, of a module, anywhere."""
        base = ast.unparse(node.value)
        wide = base[:1].isupper() or base in self._imported_modules
        names = (self._modules_attributes if wide else scope.attributes).get(base, [])
        if len(names) > 1 and node.attr in names:
            yield "attribute", ast.Attribute(node.value, names[(names.index(node.attr) + 1) % len(names)], node.ctx)

    @cached_property
    def _imported_modules(self) -> set[str]:
        return {
            alias.asname or alias.name
            for each in self._tree.body
            if isinstance(each, ast.ImportFrom | ast.Import)
            for alias in each.names
            if alias.name.islower()
        }


@dataclass(frozen=True)
class _Scope:
    function: str
    cached: bool
    attributes: dict[str, list[str]]
    """By the text of what they belong to, the attributes that a function reads, in the order of the text."""

    def within(self, name: str, *, cached: bool = False, attributes: dict[str, list[str]] | None = None) -> "_Scope":
        inner = f"{self.function}.{name}" if self.function else name
        return _Scope(inner, self.cached or cached, self.attributes if attributes is None else attributes)

    def edit(self, kind: str, unit: ast.AST, at: ast.stmt, owner: ast.AST, field: str, new: object) -> _Edit:
        return _Edit(kind, self.function, unit, at.lineno, self.cached, owner, field, new)


def _attributes_by_base(tree: ast.AST) -> dict[str, list[str]]:
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load) or id(node) in called | inner:
            continue
        names = found.setdefault(ast.unparse(node.value), [])
        if node.attr not in names:
            names.append(node.attr)
    return found


def _says_nothing(statement: ast.stmt, scope: _Scope) -> bool:
    """Return whether a statement has no behaviour that a test could see: imports, types, words for people."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.Global() | ast.Nonlocal() | ast.Pass():
            silent = True
        case ast.Expr(value=ast.Call(func=func)):
            silent = _name(func) in TYPES_ONLY or (isinstance(func, ast.Attribute) and _name(func.value) in LOGGERS)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            of_types = isinstance(value, ast.Call) and _name(value.func) in TYPES_ONLY and not scope.function
            silent = name in NOT_BEHAVIOUR | LOGGERS or of_types
        case ast.If(test=test):
            silent = _name(test) == "TYPE_CHECKING"
        case _:
            silent = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return silent


def _may_be_removed(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call() | ast.Await()):
            return True
        case ast.Assign(targets=targets):
            return all(isinstance(each, ast.Attribute | ast.Subscript) for each in targets)
        case ast.AnnAssign(target=ast.Attribute(), value=ast.expr()):
            return False
    return isinstance(statement, ast.AugAssign | ast.Delete | ast.Raise | ast.Break | ast.Continue)


def _may_be_swapped(first: ast.stmt, second: ast.stmt) -> bool:
    def acts(statement: ast.stmt) -> bool:
        return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call | ast.Await)

    return acts(first) and acts(second) and ast.unparse(first) != ast.unparse(second)


def _is_for_people(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and _name(node.func) in TYPES_ONLY)


def _is_comparison(node: ast.expr) -> bool:
    """Return whether a condition has a mutant of its own that negates it."""
    return isinstance(node, ast.Compare | ast.BoolOp | ast.UnaryOp)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _nothing(_: ast.expr) -> Expressions:
    yield from ()


def _constant(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.Constant)
    match node.value:
        case bool(value):
            yield "constant", ast.Constant(not value)
        case int(value) | float(value):
            yield "constant", ast.Constant(value + 1 if value < SMALL else value * 2)
        case str(value) if not any(character.isspace() for character in value):
            yield "constant", ast.Constant(value + "_")
        case bytes(value):
            yield "constant", ast.Constant(value + b"_")


def _compare(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.Compare)
    for at, operator in enumerate(node.ops):
        if type(operator) in BOUNDARIES:
            operators = [*node.ops[:at], BOUNDARIES[type(operator)](), *node.ops[at + 1 :]]
            yield "comparison", ast.Compare(node.left, operators, node.comparators)


def _boolean(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.BoolOp)
    yield "and, or", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    for values in _without_one(node.values):
        yield "condition left out", values[0] if len(values) == 1 else ast.BoolOp(node.op, values)


def _unary(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.UnaryOp)
    if isinstance(node.op, ast.Not):
        yield "not", node.operand


def _binary(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.BinOp)
    texts = (ast.JoinedStr, ast.List, ast.Tuple)
    literal = any(
        isinstance(each, texts) or (isinstance(each, ast.Constant) and isinstance(each.value, str | bytes))
        for each in (node.left, node.right)
    )
    if type(node.op) in OPERATORS and not literal:
        yield "operator", ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)


def _call(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.Call)
    name = _name(node.func)
    if isinstance(node.func, ast.Name) and name in OPPOSITES:
        yield "min, max, any, all", ast.Call(ast.Name(OPPOSITES[name], ast.Load()), node.args, node.keywords)
    if name not in {"min", "max"}:
        for args in _with_two_swapped(node.args):
            yield "order of arguments", ast.Call(node.func, args, node.keywords)
    for values in _with_two_swapped([each.value for each in node.keywords]):
        keywords = [ast.keyword(each.arg, value) for each, value in zip(node.keywords, values, strict=True)]
        yield "keyword", ast.Call(node.func, node.args, keywords)


def _either(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.IfExp)
    if _is_comparison(node.test):
        yield "if, else", ast.IfExp(node.test, node.orelse, node.body)


def _dictionary(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.Dict)
    for values in _with_two_swapped(node.values):
        yield "value of a key", ast.Dict(node.keys, values)
    for at in range(len(node.keys)):
        keys, values = ([*part[:at], *part[at + 1 :]] for part in (node.keys, node.values))
        yield "key left out", ast.Dict(keys, values)


def _list(node: ast.expr) -> Expressions:
    assert isinstance(node, ast.List | ast.Set)
    for elements in _without_one(node.elts):
        yield "element left out", ast.List(elements, ast.Load()) if isinstance(node, ast.List) else ast.Set(elements)


def _without_one(nodes: Sequence[ast.expr]) -> Iterator[list[ast.expr]]:
    if len(nodes) > 1:
        for at in range(len(nodes)):
            yield [*nodes[:at], *nodes[at + 1 :]]


def _with_two_swapped(nodes: Sequence[ast.expr]) -> Iterator[list[ast.expr]]:
    """Yield the nodes with two neighbours swapped: only those that could have one type, and differ."""
    for at in range(len(nodes) - 1):
        first, second = nodes[at], nodes[at + 1]
        if _sort(first) == _sort(second) != "" and ast.unparse(first) != ast.unparse(second):
            yield [*nodes[:at], second, first, *nodes[at + 2 :]]


def _sort(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=value):
            return type(value).__name__
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return "reference"
        case ast.Call() | ast.Await() | ast.BinOp() | ast.JoinedStr():
            return "computed"
    return ""


EXPRESSIONS: Final[dict[type[ast.expr], Callable[[ast.expr], Expressions]]] = {
    ast.Constant: _constant,
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.Call: _call,
    ast.IfExp: _either,
    ast.Dict: _dictionary,
    ast.List: _list,
    ast.Set: _list,
}
