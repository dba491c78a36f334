"""No expression hangs, takes unlimited memory, or raises anything but its own error.

By hand, with more texts than each test run tries (ten minutes of one CPU):

    COREPY_EXPR_EXAMPLES=100000 .venv/bin/python -m pytest tests/test_expr_limits.py -k 'any_text or any_query or grammar'

`make fuzz SECONDS=3600 TARGETS=expressions` is guided by the code that a text reaches.
"""

import gc
import os
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from corepy.expr.expr_values import kind_name
from corepy.expr.frame import MOST_MEMORY, MOST_STEPS, MOST_TEXT
from corepy.expr.time_methods import METHODS
from corepy.testing import make_request

EXAMPLES = int(os.environ.get("COREPY_EXPR_EXAMPLES", "200"))
ENVIRONMENT = Environment.of(
    [*query_functions(), Function("anything", (ANY,), ANY, lambda subject, value: value)]
)
REQUEST = make_request("www.example.org.", "AAAA", peer=("2001:db8::7", 4000))

BOMBS = [
    "let a = repeat('x', 1000); reduce(1..100000, #acc + a, '')",
    "reduce(1..60, #acc + #acc, 'x')",
    "reduce(1..60, concat(#acc, #acc), [1])",
    "reduce(1..60, [#acc, #acc], [1]) | flatten()",
    "reduce(1..60, {{a: #acc, b: #acc}}, 1) | toJSON()",
    "reduce(1..60, {{a: #acc, b: #acc}}, 1) | string()",
    "reduce(1..60, [#acc, #acc], [1]) == reduce(1..60, [#acc, #acc], [1])",
    "max(reduce(1..60, [#acc, #acc], [1]))",
    "reduce(1..60, replace(#acc, '', #acc), 'ab')",
    "reduce(1..60, join([#acc, #acc], #acc), 'ab')",
    "all(1..100000, all(1..100000, all(1..100000, true)))",
    "any(1..9223372036854775807, false)",
    "map(1..99999, map(1..99999, #))",
    "len(1..9223372036854775807)",
    "(0 - 9223372036854775807)..9223372036854775807",
    "repeat(repeat('a', 1000), 1000)",
    "repeat('a', 999999)",
    "sort(map(1..90000, string(#)))",
    "sortBy(1..90000, -#)",
    "uniq(1..90000)",
    "map(1..90000, # in map(1..900, #))",
    "any(1..90000, name() matches string(#))",
    "let t = repeat('ab', 30000); any(1..90000, t contains string(#))",
    "let t = repeat('ab', 30000); any(1..90000, t matches '(a|b)*c')",
    "let t = repeat('ab', 30000); any(1..90000, indexOf(t, 'c') > 0)",
    "let t = repeat('ab', 30000); any(1..90000, len(split(t, 'a')) < 0)",
    "let t = repeat('ab', 30000); any(1..90000, upper(t) == lower(t))",
    "bitshl(1, 9223372036854775807) + bitshr(1, 9223372036854775807) == 1 || len(1..999999999) > 1",
    "let deep = reduce(1..5000, [#acc], 1); string(deep)",
    "let deep = reduce(1..5000, [#acc], 1); deep == reduce(1..5000, [#acc], 1)",
    "let deep = reduce(1..5000, [#acc], 1); flatten(deep)",
    "let deep = reduce(1..5000, [#acc], 1); toJSON(deep)",
    "let t = repeat('a', 60000); string(map(1..900, t))",
    "let t = repeat('a', 60000); string({a: map(1..900, t)})",
    "let t = repeat('a', 60000); toJSON(map(1..900, t))",
    "let t = repeat('\u00e9', 60000); sort(map(1..900, t))",
    "let t = repeat('\u00e9', 60000); all(1..9000, t[1:2] != '')",
    "let t = repeat('\u00e9', 60000); all(1..9000, t <= t)",
    "let t = repeat('9', 60000); all(1..9000, float(t) > 1)",
    "trim(repeat('a', 60000), repeat('b', 60000) + 'a')",
    "lastIndexOf(repeat('a', 60000), 'b' + repeat('a', 30000))",
    "concat(1..90000, 1..90000, 1..90000, 1..90000)",
    "sort(1..240000)",
    "'x' matches repeat('(a{99}){99}', 40)",
    "let p = repeat('a{1000}', 300); 'x' matches p",
    "let p = repeat('((a{9}){9}){9}', 99); 'x' matches p",
    "let p = repeat('[[:^alpha:]]', 800) + '{40}'; 'x' matches p",
    "let t = repeat('ab', 30000); t matches '(a|b)*a(a|b){900}'",
    "let t = repeat('ab', 30000); anything(t) matches '(a|b)*a(a|b){900}'",
    "let a = repeat('x', 60000); let b = repeat('xx', 30000); all(1..9000, a == b)",
    "let a = repeat('x', 60000); let b = repeat('xx', 30000); all(1..9000, [a] == [b])",
    "let a = repeat('x', 60000); let b = repeat('xx', 30000); all(1..9000, a in ['', b])",
    "let a = repeat('x', 60000); let b = repeat('xx', 30000); all(1..9000, hasPrefix(a, b))",
    "let a = repeat('x', 60000); let b = repeat('xx', 30000); all(1..9000, hasSuffix(a, b))",
    "let a = repeat('x', 60000); let b = a + 'y'; sort(map(1..900, # % 2 == 0 ? a : b))",
    f"all(1..9000, not ('{'x' * 40_000}' contains '{'y' * 20_000}'))",
    f"all(1..9000, '{'x' * 30_000}' == '{'x' * 30_000}')",
    "let p = repeat('a?', 400) + repeat('a', 400); all(1..9999, repeat('a', 400) matches p)",
    "let l = repeat('Monday ', 9000); all(1..9000, date('2023-08-14').Format(l) != '')",
    "date('GMT+23', 'MST').Format(repeat('MST', 20000))",
    "date('2023-08-14').Format(repeat('1', 65000))",
    "let l = repeat('2006', 16000); all(1..9000, date(l, l).Year() == 2006)",
    "let l = '.' + repeat('9', 60000); all(1..9000, date(l, l).Nanosecond() > 0)",
    "let t = repeat(' ', 60000); all(1..9000, date('2023' + t, '2006' + t).Year() == 2023)",
    "date(repeat('9', 60000))",
    "duration(repeat('1h', 30000))",
    "let t = repeat('1h', 1000); all(1..9000, duration(t).Hours() == 1000)",
    "all(1..9000, date('20' + '23', '2006', 'Europe/Zurich').Year() == 2023)",
    "all(1..9000, date('20' + '23 XYZ', '2006 MST', 'Europe/Zurich').Year() == 2023)",
    "all(1..9000, timezone('Etc/GMT+' + string(# % 12 + 1)) != timezone('UTC'))",
    "reduce(1..20000, #acc.Add(duration('2540400h')), date('9999-12-31')).Year()",
    "reduce(1..9000, #acc.AddDate(1000000, 0, 0), date('9999-12-31')).Year()",
    "let d = date('2023-08-14'); string(map(1..9000, d))",
    "let d = date('2023-08-14'); map(1..9000, d) | toJSON()",
]


def steps_of(action):
    """The calls of Python and C functions that an action makes."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture
def _no_finalizers():
    """Finalizers of garbage that other tests have left fail at the end of the stack."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_finalizers")
@pytest.mark.parametrize("text", BOMBS)
def test_an_expression_that_would_take_too_long_ends(text):
    compiled = compile_expression(text, ENVIRONMENT)

    def evaluate():
        with pytest.raises(ExpressionError):
            compiled.evaluate(REQUEST)

    assert steps_of(evaluate) < 20 * MOST_STEPS


@pytest.mark.usefixtures("_no_finalizers")
@pytest.mark.parametrize("text", BOMBS)
def test_an_expression_that_would_take_much_memory_ends(text):
    compiled = compile_expression(text, ENVIRONMENT)
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError):
            compiled.evaluate(REQUEST)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000


def test_the_limits_are_named():
    for text, words in (
        ("all(1..100000, true)", f"more than {MOST_STEPS} steps"),
        ("repeat('a', 65537)", f"longer than {MOST_TEXT} characters"),
        ("len(1..250001)", f"more than {MOST_MEMORY} elements and characters"),
    ):
        with pytest.raises(ExpressionError, match=words):
            compile_expression(text, ENVIRONMENT).evaluate(REQUEST)


def test_work_within_the_limits():
    assert compile_expression("all(1..10000, # > 0)", ENVIRONMENT).evaluate(REQUEST) is True
    assert len(compile_expression("repeat('a', 65536)", ENVIRONMENT).evaluate(REQUEST)) == 65536
    for _ in range(3):  # each evaluation has limits of its own
        assert compile_expression("len(1..200000)", ENVIRONMENT).evaluate(REQUEST) == 200000


def test_a_function_of_the_environment_that_fails():
    def fail(subject):
        raise KeyError("broken")

    environment = Environment.of([Function("broken", (), ANY, fail)])
    with pytest.raises(ExpressionError, match="KeyError: 'broken'"):
        compile_expression("broken()", environment).evaluate(None)


def test_an_expression_within_itself():
    """A function may come back to the expression that calls it, such as a provider of metadata."""
    inner = []

    def ask(subject, number):
        if number:
            inner.append(compiled.evaluate(number - 1))
        return number

    environment = Environment.of(
        [
            Function("ask", (ANY,), ANY, ask),
            Function("subject", (), ANY, lambda subject: subject),
        ]
    )
    compiled = compile_expression("[ask(subject()), subject()]", environment)
    assert compiled.evaluate(3) == [3, 3]
    assert inner == [[0, 0], [1, 1], [2, 2]]
    assert compiled.evaluate(0) == [0, 0]


# -- texts that hypothesis makes

ATOMS = st.sampled_from([
    "1", "0", "-1", "2.5", "9223372036854775807", "1e300", "'a'", "''", "'.'", "'10.0.0.0/8'", "`x`",
    "true", "false", "nil", "[]", "{}", "[1, 'a', nil]", "{a: 1, b: [2]}", "1..3", "#", "#acc", ".a",
    "#index", "name()", "type()", "client_ip()", "id()", "do()", "metadata('a/b')", "x", "a",
    "date('2023-08-14')", "duration('2540400h')", "timezone('Europe/Zurich')", "'2006-01-02'", "'1h'",
])  # fmt: skip
OPERATORS = st.sampled_from([
    "+", "-", "*", "/", "%", "**", "==", "!=", "<", "<=", "&&", "||", "and", "or", "in", "not in",
    "contains", "startsWith", "endsWith", "matches", "??", "..",
])  # fmt: skip
NAMES = sorted({*BUILTINS, *WITH_PREDICATES, "incidr", "anything"})


def compound(inner):
    return st.one_of(
        st.tuples(inner, OPERATORS, inner).map(" ".join),
        inner.map("({})".format),
        inner.map("!{}".format),
        inner.map("-{}".format),
        inner.map("anything({})".format),
        st.tuples(inner, inner, inner).map(lambda it: "({} ? {} : {})".format(*it)),
        st.tuples(inner, inner).map(lambda it: "[{}, {}]".format(*it)),
        st.tuples(inner, inner).map(lambda it: "{}[{}]".format(*it)),
        st.tuples(inner, inner).map(lambda it: "{}[{}:]".format(*it)),
        inner.map("{}?.a.b".format),
        inner.map("{{a: {}}}".format),
        st.tuples(inner, inner).map(lambda it: "(let x = {}; {})".format(*it)),
        st.tuples(st.sampled_from(NAMES), st.lists(inner, max_size=3)).map(
            lambda it: f"{it[0]}({', '.join(it[1])})"
        ),
        st.tuples(inner, st.sampled_from(NAMES), inner).map(lambda it: "{} | {}({})".format(*it)),
        st.tuples(inner, st.sampled_from(sorted(METHODS)), st.lists(inner, max_size=3)).map(
            lambda it: f"{it[0]}.{it[1]}({', '.join(it[2])})"
        ),
        st.tuples(st.sampled_from(sorted(WITH_PREDICATES)), inner, inner).map(
            lambda it: "{}(anything({}), {{{}}})".format(*it)
        ),
    )


EXPRESSIONS = st.recursive(ATOMS, compound, max_leaves=12)
PIECES = st.lists(
    st.one_of(ATOMS, OPERATORS, st.sampled_from([*NAMES, *"()[]{}?:;,.#|'\"`\\/* \n", "let", "if"])),
    max_size=30,
).map("".join)  # fmt: skip


def check(error, is_placed=True):
    """A message is never empty, and a position is in the text."""
    assert str(error)
    assert is_placed


def try_out(text):
    """Compile and evaluate a text; any exception but the two of the language fails the test."""
    try:
        compiled = compile_expression(text, ENVIRONMENT)
        parts = compile_conditions(text, ENVIRONMENT)
    except ExpressionProblem as problem:
        check(problem, problem.offset in range(len(text) + 1))
        return None
    try:
        value = compiled.evaluate(REQUEST)
    except ExpressionError as error:
        check(error)
        return None
    if len(parts) > 1:
        assert all(part.evaluate(REQUEST) is True for part in parts) is (value is True)
    return compiled, value


@settings(max_examples=EXAMPLES, deadline=None)
@given(EXPRESSIONS)
def test_expressions_that_are_made_of_the_grammar(text):
    found = try_out(text)
    if found is not None:
        compiled, value = found
        kind = kind_name(value)
        assert compiled.type.kind.value in (kind, "any") or value is None
        assert kind != "int" or -(2**63) <= value < 2**63
        assert kind != "duration" or -(2**63) <= value.nanoseconds < 2**63
        assert kind != "date" or abs(value.instant) < 1 << 90


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.one_of(PIECES, st.text(max_size=40)))
def test_any_text(text):
    try_out(text)


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(
    st.sampled_from(
        [
            "name() matches '^w' && incidr(client_ip(), '2001:db8::/32')",
            "any(split(name(), '.'), len(#) > 9) || int(first(split(name(), '.'))) > 3",
            "name() matches name() || type() in split(name(), 'a')",
            "len(repeat(name(), 300)) > 5",
            "all(1..90000, # < 90000)",
        ]
    ),
    st.text(alphabet="abcwx.-_*$", min_size=1, max_size=60),
    st.sampled_from(["A", "AAAA", "TXT"]),
)
def test_any_query(text, name, qtype):
    """The work is limited for every query; the operator's expressions do not change."""
    name = ".".join(label for label in name.split(".") if label)[:60]
    request = make_request(f"{name or 'a'}.", qtype)
    compiled = compile_expression(text, ENVIRONMENT)
    try:
        value = compiled.evaluate(request)
    except ExpressionError as error:
        check(error)
    else:
        assert value in (True, False)
