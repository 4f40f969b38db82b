"""Which statements use a name, so that a changed constant is tried on the tests that run those. No I/O."""

import ast
from collections.abc import Iterator, Mapping

Place = tuple[str, int]
"""A module, and the line on which a statement begins."""


class Names:
    """The names that modules define when they are imported, and where any module uses them."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.defined: dict[Place, str] = {}
        """What a statement that runs at import defines: a constant, a field, a function; of a class its name."""
        self.classes: dict[Place, str] = {}
        """Of a field with a default, its class: whoever makes one without naming the field uses the default."""
        self._used: dict[str, set[Place]] = {}
        for module, source in sources.items():
            tree = ast.parse(source)
            self._define(module, tree, "")
            for node in ast.walk(tree):
                if isinstance(node, ast.stmt):
                    for name in _names_in(node):
                        self._used.setdefault(name, set()).add((module, node.lineno))

    def find_uses(self, name: str) -> set[Place]:
        """Return where a name is used, and where what is made of it at import is used."""
        places: set[Place] = set()
        seen, ahead = {name}, [name]
        while ahead:
            used = self._used.get(ahead.pop(), set())
            places |= used
            made = {self.defined[place] for place in used if place in self.defined} - seen
            seen |= made
            ahead.extend(made)
        return places

    def _define(self, module: str, owner: ast.Module | ast.ClassDef, of: str) -> None:
        for statement in owner.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                    self.defined[module, statement.lineno] = name
                    if of and statement.value is not None:
                        self.classes[module, statement.lineno] = of
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    self.defined[module, statement.lineno] = of if name == "__init__" else name
                case ast.ClassDef(name=name):
                    self._define(module, statement, name)


def _names_in(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement itself reads; not those of the statements inside it."""
    ahead: list[ast.AST] = [statement]
    while ahead:
        node = ahead.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name
        ahead.extend(
            each
            for field, value in ast.iter_fields(node)
            if field not in {"annotation", "returns"}
            for each in (value if isinstance(value, list) else [value])
            if isinstance(each, ast.AST) and not isinstance(each, ast.stmt)
        )
