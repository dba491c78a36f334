"""Expressions: any text is refused with a position, or has a value or an error for every query."""

from __future__ import annotations

import pytest

from corepy.expr import (
    ANY,
    Environment,
    ExpressionError,
    ExpressionProblem,
    Function,
    compile_conditions,
    compile_expression,
    query_functions,
)
from corepy.expr.calls import BUILTINS, WITH_PREDICATES
from corepy.expr.time_methods import METHODS
from corepy.testing import make_request
from corepy.testing.fuzzing import Source, briefly

ENVIRONMENT = Environment.of(
    [*query_functions(), Function("anything", (ANY,), ANY, lambda subject, value: value)]
)
ATOMS = (
    "1", "0", "2.5", "9223372036854775807", "1e300", "'a'", "''", "'10.0.0.0/8'", "`x`", "true", "false", "nil",
    "[]", "{}", "[1, 'a', nil]", "{a: 1, b: [2]}", "1..3", "1..100000", "#", "#acc", "#index", ".a", "name()",
    "type()", "client_ip()", "id()", "metadata('a/b')", "x", "name", "'\\u00e9'", "'(a|b)*'", "'{\"a\": [1]}'",
    "date('2023-08-14')", "duration('1h')", "timezone('Europe/Zurich')", "'2006-01-02'", "'MST .000'",
)  # fmt: skip
OPERATORS = (
    "+", "-", "*", "/", "%", "**", "==", "!=", "<", ">=", "&&", "||", "in", "not in", "contains", "startsWith",
    "endsWith", "matches", "??", "..", "?", ":", ";", ",",
)  # fmt: skip
FUNCTIONS = tuple(sorted({*BUILTINS, "incidr", "anything", "nosuch"}))
PREDICATES = tuple(sorted(WITH_PREDICATES))
NAMES_OF_METHODS = tuple(sorted({*METHODS, "nosuch"}))
FORMS = (
    "({})", "!{}", "-{}", "anything({})", "{}[0]", "{}['a']", "{}[1:]", "{}?.a.b", "{{a: {}}}", "[{}, {}]",
    "({} ? {} : {})", "(let x = {}; {})", "if {} {{ {} }} else {{ {} }}", "{} | len()", "{} | filter({})",
    "reduce({}, {}, {})", "map(anything({}), {{{}}})", "{} {} {}", "{} /* {} */", "'{}",
)  # fmt: skip
NAMES = ("a.example.", "www.a.b.c.", "\\000.x.", ".")


def check(data: bytes) -> None:
    source = Source(data)
    text = make(source, 4)
    request = make_request(source.pick(NAMES), source.pick(("A", "TXT")), edns=1232)
    try:
        compiled = compile_expression(text, ENVIRONMENT)
        parts = compile_conditions(text, ENVIRONMENT)
    except ExpressionProblem as problem:
        offset = problem.offset
    else:
        offset = 0
        evaluate(compiled, request)
        for part in parts:
            evaluate(part, request)
    assert 0 <= offset <= len(text)


def evaluate(compiled, request):
    try:
        first = compiled.evaluate(request)
    except ExpressionError as error:
        message = str(error)
    else:
        # The state of an evaluation does not leak into the next one.
        assert repr(compiled.evaluate(request)) == repr(first)
        return
    assert message


def make(source: Source, depth: int) -> str:
    """A text that is mostly an expression."""
    if not depth or source.one_in(4):
        return source.pick(ATOMS)
    kind = source.number(0, 10)
    if kind < 4:
        words = [make(source, depth - 1), source.pick(OPERATORS), make(source, depth - 1)]
        return " ".join(words)
    if kind < 6:
        form = source.pick(FORMS)
        return form.format(*(make(source, depth - 1) for _ in range(4)))
    if kind < 8:
        arguments = ", ".join(make(source, depth - 1) for _ in range(source.number(0, 3)))
        return f"{source.pick(FUNCTIONS)}({arguments})"
    if kind == 10:
        arguments = ", ".join(make(source, depth - 1) for _ in range(source.number(0, 2)))
        return f"{make(source, depth - 1)}.{source.pick(NAMES_OF_METHODS)}({arguments})"
    return f"{source.pick(PREDICATES)}({make(source, depth - 1)}, {make(source, depth - 1)})"


SEEDS = {"nothing": b""}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_expression() -> None:
    briefly(check)
