"""Mutants of a rewrite family: its source with one small change that somebody could have made.

sign        op.Add for op.Sub, op.Div for op.Mul, and the reverse; 1 for -1; a - b for a + b
scale       a result or a number that a rule makes, times 1.01
guard       a `require`, a decline under an `if`, or an `EveryNode` condition is gone
term        one term of a condition is gone
edge        < for <=, > for >=, and the reverse
attribute   the next axis, the reversed permutation
"""

import ast
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

SCALE = 1.01
SCALED = "_scaled_by_mutant"  # what a mutant calls to scale a result
_OPERATORS = {"Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul"}
_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add}
_EDGES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_SHOWN = 110  # characters of source in a mutant's name

Edit = Callable[[], None]
Site = tuple[str, ast.AST, Edit]


@dataclass(frozen=True)
class Mutant:
    """One change: the `number`-th that can be made in the file.

    `starts` is the first line of the code of the function that is changed; None where the change
    is outside of functions, or in one whose results are remembered.
    """

    path: Path
    number: int
    kind: str
    line: int
    function: str
    change: str
    starts: int | None

    @property
    def key(self) -> str:
        """What stays the same when the lines above change."""
        return f"{self.path.stem}.{self.function} | {self.kind} | {self.change}"

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}: {self.kind} in {self.function}: {self.change}"

    def compile(self) -> CodeType:
        """The changed module."""
        tree = ast.parse(self.path.read_text("utf-8"))
        change(tree, self.number)
        return compile(ast.fix_missing_locations(tree), str(self.path), "exec")


def change(tree: ast.Module, number: int) -> None:
    """Make the `number`-th change in a module, in place."""
    _, _, edit = _sites(tree)[number]
    edit()


def mutants_of(path: Path) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    scopes = _scopes(tree)
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for number, (kind, node, edit) in enumerate(_sites(tree)):
        name, starts, statement = scopes[node]
        before = ast.unparse(_head(statement))
        edit()
        after = ast.unparse(_head(statement))
        edit()
        change = _difference(before, after)
        seen[f"{name} {kind} {change}"] += 1
        count = seen[f"{name} {kind} {change}"]
        change += f" (#{count})" if count > 1 else ""
        line = getattr(node, "lineno", statement.lineno)
        found.append(Mutant(path, number, kind, line, name, change, starts))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.number))


def _head(statement: ast.stmt) -> ast.AST:
    """A statement without the statements inside it."""
    if isinstance(statement, ast.If | ast.While):
        return statement.test
    if isinstance(statement, ast.For):
        return statement.iter
    return statement


def _difference(before: str, after: str) -> str:
    """Two texts, without most of what they share at either end."""
    before, after = " ".join(before.split()), " ".join(after.split())
    if max(len(before), len(after)) <= _SHOWN:
        return f"{before} -> {after}"
    same = next(
        i for i, (a, b) in enumerate(zip(before + "\0", after + "\1", strict=False)) if a != b
    )
    start = max(0, same - 30)
    return f"..{before[start : start + 60]}.. -> ..{after[start : start + 60]}.."


Scope = tuple[str, int | None, ast.stmt]


def _scopes(tree: ast.Module) -> dict[ast.AST, Scope]:
    """For each node the function around it, the first line of its code, and the statement."""
    found: dict[ast.AST, Scope] = {}

    def visit(node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.stmt):
            scope = (*scope[:2], node)
        found[node] = scope
        inner = scope
        if isinstance(node, ast.FunctionDef):
            prefix = "" if scope[0] == "<module>" else f"{scope[0]}."
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            remembers = any("cache" in ast.unparse(d) for d in node.decorator_list)
            inner = (prefix + node.name, None if remembers else first, node)
        elif isinstance(node, ast.ClassDef):
            inner = (node.name, None, node)
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child, inner if name == "body" else scope)

    visit(tree, ("<module>", None, ast.Pass(lineno=1)))
    return found


def _sites(tree: ast.Module) -> list[Site]:
    return [site for node in ast.walk(tree) for site in _of(node)]


def _of(node: ast.AST) -> Iterator[Site]:
    """The changes that can be made at one node."""
    yield from _of_operators(node)
    yield from _of_conditions(node)
    yield from _of_guards(node)
    yield from _of_numbers(node)


def _of_operators(node: ast.AST) -> Iterator[Site]:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="op"), attr=name)):
            if name in _OPERATORS:
                yield "sign", node, _setter(node.func, "attr", _OPERATORS[name])
                for at, argument in enumerate(node.args):
                    number = argument.value if isinstance(argument, ast.Constant) else None
                    if type(number) is int and number:
                        scaled = ast.Constant(number * SCALE)
                        yield "scale", node, _setter(node.args, at, scaled)
            for keyword in node.keywords:
                yield from _attributes(keyword)


def _of_conditions(node: ast.AST) -> Iterator[Site]:
    match node:
        case ast.Compare():
            for at, operator in enumerate(node.ops):
                if type(operator) in _EDGES:
                    yield "edge", node, _setter(node.ops, at, _EDGES[type(operator)]())
        case ast.BoolOp(op=ast.And()):
            yield from _terms(node, neutral=True)
        case ast.If(test=ast.BoolOp(op=ast.Or()) as test, body=[ast.Expr() as only], orelse=[]):
            if _declines(only):
                yield from _terms(test, neutral=False)


def _of_guards(node: ast.AST) -> Iterator[Site]:
    match node:
        case ast.Call(func=ast.Name(id="EveryNode"), args=[ast.Name(), *_]):
            always = ast.parse("lambda node: True", mode="eval").body
            yield "guard", node, _setter(node.args, 0, always)
        case ast.Expr(value=ast.Call(func=ast.Name(id="require" | "store_once"))):
            yield "guard", node, _setter(node, "value", ast.Constant(...))
        case ast.If(body=[only], orelse=[]) if _declines(only):
            yield "guard", node, _setter(node, "test", ast.Constant(False))


def _of_numbers(node: ast.AST) -> Iterator[Site]:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            yield "sign", node, _setter(node, "op", ast.UAdd())
        case ast.BinOp() if type(node.op) in _ARITHMETIC and not _is_sequence(node):
            yield "sign", node, _setter(node, "op", _ARITHMETIC[type(node.op)]())
        case ast.Constant(value=float() as number) if number and math.isfinite(number):
            yield "scale", node, _setter(node, "value", number * SCALE)
        case ast.FunctionDef() if any(map(_is_rule, node.decorator_list)):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    scaled = ast.Call(_name(SCALED), [_name("op"), inner.value], [])
                    yield "scale", inner, _setter(inner, "value", scaled)


def _attributes(keyword: ast.keyword) -> Iterator[Site]:
    if keyword.arg == "axis":
        following = ast.BinOp(keyword.value, ast.Add(), ast.Constant(1))
        yield "attribute", keyword, _setter(keyword, "value", following)
    if keyword.arg == "perm":
        listed = ast.Call(_name("list"), [keyword.value], [])
        backwards = ast.Subscript(listed, ast.Slice(step=ast.Constant(-1)), ast.Load())
        yield "attribute", keyword, _setter(keyword, "value", backwards)


def _declines(statement: ast.stmt) -> bool:
    """Whether a statement leaves a rule, or the search of one, without an answer."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id="decline"))) | ast.Continue():
            return True
        case ast.Return(value=None | ast.Constant(value=None | False)):
            return True
    return False


def _is_rule(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "rule"


def _is_sequence(node: ast.BinOp) -> bool:
    """Whether a sum puts lists or texts together, so that there is no difference."""
    kinds = (ast.List, ast.Tuple, ast.JoinedStr, ast.ListComp)
    parts = [inner for inner in ast.walk(node) if isinstance(inner, ast.expr)]
    return any(
        isinstance(part, kinds) or (isinstance(part, ast.Constant) and isinstance(part.value, str))
        for part in (node.left, node.right, *(p for p in parts if isinstance(p, ast.List)))
    )


def _terms(node: ast.BoolOp, *, neutral: bool) -> Iterator[Site]:
    for at, term in enumerate(node.values):
        if not _is_for_types(term):
            yield "term", node, _setter(node.values, at, ast.Constant(neutral))


def _is_for_types(term: ast.expr) -> bool:
    """Whether a variable is asked to be there: mypy sees it used where that is not asked."""
    match term:
        case ast.Compare(
            left=ast.Name() | ast.Attribute() | ast.Subscript(),
            ops=[ast.Is() | ast.IsNot()],
            comparators=[ast.Constant(value=None)],
        ):
            return True
    return False


def _name(text: str) -> ast.Name:
    return ast.Name(text, ast.Load())


def _setter(target: Any, place: str | int, value: object) -> Edit:
    """Puts `value` in its place; called again, puts back what was there."""
    waiting = [value]

    def swap() -> None:
        if isinstance(target, list):
            target[place], waiting[0] = waiting[0], target[place]
        else:
            there = getattr(target, str(place))
            setattr(target, str(place), waiting[0])
            waiting[0] = there

    return swap
