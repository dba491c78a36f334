"""Builds the syntax tree while lark reads the text: one method for each rule of language.lark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from lark import Token, Transformer

from corepy.expr import syntax as s
from corepy.expr.literals import read_number, read_raw_string, read_string
from corepy.expr.precedence import Operand, Operator, Pipe, fold

_CONSTANTS: Final = {"true": True, "false": False, "nil": None}
_WITHOUT_PREDICATE: Final = frozenset(("count", "sum"))
_WITH_A_THIRD: Final = frozenset(("sortBy", "reduce"))


def _start(token: Token) -> int:
    return token.start_pos or 0


class TreeBuilder(Transformer[Token, s.Node]):
    """Makes a node of each rule; `children` has the tokens and nodes of the rule."""

    def start(self, children: list[s.Node]) -> s.Node:
        """Return the node of the whole text."""
        return children[0]

    def sequence(self, children: list[s.Node]) -> s.Node:
        """Return `a; b`."""
        if len(children) == 1:
            return children[0]
        return s.Sequence(children[0].offset, tuple(children))

    group = sequence

    def let(self, children: list[Any]) -> s.Node:
        """Return `let name = value; body`."""
        _, name, value, body = children
        return s.Let(_start(name), str(name), value, body)

    def if_else(self, children: list[s.Node]) -> s.Node:
        """Return `if condition { then } else { otherwise }`."""
        condition, then, otherwise = children
        return s.Conditional(condition.offset, condition, then, otherwise)

    def conditional(self, children: list[Any]) -> s.Node:
        """Return `condition ? then : otherwise`, or a chain without a question mark."""
        if len(children) == 1:
            node: s.Node = children[0]
            return node
        condition, mark, then, otherwise = children
        return s.Conditional(_start(mark), condition, then, otherwise)

    def elvis(self, children: list[Any]) -> s.Node:
        """Return `condition ?: otherwise`."""
        condition, mark, otherwise = children
        return s.Conditional(_start(mark), condition, condition, otherwise)

    def chain(self, children: list[Any]) -> s.Node:
        """Fold operands and operators."""
        return fold(children)

    def operand(self, children: list[Any]) -> Operand:
        """Return a node with its prefix operators."""
        *prefixes, node = children
        return Operand([Operator(str(each), _start(each)) for each in prefixes], node)

    def operator(self, children: list[Token]) -> Operator:
        """Return an operator between two operands."""
        (token,) = children
        return Operator(str(token), _start(token))

    def number(self, children: list[Token]) -> s.Node:
        """Return a number."""
        offset = _start(children[0])
        return s.Literal(offset, read_number(str(children[0]), offset))

    def constant(self, children: list[Token]) -> s.Node:
        """Return `true`, `false` or `nil`."""
        return s.Literal(_start(children[0]), _CONSTANTS[children[0]])

    def string(self, children: list[Token]) -> s.Node:
        """Return a string in quotes."""
        offset = _start(children[0])
        return s.Literal(offset, read_string(str(children[0]), offset))

    def raw_string(self, children: list[Token]) -> s.Node:
        """Return a string between backticks."""
        return s.Literal(_start(children[0]), read_raw_string(str(children[0])))

    def name(self, children: list[Token]) -> s.Node:
        """Return a variable."""
        return s.Name(_start(children[0]), str(children[0]))

    def pointer(self, children: list[Token]) -> s.Node:
        """Return `#`, `#index` or `#acc`."""
        return s.Pointer(_start(children[0]), str(children[0])[1:])

    def field_of_item(self, children: list[Token]) -> s.Node:
        """Return `#.field` for `.field`."""
        dot, name = children
        key = s.Literal(_start(name), str(name))
        return s.Member(_start(name), s.Pointer(_start(dot), ""), key)

    def arguments(self, children: list[s.Node | None]) -> Sequence[s.Node]:
        """Return the arguments of a call."""
        return tuple(each for each in children if each is not None)

    def call(self, children: list[Any]) -> s.Node:
        """Return `name(arguments)`."""
        name, arguments = children
        return s.Call(_start(name), str(name), tuple(arguments))

    def piped_call(self, children: list[Any]) -> Pipe:
        """Return `| name(arguments)`."""
        name, arguments = children
        offset = _start(name)
        return Pipe(offset, lambda first: s.Call(offset, str(name), (first, *arguments)))

    def predicate_call(self, children: list[Any]) -> s.Node:
        """Return `name(array, predicate)`."""
        name, array, predicate, last = children
        return _predicate_call(name, predicate, last)(array)

    def piped_predicate(self, children: list[Any]) -> Pipe:
        """Return `| name(predicate)`."""
        name, predicate, last = children
        return Pipe(_start(name), _predicate_call(name, predicate, last))

    def block(self, children: list[Any]) -> s.Node:
        """Return `{ predicate }`."""
        node: s.Node = children[1]
        return node

    def bare(self, children: list[s.Node]) -> s.Node:
        """Return a predicate without braces."""
        if isinstance(children[0], s.Map):
            raise s.ExpressionProblem(
                "the braces of a predicate have a map in them",
                children[0].offset,
                "a predicate that returns a map has two pairs of braces: {{key: value}}",
            )
        return children[0]

    def array(self, children: list[Any]) -> s.Node:
        """Return `[a, b]`."""
        bracket, *elements = children
        return s.Array(_start(bracket), tuple(self.arguments(elements)))

    def map(self, children: list[Any]) -> s.Node:
        """Return `{key: value}`."""
        brace, *pairs = children
        return s.Map(_start(brace), tuple(each for each in pairs if each is not None))

    def pair(self, children: list[s.Node]) -> tuple[s.Node, s.Node]:
        """Return `key: value` of a map."""
        key, value = children
        return key, value

    def key(self, children: list[Token]) -> s.Node:
        """Return a key that is a word, a number or a string; all of them become strings."""
        (token,) = children
        if token.type == "STRING":
            return self.string(children)
        if token.type == "RAW_STRING":
            return self.raw_string(children)
        return s.Literal(_start(token), str(token))

    def computed_key(self, children: list[s.Node]) -> s.Node:
        """Return `(expression)` as a key."""
        return children[0]

    def member(self, children: list[Any]) -> s.Node:
        """Return `target.name` or `target?.name`."""
        target, dot, name = children
        key = s.Literal(_start(name), str(name))
        node = s.Member(_start(name), _inner(target), key, dot == "?.")
        return _in_chain(target, node)

    def method(self, children: list[Any]) -> s.Node:
        """Return `target.name(arguments)` or `target?.name(arguments)`."""
        target, dot, name, arguments = children
        node = s.MethodCall(_start(name), _inner(target), str(name), tuple(arguments), dot == "?.")
        return _in_chain(target, node)

    def method_of_item(self, children: list[Any]) -> s.Node:
        """Return `#.name(arguments)` for `.name(arguments)`."""
        dot, name, arguments = children
        item = s.Pointer(_start(dot), "")
        return s.MethodCall(_start(name), item, str(name), tuple(arguments))

    def index(self, children: list[Any]) -> s.Node:
        """Return `target[key]` or `target?.[key]`."""
        target, dot, bracket, key = children
        node: s.Node = s.Member(_start(bracket), target, key, dot is not None)
        return s.Chain(node.offset, node) if dot is not None else node

    def bound(self, children: list[s.Node]) -> s.Node:
        """Return one end of a slice."""
        return children[0]

    def slice(self, children: list[Any]) -> s.Node:
        """Return `target[first:last]`."""
        target, _, bracket, first, last = children
        return s.Slice(_start(bracket), target, first, last)


def _inner(target: s.Node) -> s.Node:
    """Return the target of a member, which is within the chain that its own target begins."""
    return target.body if isinstance(target, s.Chain) else target


def _in_chain(target: s.Node, node: s.Member | s.MethodCall) -> s.Node:
    """Return a member or method of `target`, in a chain if one of the members is optional."""
    if isinstance(target, s.Chain) or node.is_optional:
        return s.Chain(node.offset, node)
    return node


def _predicate_call(
    name: Token, predicate: s.Node | None, last: s.Node | None
) -> Callable[[s.Node], s.Node]:
    """Return a function that makes the call for an array; raises `ExpressionProblem`."""
    if predicate is None and str(name) not in _WITHOUT_PREDICATE:
        raise s.ExpressionProblem(
            f"{name} needs a predicate for the elements of the array",
            _start(name),
            "in a predicate, # is the element, such as # > 1",
        )
    if last is not None and str(name) not in _WITH_A_THIRD:
        shown = "[predicate]" if str(name) in _WITHOUT_PREDICATE else "predicate"
        hint = f"{name}(array, {shown})"
        raise s.ExpressionProblem(f"too many arguments for {name}", last.offset, hint)
    return lambda array: s.PredicateCall(_start(name), str(name), array, predicate, last)
