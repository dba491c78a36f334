"""The results of operators, with Go's types and limits, and the types that each operator takes."""

import math

import pytest

from corepy.expr import (
    ANY,
    Conditions,
    Environment,
    ExpressionError,
    ExpressionProblem,
    Function,
)
from corepy.expr import compile_expression as compile_
from corepy.expr import plain as plain_value
from corepy.expr import value_types as t
from corepy.plugin import Cacheability

ANYTHING = Function("anything", (t.ANY,), ANY, lambda subject, value: value)
ENVIRONMENT = Environment.of([ANYTHING])
LARGEST, SMALLEST = 2**63 - 1, -(2**63)


def value(text):
    return plain(compile_(text, ENVIRONMENT).evaluate(None))


def plain(found):
    return [plain(each) for each in found] if isinstance(found, tuple | range | list) else found


def kind(text):
    return str(compile_(text, ENVIRONMENT).type)


VALUES = [
    ("7 + 2", 9), ("7 - 9", -2), ("7 * 3", 21), ("7 / 2", 3.5), ("8 / 2", 4.0), ("7 % 4", 3),
    ("-7 % 4", -3), ("7 % -4", 3), ("2 ** 10", 1024.0), ("7 + 0.5", 7.5), ("0.5 - 1", -0.5),
    ("2 * 0.25", 0.5), ("9 ** 0.5", 3.0), ("0 ** -1", math.inf), ("(-8) ** 0.5 == 0", False),
    ("1 / 0", math.inf), ("-1 / 0", -math.inf), ("10.0 ** 400", math.inf),
    ("(-10.0) ** 401", -math.inf), ("(-10.0) ** 400", math.inf), ("1 / (-1 / (1 / 0))", -math.inf),
    (f"{LARGEST} + 1", SMALLEST), (f"-{LARGEST} - 2", LARGEST), (f"{LARGEST} * 2", -2),
    (f"-(-{LARGEST} - 1)", SMALLEST), (f"(-{LARGEST} - 1) % -1", 0),
    ("1 == 1.0", True), ("1 != 1.0", False), ("0.1 + 0.2 == 0.3", False),
    ("9007199254740993 == 9007199254740992.0", True),
    ("9007199254740993 > 9007199254740992.0", False),
    ("'a' < 'b'", True), ("'a' < 'B'", False), ("'\u00e9' > 'z'", True), ("'a' <= 'a'", True),
    ("'b' >= 'a'", True), ("2 >= 2.0", True), ("1.5 <= 1", False), ("'\uffff' < '\U00010000'", True),
    ("'a' + 'b'", "ab"), ("'abc' contains 'b'", True), ("'abc' contains ''", True),
    ("'abc' startsWith 'ab'", True), ("'abc' endsWith 'bc'", True), ("'abc' matches '^.b'", True),
    ("'abc' matches 'B'", False), ("'abc' matches '(?i)B'", True), ("'\u00e9' matches '^.$'", True),
    ("'a' + 'bc' matches 'b' + 'c'", True),
    ("true && false", False), ("true and true", True), ("false || true", True), ("!true", False),
    ("true && true && false", False), ("false or false or true", True),
    ("false && anything(1) > 'a'", False), ("true || anything(1) > 'a'", True),
    ("false && false && anything(1) > 'a'", False), ("false || true || anything(1) > 'a'", True),
    ("true && anything(1)", 1), ("false || anything(nil)", None), ("true && true && anything('a')", "a"),
    ("false || false || anything(true)", True), ("true || anything(1)", True), ("false && anything(1)", False),
    ("1 in [1, 2]", True), ("3 in [1, 2]", False), ("1 in [1.0]", True), ("1.0 in [1, 2]", True),
    ("'a' in ['b', 'a']", True), ("1 in [1, 'a', nil]", True), ("nil in [1, nil]", True),
    ("[1] in [[1]]", True), ("'a' in {a: 1}", True), ("'b' in {a: 1}", False), ("1 in []", False),
    ("2 in 1..3", True), ("4 in 1..3", False), ("1.5 in 1..3", False), ("2 in 3..1", False),
    ("anything(2) in 1..3", True), ("anything('a') in {a: 1}", True), ("1 in anything(nil)", False),
    ("1..3", [1, 2, 3]), ("3..1", []), ("-1..1", [-1, 0, 1]), ("[1, 2] == [1, 2]", True),
    ("[1, 2] == [1.0, 2.0]", True), ("[1] == [1, 2]", False), ("1..2 == [1, 2]", True),
    ("{a: 1} == {a: 1}", True), ("{a: 1} == {a: 2}", False), ("{a: [1]} == {a: [1]}", True),
    ("{a: 1} == {b: 1}", False),
    ("nil == nil", True), ("nil == 1", False), ("nil != 'a'", True), ("[] == nil", False),
    ("anything(true) == 1", False), ("anything('1') == 1", False), ("anything(1) == 1", True),
    ("nil ?? 2", 2), ("1 ?? 2", 1), ("anything(nil) ?? 'a'", "a"), ("false ?? true", False),
    ("{a: nil}.a ?? 'x'", "x"), ("{}.a ?? 'x'", "x"), ("{}?.a?.b ?? 'x'", "x"),
    ("{a: {b: 1}}.a.b", 1), ("{a: 1}['a']", 1), ("{a: 1}.b", None), ("{a: nil}.a?.b", None),
    ("{a: nil}.a?.b.c.d", None), ("{a: nil}?.a?.['b'].c", None), ("{a: {b: nil}}.a?.b", None),
    ("anything(nil)?.a", None), ("anything(nil)?.[0]", None), ("{a: [5]}.a?.[0]", 5),
    ("[1, 2, 3][0]", 1), ("[1, 2, 3][-1]", 3), ("(1..3)[1]", 2), ("['a'][0]", "a"),
    ("[1, 2, 3, 4, 5][1:4]", [2, 3, 4]), ("[1, 2, 3, 4, 5][1:-1]", [2, 3, 4]),
    ("[1, 2, 3][:2]", [1, 2]), ("[1, 2, 3][2:]", [3]), ("[1, 2, 3][:]", [1, 2, 3]),
    ("[1, 2, 3][-2:]", [2, 3]), ("[1, 2, 3][2:1]", []), ("[1, 2, 3][-9:9]", [1, 2, 3]),
    ("[1, 2, 3][5:9]", []), ("'hello'[1:3]", "el"), ("'hello'[:-1]", "hell"), ("'h\u00e9y'[0:3]", "h\u00e9"),
    ("'h\u00e9y'[0:2] + 'h\u00e9y'[2:]", "h\udcc3\udca9y"),
    ("true ? 1 : 'a'", 1), ("false ? 1 : 'a'", "a"), ("anything(true) ? 1 : 2", 1),
    ("-5", -5), ("+5", 5), ("-0.5", -0.5), ("-anything(5)", -5), ("+anything(2.5)", 2.5),
    ("!anything(false)", True), ("anything(1) + anything(2)", 3), ("anything('a') + 'b'", "ab"),
    ("anything(7) / 2", 3.5), ("anything(7) % 4", 3), ("anything(1)..2", [1, 2]),
    ("anything('ab') contains 'b'", True), ("anything(nil) contains 'b'", False),
    ("(anything(true) ? nil : 'a') contains 'a'", False),
    ("anything(nil) matches 'b'", False), ("'b' matches anything(nil)", False),
    ("'b' endsWith anything(nil)", False), ("anything([1])[0]", 1), ("anything({a: 2}).a", 2),
    ("anything([1, 2])[1:]", [2]), ("anything('abc')[1:2]", "b"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_values(text, expected):
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_values_that_are_no_numbers():
    for text in ("0 / 0", "0.0 / 0", "(-8) ** 0.5", "(1 / 0) * 0", "(0 / 0) / 0", "0 / (0 / 0)"):
        assert math.isnan(value(text)), text
    assert math.copysign(1, value("1 / (-1 / (1.0 / 0))")) == -1
    assert value("(0 / 0) == (0 / 0)") is False
    assert value("(0 / 0) <= 1") is False


TYPES = [
    ("1", "int"), ("1.5", "float"), ("'a'", "string"), ("true", "bool"), ("nil", "nil"),
    ("1 + 2", "int"), ("1 + 2.0", "float"), ("4 / 2", "float"), ("4 % 2", "int"),
    ("2 ** 2", "float"), ("-1.5", "float"), ("1..3", "array of int"), ("[1, 'a']", "array"),
    ("['a']", "array of string"), ("[[1]]", "array of array of int"), ("{a: 1}", "map"),
    ("{a: 1}.a", "any"), ("[1][0]", "int"), ("[1, 'a'][0]", "any"), ("'ab'[0:1]", "string"),
    ("true ? 1 : 2", "int"), ("true ? 1 : 'a'", "any"), ("true ? nil : 'a'", "string"),
    ("true ? 1 : nil", "int"), ("true ? nil : nil", "nil"), ("true ? [1] : ['a']", "array"),
    ("true ? [1] : [2]", "array of int"), ("nil ?? 1", "int"), ("1 ?? 'a'", "any"), ("[1] ?? ['a']", "any"), ("[1] ?? [2]", "array of int"),
    ("'a' ?? 'b'", "string"), ("anything(1) ?? 1", "any"), ("anything(1) + 1", "any"),
    ("anything(1) < 1", "bool"), ("anything(1) / 1", "float"), ("not anything(1)", "bool"),
    ("-anything(1)", "any"), ("let a = 1; a", "int"), ("1; 'a'", "string"),
    ("{a: nil}.a?.b", "any"), ("1 == 1", "bool"), ("1 in [1]", "bool"), ("true && true", "bool"),
    ("true && anything(1)", "any"), ("anything(1) || true", "bool"), ("[][0]", "any"),
    ("[nil][0]", "nil"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TYPES)
def test_types(text, expected):
    assert kind(text) == expected


MISMATCHES = [
    ("1 + 'a'", 2), ("'a' - 'b'", 4), ("'a' * 2", 4), ("'a' / 2", 4), ("1.5 % 2", 4),
    ("'a' ** 2", 4), ("1 < 'a'", 2), ("true > false", 5), ("true + true", 5), ("[1] + [2]", 4),
    ("nil + 1", 4), ("1 && true", 2), ("true || 'a'", 5), ("not 1", 0), ("!'a'", 0), ("-'a'", 0),
    ("+true", 0), ("1 == 'a'", 2), ("true != 1", 5), ("'a' == ['a']", 4), ("{} == []", 3),
    ("1 in 'a'", 2), ("'a' in 'abc'", 4), ("1 in {a: 1}", 2), ("'a' in [1, 2]", 4), ("1 in 2", 2),
    ("'a' in 1..3", 4), ("1 contains 'a'", 2), ("'a' contains 1", 4), ("'a' startsWith ['a']", 4),
    ("'a' matches 1", 4), ("1 matches 'a'", 2), ("'a'..'b'", 3), ("1.5..2", 3), ("1 ? 2 : 3", 0),
    ("'a' ? 1 : 2", 0), ("1.a", 0), ("'a'.b", 4), ("'a'[0]", 3), ("[1]['a']", 3), ("[1].a", 4),
    ("{a: 1}[0]", 6), ("(nil).a", 6), ("(1)[0]", 3), ("1 + 1 == 'a'", 6), ("[1]['a':]", 4),
    ("[1][:1.5]", 5), ("{a: 1}[0:1]", 6), ("{(1): 2}", 2), ("true && (1 + 'a')", 11),
    ("'a' not in 'b'", 4),
]  # fmt: skip


@pytest.mark.parametrize(("text", "offset"), MISMATCHES)
def test_types_that_an_operator_does_not_take(text, offset):
    with pytest.raises(ExpressionProblem) as caught:
        compile_(text, ENVIRONMENT)
    assert caught.value.offset == offset


FAILURES = [
    ("1 % 0", "integer division by zero"),
    ("[1][1]", "the array of 1 elements has no index 1"),
    ("[1][-2]", "the array of 1 elements has no index -2"),
    ("[][0]", "the array of 0 elements has no index 0"),
    ("anything(nil).a", "nil has no elements and fields"),
    ("{a: nil}.a.b", "nil has no elements and fields"),
    ("{a: nil}.a?.b[0].c", "nil has no elements and fields"),
    ("anything(1)[0]", "int has no elements and fields"),
    ("anything(1) + 'a'", "+ does not work for int and string"),
    ("anything('a') - 1", "- does not work for string and int"),
    ("anything(true) * 2", "* does not work for bool and int"),
    ("anything('a') / 1", "/ needs a number, not string"),
    ("anything(1.5) % 1", "% does not work for float and int"),
    ("anything('a') < 1", "string and int have no order"),
    ("anything(1) && true", "int is used as a condition"),
    ("!anything(nil)", "nil is used as a condition"),
    ("!(true && anything(nil))", "nil is used as a condition"),
    ("true && anything(1) && true", "int is used as a condition"),
    ("(true && anything(1)) || true", "int is used as a condition"),
    ("filter([1], true && anything(#))", "int is used as a condition"),
    ("anything(nil) ? 1 : 2", "nil is used as a condition"),
    ("-anything('a')", "a sign needs a number, not string"),
    ("1 in anything('a')", "in needs an array, not string"),
    ("anything(1) contains 'a'", "contains needs a string, not int"),
    ("anything(1) matches 'a'", "matches needs a string, not int"),
    ("'a' matches anything('(')", "invalid regular expression: missing ): ("),
    ("anything('a')..2", ".. needs an int, not string"),
    ("anything(1)[0:1]", "a slice needs an array, not int"),
    ("[1][anything('a'):]", "a slice needs an int, not string"),
    ("{(anything(1)): 2}", "a key needs a string, not int"),
    ("[1][anything(1e300)]", "1e+300 is not in the range of int"),
    ("anything({a: 1})[[1]]", "array cannot be the key of a map"),
]


@pytest.mark.parametrize(("text", "message"), FAILURES)
def test_operations_that_fail(text, message):
    compiled = compile_(text, ENVIRONMENT)
    with pytest.raises(ExpressionError) as caught:
        compiled.evaluate(None)
    assert str(caught.value) == message


def test_an_index_ends_a_chain():
    """As in expr-lang: `a?.b[0]` is nil[0] if `a` is nil, `a?.b.c` is nil."""
    assert value("anything(nil)?.a.b") is None
    with pytest.raises(ExpressionError):
        value("anything(nil)?.a[0]")


def test_an_invalid_pattern_is_a_problem_of_its_own():
    with pytest.raises(ExpressionProblem) as caught:
        compile_("'a' matches '('", ENVIRONMENT)
    assert caught.value.offset == 12
    assert str(caught.value).startswith("invalid regular expression")


def test_functions_get_the_types_that_they_declare():
    text = Function("text", (t.STRING,), t.STRING, lambda subject, value: value + "!")
    two = Function("two", (t.INT, t.STRINGS), t.INT, lambda subject, one, other: one + len(other))
    environment = Environment.of([ANYTHING, text, two])

    def evaluate(source):
        return compile_(source, environment).evaluate(None)

    assert evaluate("text('a')") == "a!"
    assert evaluate("text(anything('a'))") == "a!"
    assert evaluate("two(1, ['a'])") == 2
    assert evaluate("'a' | text()") == "a!"
    with pytest.raises(ExpressionError, match="text needs string, not int"):
        evaluate("text(anything(1))")
    for source, offset in (("text(1)", 5), ("text()", 0), ("text('a', 2)", 10), ("two(1, 2)", 7)):
        with pytest.raises(ExpressionProblem) as caught:
            compile_(source, environment)
        assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1), ("nil", None), ("'a'", "a"), ("1..3", [1, 2, 3]), ("[1..2, [3, nil]]", [[1, 2], [3, None]]),
        ("{a: 1..2}", {"a": [1, 2]}), ("[{a: ['b']}]", [{"a": ["b"]}]),
        ("groupBy([1, 2, 3], # % 2 == 0)", {"false": [1, 3], "true": [2]}),
        ("groupBy([1, 2.5, nil, true], #)", {"1": [1], "2.5": [2.5], "<nil>": [None], "true": [True]}),
    ],
)  # fmt: skip
def test_a_value_for_use_outside_of_expressions(text, expected):
    assert plain_value(compile_(text, ENVIRONMENT).evaluate(None)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("let t = repeat('a', 60000); map(1..9000, t)", "more than 65536 elements and characters"),
        ("let t = repeat('a', 60000); map(1..9000, {{a: t}})", "more than 65536 elements"),
        (
            "let t = repeat('a', 60000); [fromPairs([[t, 1]]), fromPairs([[t, 1]])]",
            "more than 65536",
        ),
        ("reduce(1..60, [#acc, #acc], [1])", "more than 65536 elements and characters"),
        ("reduce(1..60, {{a: #acc, b: #acc}}, {})", "more than 65536 elements and characters"),
        ("1..65537", "more than 65536 elements and characters"),
        ("reduce(1..5000, [#acc], 1)", "nested too deeply"),
    ],
)
def test_a_value_that_is_too_large_outside(text, message):
    """Parts that occur several times count each time: as text they would need so much memory."""
    found = compile_(text, ENVIRONMENT).evaluate(None)
    with pytest.raises(ExpressionError, match=message):
        plain_value(found)


def test_what_is_about_the_question():
    functions = [
        Function("label", (), t.STRING, lambda subject: "a", is_about_question=True),
        Function("transport", (), t.STRING, lambda subject: "udp"),
    ]
    environment = (
        Environment.of(functions)
        .with_variable("first", t.STRING, Cacheability.SAFE, is_about_question=True)
        .with_variable("protocol", t.STRING, Cacheability.SAFE)
    )
    for text, expected in (
        ("1 == 2", True),
        ("label() == 'a'", True),
        ("first == 'a'", True),
        ("first == 'a' || protocol == 'udp'", False),
        ("label() == 'a' && transport() == 'udp'", False),
        ("any([1], transport() == 'a')", False),
    ):
        assert compile_(text, environment).is_about_question is expected


def test_conditions():
    failures = []
    anything = [compile_(text, ENVIRONMENT) for text in ("anything(1) == 1", "let a = 1; a > 0")]
    assert Conditions(anything, print).accept(None) is True
    assert Conditions([], print).accept(None) is True
    for text in ("false", "1", "nil", "'true'", "any([1], # > 1)"):
        assert Conditions([*anything, compile_(text, ENVIRONMENT)], print).accept(None) is False

    def note(subject, error):
        failures.append((subject, str(error)))

    for text in ("[1][5]", "all(1..90000, true)"):
        broken = Conditions([*anything, compile_(text, ENVIRONMENT)], note)
        assert [broken.accept("query"), broken.accept("other")] == [False, False]
    assert [subject for subject, _ in failures] == ["query", "other"] * 2
    assert failures[0][1] == "the array of 1 elements has no index 5"
    assert "more than 50000 steps" in failures[2][1]


def test_conditions_share_the_limits():
    half = compile_("all(1..9000, true)", ENVIRONMENT)
    for count, expected in ((1, True), (5, False)):
        conditions = Conditions([half] * count, lambda subject, error: None)
        assert [conditions.accept(None), conditions.accept(None)] == [expected] * 2
    text = compile_("'a' + 'b' == 'ab'", ENVIRONMENT)  # without a predicate, the frame is kept
    conditions = Conditions([text], print)
    assert all(conditions.accept(None) for _ in range(130_000))


def test_conditions_within_themselves():
    inner = []

    def ask(subject):
        if subject:
            inner.append(conditions.accept(subject - 1))
        return subject < 5

    environment = Environment.of([Function("ask", (), t.BOOL, ask)])
    conditions = Conditions([compile_("ask() && ask()", environment)], print)
    assert conditions.accept(2) is True
    assert inner == [True] * 6


def test_what_a_value_depends_on():
    functions = [
        Function(name, (), t.BOOL, lambda subject: True, depends)
        for name, depends in (
            ("safe", Cacheability.SAFE),
            ("family", Cacheability.DEPENDS_ON_FAMILY),
            ("here", Cacheability.DEPENDS_ON_LOCAL_ADDRESS),
            ("client", Cacheability.UNSAFE),
        )
    ]
    environment = Environment.of(functions)
    for text, expected in (
        ("true", Cacheability.SAFE),
        ("safe()", Cacheability.SAFE),
        ("safe() && family()", Cacheability.DEPENDS_ON_FAMILY),
        ("here() && family()", Cacheability.DEPENDS_ON_LOCAL_ADDRESS),
        ("any([1], client()) || here()", Cacheability.UNSAFE),
    ):
        assert compile_(text, environment).depends is expected


def test_what_several_parts_depend_on():
    assert Cacheability.combined(()) is Cacheability.SAFE
    with pytest.raises(ValueError, match="not in tuple"):
        Cacheability.combined((Cacheability.SAFE, Cacheability.OBSERVES))
