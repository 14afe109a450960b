"""The tree of an expression: numbers, names and operations."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Num:
    value: Fraction


@dataclass(frozen=True, slots=True)
class Sym:
    """A variable, a constant or an opaque name. Two are equal when their names are."""

    name: str


@dataclass(frozen=True, slots=True)
class Op:
    """An operation: + * pow neg inv frac pm mp fact fact2 abs floor ceil root binom, or a
    function."""

    name: str
    args: tuple[Node, ...]


Node = Num | Sym | Op


def operations(node: Node) -> frozenset[str]:
    """The names of all operations in the tree."""
    if not isinstance(node, Op):
        return frozenset()
    return frozenset((node.name,)).union(*map(operations, node.args))


def variables(node: Node) -> frozenset[str]:
    """The names of all symbols in the tree."""
    if isinstance(node, Sym):
        return frozenset((node.name,))
    return frozenset().union(*map(variables, node.args)) if isinstance(node, Op) else frozenset()
