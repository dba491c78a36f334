"""The syntax of expressions: precedence, literals, and the messages for invalid ones."""

import pytest

from corepy.expr import ANY, Environment, ExpressionProblem, Type, compile_expression
from corepy.expr import value_types as t
from corepy.expr.literals import read_number, read_string
from corepy.expr.reader import LONGEST_TEXT, read
from corepy.plugin import Cacheability

EMPTY = Environment({})


def value(text, environment=EMPTY, names=None):
    """The value of an expression without functions of a query; arrays as lists."""
    return plain(compile_expression(text, environment).evaluate(None, names or {}))


def plain(found):
    return [plain(each) for each in found] if isinstance(found, tuple | range | list) else found


def problem(text, environment=EMPTY):
    with pytest.raises(ExpressionProblem) as caught:
        compile_expression(text, environment)
    return caught.value


# -- precedence: the table of expr-lang (parser/operator)

SAME = [
    ("1 + 2 * 3", "1 + (2 * 3)"),
    ("2 * 3 % 4", "(2 * 3) % 4"),
    ("10 - 4 - 3", "(10 - 4) - 3"),
    ("2 ** 3 ** 2", "2 ** (3 ** 2)"),
    ("-2 ** 2", "-(2 ** 2)"),
    ("2 ** -1 + 1", "(2 ** (-1)) + 1"),
    ("- - 3 * 2", "(-(-3)) * 2"),
    ("+-+4", "-4"),
    ("2 ^ 3", "2 ** 3"),
    ("1 + 2 .. 2 + 3", "(1 + 2)..(2 + 3)"),
    ("1..2 == [1, 2]", "(1..2) == [1, 2]"),
    ("true || false && false", "true || (false && false)"),
    ("true or false and false", "true or (false and false)"),
    ("not true || true", "(not true) || true"),
    ("not (true == true)", "!(true == true)"),
    ("not true == false", "(not true) == false"),
    ("1 < 2 == true", "(1 < 2) == true"),
    ("3 > 2 > 1", "(3 > 2) && (2 > 1)"),
    ("1 < 2 <= 2 < 3", "1 < 2 && 2 <= 2 && 2 < 3"),
    ("'a' + 'b' in ['ab']", "('a' + 'b') in ['ab']"),
    ("1 not in [2] && true", "(not (1 in [2])) && true"),
    ("'ab' not  contains 'c'", "not ('ab' contains 'c')"),
    ("'ab' not startsWith 'b'", "not ('ab' startsWith 'b')"),
    ("'ab' not endsWith 'a'", "not ('ab' endsWith 'a')"),
    ("'ab' not matches 'c'", "not ('ab' matches 'c')"),
    ("nil ?? 1 ?? 2", "(nil ?? 1) ?? 2"),
    ("1 + nil ?? 2", "1 + (nil ?? 2)"),
    ("true ? 1 : false ? 2 : 3", "true ? 1 : (false ? 2 : 3)"),
    ("1 == 1 ? 'a' : 'b'", "(1 == 1) ? 'a' : 'b'"),
    ("true ?: false", "true ? true : false"),
    ("[3, 1] | sort() | first() + 1", "first(sort([3, 1])) + 1"),
    ("1 + 2 | string()", "string(1 + 2)"),
    ("1..4 | filter(# > 2) | map(# * 2)", "map(filter(1..4, # > 2), # * 2)"),
    ("[true] | count()", "count([true])"),
    ("let a = 1; let b = a + 1; a + b", "3"),
    ("(let a = 1; a) + 1", "2"),
    ("(1; 2) + 1", "3"),
    ("if 1 > 2 { 3 } else { 4 }", "1 > 2 ? 3 : 4"),
    ("if false { 1 } else if true { 2 } else { 3 }", "2"),
    ("filter(1..3, {let a = #; a > 1})", "[2, 3]"),
    ("map(1..2, {{a: #}})", "[{a: 1}, {a: 2}]"),
    ("filter([{n: 1}, {n: 2}], .n > 1)", "filter([{n: 1}, {n: 2}], #.n > 1)"),
    ("::len('ab')", "len('ab')"),
    ("len('ab',)", "len('ab')"),
    ("[1, 2,]", "[1, 2]"),
    ("{a: 1,}", "{'a': 1}"),
    ("{1: 2, true: 3, `x`: 4, ('y' + 'z'): 5}", "{'1': 2, 'true': 3, 'x': 4, 'yz': 5}"),
    ("1 // one\n + 2 /* two\n */", "3"),
    ("[1, 2, 3][1:][0]", "2"),
    ("true ? [1][0] : 2", "1"),
    ("[1, 2, 3][true ? 1 : 2]", "2"),
    ("{'in': 1}.in + {'not': 2}.not + {'let': 3}.let", "6"),
    ("1 - -1", "2"),
    ("6 / 3 / 2 == 1.0", "true"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_texts_for_one_expression(one, other):
    assert value(f"({one}) == ({other})") is True
    assert value(one) == value(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42), ("0", 0), ("007", 7), ("1_000", 1000), ("0x2A", 42), ("0X_ff", 255),
        ("0o52", 42), ("0b101010", 42), ("9223372036854775807", 2**63 - 1),
        ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("1_0.2_5e-1", 1.025),
        ("1.5E+2", 150.0),
    ],
)  # fmt: skip
def test_numbers(text, expected):
    assert value(text) == expected
    assert type(value(text)) is type(expected)


@pytest.mark.parametrize(
    "text", ["0x", "0b2", "0o8", "1a", "1e", "1e+", "0x1.8", "1.x", "1$", "_1"]
)
def test_texts_that_are_no_numbers(text):
    assert problem(text).offset in (0, text.find("."))


def test_the_end_of_the_text_may_be_a_semicolon():
    assert value("1; 2; 3;") == 3
    assert value("let a = 4; a; \n") == 4
    assert value("1__") == 1  # expr-lang removes all underscores


def test_numbers_that_are_too_large():
    assert "integer of 64 bits" in str(problem("1 + 9223372036854775808"))
    assert problem("1 + 9223372036854775808").offset == 4
    assert "too large" in str(problem("1e999"))
    assert "is not a number" in str(problem("1" * 81))
    with pytest.raises(ExpressionProblem):
        read_number("", 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"'a\tb\n\\'", "a\tb\n\\"), (r"'it\'s'", "it's"), (r'"say \"a\""', 'say "a"'),
        ('\'"\'', '"'), ('"\'"', "'"), (r"'\x41\u00e9\U0001F600'", "A\u00e9\U0001f600"),
        (r"'\u{e9}\u{1F600}'", "\u00e9\U0001f600"), (r"'\101\377'", "A\u00ff"),
        (r"'\xff'", "\u00ff"), (r"'\ud800'", "\ufffd"), (r"'\a\b\f\r\v'", "\a\b\f\r\v"),
        ("'a\rb'", "a\nb"), (r"`a\n'b'`", r"a\n'b'"), ("`a\nb`", "a\nb"), ("`a``b`", "a`b"),
        ("''", ""), ("``", ""), ("'\u00e9'", "\u00e9"), ("'a // b'", "a // b"),
    ],
)  # fmt: skip
def test_strings(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (r"'a\d'", 2), (r"'\.'", 1), (r"'\"'", 1), (r'"\' + "', 1), (r"'\x4'", 1),
        (r"'\u12'", 1), (r"'\400'", 1), (r"'\u{110000}'", 1), (r"'\U00110000'", 1),
        (r"'\u{}'", 1), (r"1 + '\q'", 5),
    ],
)  # fmt: skip
def test_escape_sequences_that_do_not_exist(text, offset):
    found = problem(text)
    assert "invalid escape sequence" in str(found)
    assert found.offset == offset
    assert found.hint is not None
    assert "write \\\\ for a backslash" in found.hint


def test_a_backslash_at_the_end_of_a_string():
    with pytest.raises(ExpressionProblem):
        read_string("'\\'", 0)


# -- messages

FAULTS = [
    ("", 0, "the expression is empty"),
    ("  ", 0, "the expression is empty"),
    ("1 +", 3, "the expression ends too early"),
    ("(1", 2, "the expression ends too early"),
    ("1 + * 2", 4, "unexpected '*'"),
    ("1 2", 2, "unexpected '2'"),
    ("invalid expression", 8, "unexpected 'expression'"),
    ("1 = 1", 2, "unexpected '='"),
    ("1 & 1", 2, "unexpected '&'"),
    ("a @ b", 2, "unexpected '@'"),
    ("'abc", 0, "quoted text is not closed"),
    ("1 + 'abc", 4, "quoted text is not closed"),
    ("1 + `abc", 4, "text between backticks is not closed"),
    ("1 /* two", 2, "the comment is not closed"),
    ("[1,, 2]", 3, "unexpected ','"),
    ("[,]", 1, "unexpected ','"),
    ("{a}", 2, "unexpected '}'"),
    ("let = 1; 2", 4, "unexpected '='"),
    ("let a = 1", 9, "the expression ends too early"),
    ("let in = 1; 2", 4, "unexpected 'in'"),
    ("if true {1}", 11, "the expression ends too early"),
    ("1 not 2", 2, "unexpected 'not'"),
    ("(1;)", 3, "unexpected ')'"),
    ("1[0]", 1, "unexpected '['"),
    ("true.a", 4, "unexpected '.'"),
    ("[1] | first", 11, "the expression ends too early"),
    ("[1] | first()[0]", 13, "unexpected '['"),
    ("nil ?? 1 + 1", 9, "+ cannot follow ?? without parentheses"),
    ("all([true])", 0, "all needs a predicate for the elements of the array"),
    ("[true] | any()", 9, "any needs a predicate for the elements of the array"),
    ("all([true], #, 1)", 15, "too many arguments for all"),
    ("map([1], {a: 1})", 9, "the braces of a predicate have a map in them"),
    ("filter(1..3, let a = #; a)", 17, "the predicate of filter is a bool, not int"),
    ("'a'.upper()", 4, "a value of the type string has no method 'upper'"),
    ("1 < now().Hour()", 4, "now is not supported"),
    ("# > 1", 0, "# is outside of a predicate"),
    (".a", 0, "# is outside of a predicate"),
    ("map([1], #acc)", 9, "unknown pointer #acc"),
    ("any([1], #index > 0)", 9, "unknown pointer #index"),
    ("$env", 0, "$env is not supported"),
    ("b'x'", 1, None),
]


@pytest.mark.parametrize(("text", "offset", "message"), FAULTS)
def test_messages(text, offset, message):
    found = problem(text)
    assert found.offset == offset
    assert message is None or str(found) == message


def test_hints_for_usual_mistakes():
    assert problem("1 = 1").hint == "== compares two values"
    assert problem("1 & 1").hint == "&& or and joins two conditions"
    assert problem("1 == == 1").hint is None
    assert problem("lenn('a')").hint == "did you mean 'len'?"
    assert "put a condition in parentheses" in str(problem("not 'a' == 'b'").hint)
    assert problem("'a' == 10.0.0.1").hint == "an address is a string, in single quotes"
    assert problem("'a' in ('A', 'AAAA')").hint == "an array has brackets: ['A', 'AAAA']"
    assert problem("[1,, 2]").hint is None
    elements = "a comma separates the elements of an array: ['A', 'AAAA']"
    for text in (
        "'a' in ['A' 'AAAA']",
        "['(', [len('a')], 'b' 2]",
        "'a' in ('A' 'B')",
        "[1 len('')]",
    ):
        assert problem(text).hint == elements
    for text in ("trim('a' 'b')", "[trim ('[a' 'b')]"):
        assert problem(text).hint == "a comma separates the arguments of trim"
    for text in ("('a' 'b')", "'a' 'b'", "len('a') 'b'", "[1 let]"):
        assert problem(text).hint is None
    assert problem("'a' endswith 'b'").hint == "did you mean 'endsWith'?"
    assert problem("'IN' == IN").hint == "a string is in single quotes"
    assert problem("true == 'true'").hint == "true and false have no quotes"
    assert problem("len == 1").hint == "a call has parentheses: len()"
    assert problem("abcd").hint == "a string is in single quotes"


def test_limits_of_the_text():
    assert "longer than" in str(problem("1" + " " * LONGEST_TEXT))
    assert value("(" * 200 + "1" + ")" * 200) == 1
    deep = "-" * 150 + "1"
    assert "nested too deeply" in str(problem(deep))
    assert "nested too deeply" in str(problem("!" * 30_000 + "true"))
    assert "nested too deeply" in str(problem("[" * 150 + "]" * 150))
    assert "more than 10000 parts" in str(problem(f"[{'1,' * 10_001}]"))
    chain = "1 < " + "(nil ?? 2) < " * 90 + "3"
    assert compile_expression(chain, EMPTY)


def test_long_conditions_do_not_nest():
    text = " || ".join(["false"] * 3000) + " || true"
    assert value(text) is True
    text = " && ".join(["true"] * 3000)
    assert value(text) is True


def test_the_tree_is_made_once_per_text():
    assert read("1 + 2") == read("1 + 2")


# -- variables


def test_variables_of_the_environment():
    environment = EMPTY.with_variable("ttl", t.INT, Cacheability.SAFE)
    environment = environment.with_variable("who", t.STRING, Cacheability.UNSAFE)
    compiled = compile_expression("ttl + 1", environment)
    assert compiled.depends is Cacheability.SAFE
    assert compiled.type == t.INT
    assert compiled.evaluate(None, {"ttl": 5}) == 6
    assert compile_expression("who + 'x'", environment).depends is Cacheability.UNSAFE
    assert problem("ttl + who", environment).offset == 4
    assert str(problem("let ttl = 1; ttl", environment)) == (
        "'ttl' is already the name of something else"
    )
    assert str(problem("ttl()", environment)) == "'ttl' is not a function"


def test_variables_of_let():
    assert "already the name" in str(problem("let len = 1; len"))
    assert "already the name" in str(problem("let a = 1; let a = 2; a"))
    assert "unknown name 'a'" in str(problem("(let a = 1; a) + a"))
    assert "unknown name 'a'" in str(problem("let a = a; 1"))
    assert "'a' is not a function" in str(problem("let a = 1; a()"))
    assert value("map(1..2, {let a = #; map(1..2, {# + a})})") == [[2, 3], [3, 4]]


def test_a_type_is_shown_by_its_name():
    assert [str(each) for each in (ANY, t.INT, t.STRINGS, t.ARRAY, Type(t.Kind.MAP))] == [
        "any", "int", "array of string", "array", "map"
    ]  # fmt: skip
    assert repr(compile_expression("1 == 2", EMPTY)) == "<Expression '1 == 2': bool>"
