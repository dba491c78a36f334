"""The syntax tree of an expression, and the error for an invalid one.

Each node has its offset in the text, in characters, for messages.
"""

from __future__ import annotations

from dataclasses import dataclass


class ExpressionProblem(Exception):
    """A text is not a valid expression: the message, the offset of the fault, and a hint."""

    def __init__(self, message: str, offset: int, hint: str | None = None) -> None:
        """`offset` is in characters; it may be the length of the text."""
        super().__init__(message)
        self.offset = offset
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression."""

    offset: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, a string, `true`, `false` or `nil`."""

    value: object


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Pointer(Node):
    """The element of the array that a predicate gets: `#`, `#index` or `#acc`."""

    name: str


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-`, `+` or `not`."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """An operator with two operands."""

    operator: str
    left: Node
    right: Node


def operands(node: Node, operator: str) -> list[Node]:
    """Return the operands of a chain such as `a and b and c`, however long it is."""
    found: list[Node] = []
    while isinstance(node, Binary) and node.operator == operator:
        found.append(node.right)
        node = node.left
    return [node, *reversed(found)]


@dataclass(frozen=True, slots=True)
class Member(Node):
    """`target.key` or `target[key]`; with `is_optional` the rest of the chain may be left out."""

    target: Node
    key: Node
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Members, of which at least one is optional: the result is nil if its target is nil."""

    body: Node


@dataclass(frozen=True, slots=True)
class Slice(Node):
    """`target[first:last]`."""

    target: Node
    first: Node | None
    last: Node | None


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A call of a function."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MethodCall(Node):
    """`target.name(arguments)`; with `is_optional` the rest of the chain may be left out."""

    target: Node
    name: str
    arguments: tuple[Node, ...]
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class PredicateCall(Node):
    """A call of a function that applies a predicate to the elements of an array."""

    name: str
    array: Node
    predicate: Node | None
    last: Node | None
    """The initial value of `reduce`, or the order of `sortBy`."""


@dataclass(frozen=True, slots=True)
class Let(Node):
    """A variable, and the expression in which it is visible."""

    name: str
    value: Node
    body: Node


@dataclass(frozen=True, slots=True)
class Sequence(Node):
    """Expressions, of which the last one is the result."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Conditional(Node):
    """`condition ? then : otherwise`."""

    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Array(Node):
    """An array."""

    elements: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Map(Node):
    """A map: pairs of keys and values."""

    pairs: tuple[tuple[Node, Node], ...]
