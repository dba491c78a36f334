"""Compiles the syntax tree of an expression to closures, and checks its types on the way.

As in expr-lang (checker/checker.go), a value whose type is not known before the expression runs
fits everywhere, and a wrong type is an error when it occurs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from corepy.expr import expr_values as v
from corepy.expr import syntax as s
from corepy.expr.comparisons import pointless
from corepy.expr.expr_environment import Compiled
from corepy.expr.frame import Frame, LeftOutError
from corepy.expr.logic_operators import all_of, any_of, checked_bool, coalesce
from corepy.expr.members import cut, fetch
from corepy.expr.method_calls import MethodCompiler
from corepy.expr.operators import binary, unary
from corepy.expr.predicates import PredicateCompiler
from corepy.expr.searching import in_range, is_in, matches
from corepy.expr.time_methods import METHODS
from corepy.expr.value_types import (
    ANY,
    ARRAY,
    BOOL,
    INTS,
    Kind,
    Type,
    array_of,
    common,
    type_of,
)  # fmt: skip

_FOLDED_RANGE: Final = 100_000
"""Elements of a range that is computed when the expression is compiled."""

_MAP: Final = Type(Kind.MAP, None, has_string_keys=True)


class Compiler(MethodCompiler, PredicateCompiler):
    """Compiles one expression."""

    def _build(self, node: s.Node) -> Compiled:
        return self._BUILDERS[type(node)](self, node)

    def _literal(self, node: s.Literal) -> Compiled:
        value = node.value
        is_short = type(value) is not str or len(value) <= v.SHORT
        return Compiled(type_of(value), lambda frame: value, value, is_short)

    def _name(self, node: s.Name) -> Compiled:
        local = self.local(node.name)
        if local is not None:
            type_, slot = local
            return Compiled(type_, lambda frame: frame.variables[slot])
        variable = self.environment.variables.get(node.name)
        if variable is None:
            raise self.unknown_name(node.name, node.offset)
        name = node.name
        self.depend(variable.depends)
        self.is_about_question = self.is_about_question and variable.is_about_question
        return Compiled(variable.type, lambda frame: frame.names[name])

    def _unary(self, node: s.Unary) -> Compiled:
        operand = self.compile(node.operand)
        with self.at(node.offset):
            return unary(node.operator, operand)

    def _binary(self, node: s.Binary) -> Compiled:
        if node.operator in ("and", "or"):
            parts = [self.compile(each) for each in s.operands(node, node.operator)]
            with self.at(node.offset):
                return all_of(parts) if node.operator == "and" else any_of(parts)
        if node.operator == "in":
            return self._in(node)
        left, right = self.compile(node.left), self.compile(node.right)
        self.warnings += pointless(node, left, right)
        with self.at(node.offset):
            if node.operator == "??":
                return coalesce(left, right)
            if node.operator != "matches":
                compiled = binary(node.operator, left, right)
                return _folded_range(left, right) or compiled if compiled.type is INTS else compiled
        try:
            with self.at(node.offset):
                return matches(left, right)
        except ValueError as error:
            hint = "RE2 syntax, as in Go: no back references and no look-around"
            raise s.ExpressionProblem(str(error), node.right.offset, hint) from None

    def _in(self, node: s.Binary) -> Compiled:
        left = self.compile(node.left)
        if isinstance(node.right, s.Binary) and node.right.operator == "..":
            first, last = self.compile(node.right.left), self.compile(node.right.right)
            run = in_range(left, first, last)
            if run is not None:
                return Compiled(BOOL, run)
        right = self.compile(node.right)
        self.warnings += pointless(node, left, right)
        with self.at(node.offset):
            return is_in(left, right)

    def _chain(self, node: s.Chain) -> Compiled:
        body = self.compile(node.body)
        run = body.run

        def evaluate(frame: Frame) -> Any:
            try:
                return run(frame)
            except LeftOutError:
                return None

        return Compiled(body.type, evaluate)

    def _member(self, node: s.Member) -> Compiled:
        target, key = self.compile(node.target), self.compile(node.key)
        name = key.value if type(key.value) is str else None
        result = self._type_of_member(node, target.type, key.type, name)
        run, key_run, is_optional = target.run, key.run, node.is_optional

        def evaluate(frame: Frame) -> Any:
            value = run(frame)
            if value is None and is_optional:
                raise LeftOutError
            return fetch(value, key_run(frame))

        return Compiled(result, evaluate)

    def _type_of_member(self, node: s.Member, target: Type, key: Type, name: str | None) -> Type:
        """Return the type of `target[key]`; raises ExpressionProblem."""
        if target.kind is Kind.ANY:
            return ANY
        if target.kind is Kind.MAP:
            if not target.has_string_keys or key.may_be(Kind.STRING):
                return target.elements
            raise s.ExpressionProblem(f"the keys of the map are strings, not {key}", node.offset)
        if target.kind is Kind.ARRAY:
            if key.may_be(Kind.INT):
                return target.elements
            raise s.ExpressionProblem(
                f"an element of an array has an int as its index, not {key}", node.offset
            )
        missing = f"field {name!r}" if name is not None else "elements"
        raise s.ExpressionProblem(
            f"a value of the type {target} has no {missing}", node.offset, _hint(target, name)
        )

    def _slice(self, node: s.Slice) -> Compiled:
        target = self.compile(node.target)
        if not target.type.may_be(Kind.ARRAY, Kind.STRING):
            raise s.ExpressionProblem(
                f"a value of the type {target.type} has no parts", node.offset
            )
        ends = [None if end is None else self._bound(end) for end in (node.first, node.last)]
        first, last = ends
        run = target.run

        def evaluate(frame: Frame) -> Any:
            value = run(frame)
            start = 0 if first is None else v.as_int(first.run(frame), "a slice")
            end = None if last is None else v.as_int(last.run(frame), "a slice")
            return cut(frame, value, start, end)

        return Compiled(target.type, evaluate, is_short=target.is_short)

    def _bound(self, node: s.Node) -> Compiled:
        bound = self.compile(node)
        if not bound.type.may_be(Kind.INT):
            raise s.ExpressionProblem(f"a slice needs an int, not {bound.type}", node.offset)
        return bound

    def _let(self, node: s.Let) -> Compiled:
        value = self.compile(node.value)
        with self.declared(node.name, value.type, node.offset) as slot:
            body = self.compile(node.body)
        store, run = value.run, body.run

        def evaluate(frame: Frame) -> Any:
            frame.variables[slot] = store(frame)
            return run(frame)

        return Compiled(body.type, evaluate)

    def _sequence(self, node: s.Sequence) -> Compiled:
        parts = [self.compile(each) for each in node.parts]
        runs, last = [each.run for each in parts[:-1]], parts[-1].run

        def evaluate(frame: Frame) -> Any:
            for run in runs:
                run(frame)
            return last(frame)

        return Compiled(parts[-1].type, evaluate)

    def _conditional(self, node: s.Conditional) -> Compiled:
        condition = self.compile(node.condition)
        if not condition.type.may_be(Kind.BOOL):
            raise s.ExpressionProblem(
                f"the condition is not a bool, but {condition.type}", node.condition.offset
            )
        then, otherwise = self.compile(node.then), self.compile(node.otherwise)
        test = condition.run if condition.type is BOOL else checked_bool(condition.run)
        one, other = then.run, otherwise.run
        return Compiled(
            common(then.type, otherwise.type),
            lambda frame: one(frame) if test(frame) else other(frame),
            is_short=then.is_short and otherwise.is_short and then.type == otherwise.type,
        )

    def _array(self, node: s.Array) -> Compiled:
        parts = [self.compile(each) for each in node.elements]
        types = {each.type for each in parts}
        type_ = array_of(types.pop()) if len(types) == 1 else ARRAY
        if all(each.is_constant for each in parts):
            values = tuple(each.value for each in parts)
            return Compiled(type_, lambda frame: values, values)
        runs = tuple(each.run for each in parts)

        def evaluate(frame: Frame) -> list[Any]:
            frame.take(len(runs))
            return [run(frame) for run in runs]

        return Compiled(type_, evaluate)

    def _map(self, node: s.Map) -> Compiled:
        pairs = []
        for key_node, value_node in node.pairs:
            key, value = self.compile(key_node), self.compile(value_node)
            if not key.type.may_be(Kind.STRING):
                raise s.ExpressionProblem(
                    f"the keys of a map are strings, not {key.type}", key_node.offset
                )
            pairs.append((key.run, value.run))

        def evaluate(frame: Frame) -> dict[object, Any]:
            frame.take(len(pairs))
            return {v.as_text(key(frame), "a key"): value(frame) for key, value in pairs}

        return Compiled(_MAP, evaluate)

    _BUILDERS: ClassVar[dict[type[s.Node], Callable[[Compiler, Any], Compiled]]] = {
        s.Literal: _literal,
        s.Name: _name,
        s.Pointer: PredicateCompiler.pointer,
        s.Unary: _unary,
        s.Binary: _binary,
        s.Member: _member,
        s.Chain: _chain,
        s.Slice: _slice,
        s.Call: MethodCompiler.call,
        s.MethodCall: MethodCompiler.method_call,
        s.PredicateCall: PredicateCompiler.predicate_call,
        s.Let: _let,
        s.Sequence: _sequence,
        s.Conditional: _conditional,
        s.Array: _array,
        s.Map: _map,
    }


def _hint(target: Type, name: str | None) -> str | None:
    """Return a hint for `target.name` or `target[...]` on a value that has neither."""
    if target.kind is Kind.STRING:
        return f"{target}[0:1] is a part of a string"
    if name is not None and target.kind in METHODS.get(name, {}):
        return f"a method is called: .{name}()"
    return None


def _folded_range(left: Compiled, right: Compiled) -> Compiled | None:
    """Return a constant range, None if an end of it is not constant or it is long."""
    if type(left.value) is not int or type(right.value) is not int:
        return None
    if right.value - left.value > _FOLDED_RANGE:
        return None
    values = range(left.value, right.value + 1)
    return Compiled(INTS, lambda frame: values, values)
