"""A `multi` grader's formula: arithmetic over its parts' scores, read by Python's parser and nothing of it run."""

import ast
import math
from collections.abc import Callable, Mapping

Number = float | int

LONGEST = 1000
DEEPEST = 500
_LARGEST_EXPONENT = 16

_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: _power(a, b),
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}


class Formula:
    """`+ - * / ^`, numbers, parentheses, names, and min, max, abs, floor, ceil, exp, sqrt, log; `^` is to the power."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for anything else."""
        if len(text) > LONGEST:
            raise ValueError(f"a formula may have {LONGEST} characters at most")
        try:
            tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"{text!r} is no formula") from error
        if _depth(tree) > DEEPEST:
            raise ValueError(f"a formula may be nested {DEEPEST} deep at most")
        self.names = frozenset(_checked(tree))
        self._tree = tree

    def value(self, scores: Mapping[str, float]) -> float | None:
        """The formula's value; None where it has none: a division by 0, the root of a negative number, an overflow."""
        try:
            found = _value(self._tree, scores)
        except (ArithmeticError, ValueError):
            return None
        return float(found) if isinstance(found, int | float) and math.isfinite(found) else None


def _depth(tree: ast.expr) -> int:
    """Found level by level: what follows goes down by calling itself, and must not run out of frames."""
    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return depth


def _checked(node: ast.expr) -> list[str]:
    """The names in an expression. Raises ValueError for a node that is no arithmetic."""
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return []
        case ast.Name():
            return [node.id]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
            return _checked(node.operand)
        case ast.BinOp() if type(node.op) in _BINARY:
            return _checked(node.left) + _checked(node.right)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS and node.args:
            if (len(node.args) > 1) != (name in ("min", "max")):
                raise ValueError(f"{name} has a wrong number of arguments")
            return [found for one in node.args for found in _checked(one)]
    raise ValueError(f"a formula cannot hold {_shown(node)!r}")


def _shown(node: ast.expr) -> str:
    try:
        return ast.unparse(node)[:60]
    except RecursionError:  # it takes several frames a level
        return type(node).__name__


def _value(node: ast.expr, scores: Mapping[str, float]) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name():
            return scores[node.id]
        case ast.UnaryOp():
            value = _value(node.operand, scores)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp():
            return _BINARY[type(node.op)](_value(node.left, scores), _value(node.right, scores))
        case ast.Call(func=ast.Name(id=name)):
            return _FUNCTIONS[name](*(_value(one, scores) for one in node.args))
    raise ValueError("not checked")


def _power(base: Number, exponent: Number) -> Number:
    if abs(exponent) > _LARGEST_EXPONENT or (base < 0 and exponent != int(exponent)):
        raise ValueError("no power that a score needs")
    return float(base) ** exponent
