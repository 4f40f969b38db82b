"""Which statements a test runs: each statement of a module notes its line first. No I/O."""

import ast
from typing import Final

NAME: Final = "__hits__"
"""The variable in the module that takes the notes: a bytearray with a place for each line."""


def build_noting(source: str) -> ast.Module:
    """Return the module's program, in which each statement notes its line before it runs."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list) and statements and isinstance(statements[0], ast.stmt):
                setattr(node, field, _noting(statements))
    return ast.fix_missing_locations(tree)


def _noting(statements: list[ast.stmt]) -> list[ast.stmt]:
    noting: list[ast.stmt] = []
    for statement in statements:
        if not _is_text(statement):
            noting.append(ast.copy_location(_note(statement.lineno), statement))
        noting.append(statement)
    return noting


def _is_text(statement: ast.stmt) -> bool:
    """Return whether it is a docstring, which has to stay first."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _note(line: int) -> ast.stmt:
    place = ast.Subscript(ast.Name(NAME, ast.Load()), ast.Constant(line), ast.Store())
    return ast.Assign([place], ast.Constant(1))


def take(notes: bytearray) -> list[int]:
    """Return the lines that were noted, and forget them."""
    lines = []
    at = notes.find(1)
    while at >= 0:
        lines.append(at)
        at = notes.find(1, at + 1)
    notes[:] = bytes(len(notes))
    return lines
