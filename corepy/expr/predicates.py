"""Compiles the functions that apply a predicate to the elements of an array.

The state of a predicate (`#`, `#index`, `#acc`) is in the frame; a nested one restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from corepy.expr import expr_values as v
from corepy.expr import syntax as s
from corepy.expr.array_functions import sorted_by
from corepy.expr.compiling import Compilation
from corepy.expr.expr_environment import Compiled
from corepy.expr.frame import Evaluate, ExpressionError, Frame
from corepy.expr.logic_operators import checked_bool
from corepy.expr.operators import add
from corepy.expr.time_values import Duration
from corepy.expr.value_types import ANY, ARRAY, BOOL, FLOAT, INT, Kind, Type, array_of, common


class _Scope(NamedTuple):
    """The pointers of a predicate."""

    element: Type
    others: dict[str, Type]


class Loop(NamedTuple):
    """A predicate with the array whose elements it gets."""

    name: str
    array: Evaluate
    body: Evaluate
    cost: int
    """Steps of one application."""

    is_float: bool = False
    """Whether the predicate returns floats."""

    def applied(self, frame: Frame) -> Iterator[tuple[Any, Any]]:
        """Yield the elements with the results of the predicate."""
        cost, body = self.cost, self.body
        for index, item in enumerate(v.as_array(self.array(frame), self.name)):
            frame.step(cost)
            frame.item, frame.index = item, index
            yield item, body(frame)

    def applied_from_the_end(self, frame: Frame) -> Iterator[tuple[int, Any, Any]]:
        """Yield the indexes and elements with the results of the predicate, the last one first."""
        array = v.as_array(self.array(frame), self.name)
        for index in range(len(array) - 1, -1, -1):
            frame.step(self.cost)
            frame.item, frame.index = array[index], index
            yield index, array[index], self.body(frame)


def _all(loop: Loop, frame: Frame) -> bool:
    return all(verdict for _, verdict in loop.applied(frame))


def _none(loop: Loop, frame: Frame) -> bool:
    return not any(verdict for _, verdict in loop.applied(frame))


def _any(loop: Loop, frame: Frame) -> bool:
    return any(verdict for _, verdict in loop.applied(frame))


def _one(loop: Loop, frame: Frame) -> bool:
    return _count(loop, frame) == 1


def _count(loop: Loop, frame: Frame) -> int:
    return sum(1 for _, verdict in loop.applied(frame) if verdict)


def _filter(loop: Loop, frame: Frame) -> list[Any]:
    found = [item for item, verdict in loop.applied(frame) if verdict]
    frame.take(len(found))
    return found


def _map(loop: Loop, frame: Frame) -> list[Any]:
    found = []
    for _, value in loop.applied(frame):
        frame.take(1)
        found.append(value)
    return found


def _find(loop: Loop, frame: Frame) -> Any:
    return next((item for item, verdict in loop.applied(frame) if verdict), None)


def _find_index(loop: Loop, frame: Frame) -> int | None:
    verdicts = enumerate(verdict for _, verdict in loop.applied(frame))
    return next((index for index, verdict in verdicts if verdict), None)


def _find_last(loop: Loop, frame: Frame) -> Any:
    found = loop.applied_from_the_end(frame)
    return next((item for _, item, verdict in found if verdict), None)


def _find_last_index(loop: Loop, frame: Frame) -> int | None:
    found = loop.applied_from_the_end(frame)
    return next((index for index, _, verdict in found if verdict), None)


def _sum(loop: Loop, frame: Frame) -> Any:
    total: Any = 0.0 if loop.is_float else 0
    for index, (_, value) in enumerate(loop.applied(frame)):
        is_first_duration = not index and type(value) is Duration
        total = value if is_first_duration else add(frame, value, total)
    return total


def _group(loop: Loop, frame: Frame) -> dict[object, list[Any]]:
    groups: dict[object, list[Any]] = {}
    for item, key in loop.applied(frame):
        frame.take(1)
        groups.setdefault(v.key_for(key), []).append(item)
    return groups


_VERDICTS: Final = frozenset((
    "all", "none", "any", "one", "filter", "count", "find", "findIndex", "findLast",
    "findLastIndex",
))  # fmt: skip
"""The functions whose predicates return a bool."""

_OPERATIONS: Final[dict[str, Callable[[Loop, Frame], Any]]] = {
    "all": _all,
    "none": _none,
    "any": _any,
    "one": _one,
    "count": _count,
    "filter": _filter,
    "map": _map,
    "find": _find,
    "findIndex": _find_index,
    "findLast": _find_last,
    "findLastIndex": _find_last_index,
    "sum": _sum,
    "groupBy": _group,
}


def _result(name: str, array: Type, body: Type) -> Type:
    """Return the type of the result."""
    if name in ("all", "none", "any", "one"):
        return BOOL
    if name in ("count", "findIndex", "findLastIndex"):
        return INT
    if name in ("filter", "sortBy"):
        return array_of(array.elements) if array.kind is Kind.ARRAY else ARRAY
    if name in ("find", "findLast"):
        return array.elements if array.kind is Kind.ARRAY else ANY
    if name == "map":
        return array_of(body)
    if name == "groupBy":
        return Type(Kind.MAP, ARRAY)
    return body if body.is_number else ANY


class PredicateCompiler(Compilation):
    """The part of the compiler for predicates."""

    _scopes: tuple[_Scope, ...] = ()

    def pointer(self, node: s.Pointer) -> Compiled:
        """Compile `#`, `#index` or `#acc`."""
        if not self._scopes:
            raise s.ExpressionProblem(
                f"#{node.name} is outside of a predicate",
                node.offset,
                "a predicate is an argument of filter, any, all and the like",
            )
        scope = self._scopes[-1]
        if not node.name:
            return Compiled(scope.element, lambda frame: frame.item)
        type_ = scope.others.get(node.name)
        if type_ is None:
            known = ", ".join(f"#{name}" for name in ("", *scope.others))
            raise s.ExpressionProblem(
                f"unknown pointer #{node.name}", node.offset, f"here are: {known}"
            )
        if node.name == "index":
            return Compiled(type_, lambda frame: frame.index)
        return Compiled(type_, lambda frame: frame.accumulator)

    def predicate_call(self, node: s.PredicateCall) -> Compiled:
        """Compile a function with a predicate."""
        self.is_stateless = False
        array = self.compile(node.array)
        if not array.type.may_be(Kind.ARRAY):
            raise s.ExpressionProblem(
                f"{node.name} needs an array, not {array.type}", node.array.offset
            )
        body, cost = self._body(node, array.type)
        result = _result(node.name, array.type, body.type)
        loop = Loop(node.name, array.run, body.run, cost, body.type is FLOAT)
        if node.name == "reduce":
            first = None if node.last is None else self.compile(node.last)
            evaluate = _reduction(loop, first)
            result = common(body.type, array.type.elements if first is None else first.type)
        elif node.name == "sortBy":
            evaluate = self._sorting(loop, node)
        else:
            evaluate = _evaluation(loop, _OPERATIONS[node.name])
        if self._scopes:
            evaluate = _nested(evaluate)
        return Compiled(result, evaluate)

    def _body(self, node: s.PredicateCall, array: Type) -> tuple[Compiled, int]:
        """Return the compiled predicate and the steps of one application."""
        others = {
            "map": {"index": INT},
            "reduce": {"index": INT, "acc": ANY},
        }.get(node.name, {})
        predicate = node.predicate or s.Pointer(node.array.offset, "")
        before, scopes = self.nodes, self._scopes
        self._scopes = (*scopes, _Scope(array.elements, others))
        body = self.compile(predicate)
        self._scopes = scopes
        if body.type.kind is Kind.NIL:
            raise s.ExpressionProblem("the predicate has no value but nil", predicate.offset)
        if node.name in _VERDICTS:
            if not body.type.may_be(Kind.BOOL):
                raise s.ExpressionProblem(
                    f"the predicate of {node.name} is a bool, not {body.type}", predicate.offset
                )
            if body.type is not BOOL:
                body = body._replace(run=checked_bool(body.run))
        return body, self.nodes - before + 1

    def _sorting(self, loop: Loop, node: s.PredicateCall) -> Evaluate:
        order = None if node.last is None else self.compile(node.last)
        if node.last is not None and order is not None and not order.type.may_be(Kind.STRING):
            raise s.ExpressionProblem(
                f"the order of sortBy is a string, not {order.type}", node.last.offset
            )

        def evaluate(frame: Frame) -> list[Any]:
            direction = "asc" if order is None else order.run(frame)
            pairs = list(loop.applied(frame))
            frame.take(len(pairs))
            return sorted_by(
                frame, [item for item, _ in pairs], [key for _, key in pairs], direction
            )

        return evaluate


def _reduction(loop: Loop, first: Compiled | None) -> Evaluate:
    """Return the evaluation of `reduce`, without `first` from the first element on."""
    initial = None if first is None else first.run

    def evaluate(frame: Frame) -> Any:
        array = v.as_array(loop.array(frame), loop.name)
        start = 0
        if initial is not None:
            frame.accumulator = initial(frame)
        elif not len(array):
            raise ExpressionError("reduce of an empty array needs an initial value")
        else:
            frame.accumulator, start = array[0], 1
        for index in range(start, len(array)):
            frame.step(loop.cost)
            frame.item, frame.index = array[index], index
            frame.accumulator = loop.body(frame)
        return frame.accumulator

    return evaluate


def _evaluation(loop: Loop, operation: Callable[[Loop, Frame], Any]) -> Evaluate:
    return lambda frame: operation(loop, frame)


def _nested(evaluate: Evaluate) -> Evaluate:
    """Return a loop inside of a predicate, which restores the pointers of that predicate."""

    def nested(frame: Frame) -> Any:
        outer = frame.item, frame.index, getattr(frame, "accumulator", None)
        value = evaluate(frame)
        frame.item, frame.index, frame.accumulator = outer
        return value

    return nested
