"""Compiles calls of methods, such as `date('2006-01-02').Year()`."""

from __future__ import annotations

from typing import Any

from corepy.corefile import suggest
from corepy.expr import syntax as s
from corepy.expr.calls import CallCompiler
from corepy.expr.expr_environment import Compiled
from corepy.expr.expr_values import kind_name, kind_of
from corepy.expr.frame import ExpressionError, Frame, LeftOutError
from corepy.expr.time_methods import METHODS
from corepy.expr.value_types import ANY, Kind, Type


class MethodCompiler(CallCompiler):
    """The part of the compiler for methods."""

    def method_call(self, node: s.MethodCall) -> Compiled:
        """Compile a call of a method."""
        parts = [node.target, *node.arguments]
        compiled = [self.compile(each) for each in parts]
        target, *arguments = compiled
        methods = METHODS.get(node.name, {})
        method = methods.get(target.type.kind)
        if method is None and (target.type.kind is not Kind.ANY or not methods):
            raise _missing(node, target.type)
        known = method or next(iter(methods.values()))
        offsets = [each.offset for each in parts]
        type_ = known.type_for(compiled, offsets, node.offset, known.usage_as_method)
        if method is None and len(methods) > 1:
            type_ = ANY
        calls = {kind: each.call for kind, each in methods.items()}
        run, runs = target.run, [each.run for each in arguments]
        name, is_optional = node.name, node.is_optional

        def evaluate(frame: Frame) -> Any:
            value = run(frame)
            call = calls.get(kind_of(value))
            if call is not None:
                return call(frame, value, *[each(frame) for each in runs])
            if value is None and is_optional:
                raise LeftOutError
            raise ExpressionError(f"{kind_name(value)} has no method {name!r}")

        return self.folded(Compiled(type_, evaluate), compiled, node.offset)


def _missing(node: s.MethodCall, type_: Type) -> s.ExpressionProblem:
    name = node.name
    known = [each for each, methods in METHODS.items() if type_.kind in methods]
    near = suggest(name, known or METHODS)
    if known or type_.kind is Kind.ANY:
        hint = f"did you mean {near!r}?" if near else None
    else:
        hint = f"functions are called without a value before them: {name}(...)"
    shown = "no value has a" if type_.kind is Kind.ANY else f"a value of the type {type_} has no"
    return s.ExpressionProblem(f"{shown} method {name!r}", node.offset, hint)
