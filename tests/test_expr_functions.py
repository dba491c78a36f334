"""The functions of the expression language, with and without predicates."""

import math

import pytest

from corepy.expr import ANY, INT, Environment, ExpressionError, ExpressionProblem, Function
from corepy.expr import compile_expression as compile_
from corepy.expr.calls import BUILTINS, RESERVED, UNSUPPORTED, WITH_PREDICATES

ENVIRONMENT = Environment.of([Function("anything", (ANY,), ANY, lambda subject, value: value)])


def value(text):
    return plain(compile_(text, ENVIRONMENT).evaluate(None))


def plain(found):
    return [plain(each) for each in found] if isinstance(found, tuple | range | list) else found


VALUES = [
    # strings
    ("trim('  a b ')", "a b"), ("trim('\\u2003a\\x1f')", "a\x1f"), ("trim('__a_', '_')", "a"),
    ("trim('abcba', 'ab')", "c"), ("trim(' a', '')", " a"), ("trimPrefix('ab', 'a')", "b"),
    ("trimPrefix('ab', 'b')", "ab"), ("trimPrefix(' a')", "a"), ("trimSuffix('ab', 'b')", "a"),
    ("trimSuffix('a ')", "a"), ("upper('a\u00e9\u00df')", "A\u00c9\u00df"), ("lower('A\u00c9')", "a\u00e9"),
    ("upper('ab')", "AB"), ("lower('AB')", "ab"),
    ("split('a,b,c', ',')", ["a", "b", "c"]), ("split('a,b,c', ',', 2)", ["a", "b,c"]),
    ("split('a,b', ',', 0)", []), ("split('a,b', ',', -1)", ["a", "b"]), ("split('', ',')", [""]),
    ("split('ab\u00e9', '')", ["a", "b", "\u00e9"]), ("split('abc', '', 2)", ["a", "bc"]),
    ("split('abc', '', 9)", ["a", "b", "c"]), ("split('', '')", []), ("split('a', ',', 1)", ["a"]),
    ("splitAfter('a,b,c', ',')", ["a,", "b,", "c"]), ("splitAfter('a,b,c', ',', 2)", ["a,", "b,c"]),
    ("splitAfter('ab', '')", ["a", "b"]),
    ("replace('a-b-c', '-', '+')", "a+b+c"), ("replace('a-b-c', '-', '', 1)", "ab-c"),
    ("replace('ab', '', '-')", "-a-b-"), ("replace('aa', 'a', 'b', 0)", "aa"),
    ("replace('aa', 'a', 'b', -2)", "bb"), ("repeat('ab', 3)", "ababab"), ("repeat('a', 0)", ""),
    ("indexOf('abcb', 'b')", 1), ("indexOf('\u00e9b', 'b')", 2), ("indexOf('a', 'b')", -1),
    ("lastIndexOf('abcb', 'b')", 3), ("hasPrefix('ab', 'a')", True), ("hasSuffix('ab', 'a')", False),
    ("toBase64('a\u00e9')", "YcOp"), ("fromBase64('YcOp')", "a\u00e9"), ("fromBase64('YQ==\\n')", "a"),
    ("fromBase64(toBase64('h\u00e9'[0:2])) == 'h\u00e9'[0:2]", True),
    # numbers
    ("abs(-5)", 5), ("abs(-1.5)", 1.5), ("abs(-9223372036854775807 - 1)", -(2**63)),
    ("ceil(1.2)", 2.0), ("floor(-1.2)", -2.0), ("round(1.5)", 2.0), ("round(-1.5)", -2.0),
    ("round(2.4)", 2.0), ("ceil(3)", 3.0), ("floor(1 / 0)", math.inf), ("round(0.49)", 0.0),
    ("max(1, 3, 2)", 3), ("max(1, 2.5)", 2.5), ("min(2, 1.5, 3)", 1.5), ("max([1, [5, 2]], 3)", 5),
    ("min([2, 1])", 1), ("max([])", None), ("mean(1, 2)", 1.5), ("mean([])", 0.0),
    ("mean([1, [2, 3]], 4)", 2.5), ("median(3, 1, 2)", 2.0), ("median([4, 1, 3, 2])", 2.5),
    ("median([])", 0.0), ("sum([1, 2.5])", 3.5), ("sum([])", 0), ("sum([1, 2], # * 2)", 6),
    ("bitand(12, 10)", 8), ("bitor(12, 10)", 14), ("bitxor(12, 10)", 6), ("bitnand(10, 12)", 2),
    ("bitnot(10)", -11), ("bitshl(45, 2)", 180), ("bitshr(45, 2)", 11), ("bitshr(-5, 100)", -1),
    ("bitshl(1, 63)", -(2**63)), ("bitshl(1, 64)", 0), ("bitushr(-5, 2)", 4611686018427387902),
    ("bitushr(5, 99)", 0), ("bitushr(-1, 64)", 0),
    # arrays and maps
    ("len('h\u00e9')", 2), ("len([1, 2])", 2), ("len({a: 1})", 1), ("len(1..5)", 5),
    ("get([1, 2], 1)", 2), ("get([1, 2], 2)", None), ("get([1, 2], -1)", 2), ("get({a: 1}, 'a')", 1),
    ("get({a: 1}, 'b')", None), ("get(anything(nil), 1)", None), ("get(anything(5), 1)", None),
    ("join(['a', 'b'], '-')", "a-b"), ("join(['a', 'b'])", "ab"), ("join([], '-')", ""),
    ("concat([1], [2, 3], 4..5)", [1, 2, 3, 4, 5]), ("flatten([1, [2, [3]], []])", [1, 2, 3]),
    ("uniq([1, 2, 1.0, 'a', 'a'])", [1, 2, "a"]), ("uniq([[1], [1]])", [[1]]),
    ("first([1, 2])", 1), ("last([1, 2])", 2), ("first([])", None), ("last([])", None),
    ("first(anything(1))", None), ("last(anything(nil))", None), ("first(anything('a'))", None),
    ("first(anything({a: 1}))", None), ("first(anything([2]))", 2),
    ("take([1, 2, 3], 2)", [1, 2]), ("take([1], 5)", [1]), ("reverse([1, 2])", [2, 1]),
    ("reverse(1..3)", [3, 2, 1]), ("sort([3, 1, 2.5])", [1, 2.5, 3]), ("sort(['b', 'a'])", ["a", "b"]),
    ("sort([1, 2], 'desc')", [2, 1]), ("sort(['\u00e9', 'z'])", ["z", "\u00e9"]), ("sort([nil])", [None]),
    ("keys({a: 1, b: 2})", ["a", "b"]), ("values({a: 1})", [1]), ("toPairs({a: 1})", [["a", 1]]),
    ("fromPairs([['a', 1], ['b', 2]]) == {a: 1, b: 2}", True), ("fromPairs([[1, 2]])[1]", 2),
    ("fromPairs([[true, 2]])[1]", None), ("fromPairs([[true, 2]])[true]", 2),
    ("keys(fromPairs([[1.0, 2]]))[0]", 1.0), ("1 in fromPairs([[1.0, 2]])", False),
    ("1.0 in fromPairs([[1.0, 2]])", True), ("[1] in fromPairs([[1.0, 2]])", False),
    # predicates
    ("all([1, 2], # > 0)", True), ("all([], false)", True), ("all([1, 0], # > 0)", False),
    ("any([1, 0], # > 0)", True), ("any([], true)", False), ("one([1, 0, 0], # > 0)", True),
    ("one([1, 1], # > 0)", False), ("none([1], # > 1)", True), ("none([2], # > 1)", False),
    ("map(['a', 'b'], # + string(#index))", ["a0", "b1"]), ("filter(1..4, # % 2 == 0)", [2, 4]),
    ("find(1..4, # > 2)", 3), ("find(1..4, # > 9)", None), ("findIndex(1..4, # > 2)", 2),
    ("findIndex(1..4, # > 9)", None), ("findLast(1..4, # < 3)", 2), ("findLast([], true)", None),
    ("findLastIndex(1..4, # < 3)", 1), ("findLastIndex([1], false)", None),
    ("count([true, false, true])", 2), ("count(1..4, # > 1)", 3),
    ("groupBy(['a', 'bb', 'c'], len(#))[1]", ["a", "c"]), ("keys(groupBy(1..3, # % 2))", [1, 0]),
    ("groupBy([1], true)[true]", [1]),
    ("sortBy(['bb', 'a'], len(#))", ["a", "bb"]), ("sortBy([1, 2], -#)", [2, 1]),
    ("sortBy([1, 2, 3], # % 2, 'desc')", [1, 3, 2]), ("reduce(1..4, #acc * #)", 24),
    ("reduce(1..3, #acc + #, 10)", 16), ("reduce([], #acc + #, 5)", 5),
    ("reduce(['a', 'b'], #acc + string(#index) + #)", "a1b"),
    ("map(1..2, map(1..2, #) | sum())", [3, 3]), ("map(1..2, {let a = #; sum(map(1..2, # * a))})", [3, 6]),
    ("filter(1..3, any([2], # == 2) && # > 1)", [2, 3]),
    ("reduce(1..2, #acc + reduce(1..3, #acc + #) + #, 0)", 15),
    ("map([[1, 2], [3]], len(#) + #[0])", [3, 4]), ("any(anything([1]), # == 1)", True),
    ("all([[1], [2]], {let outer = #; any(1..3, # in outer)})", True),
    # conversions
    ("int('12')", 12), ("int('-12')", -12), ("int('+1')", 1), ("int(1.9)", 1), ("int(-1.9)", -1),
    ("int(5)", 5), ("float('1.5')", 1.5), ("float('1e3')", 1000.0), ("float(2)", 2.0),
    ("float('Inf')", math.inf), ("float('.5')", 0.5), ("string(5)", "5"), ("string('a')", "a"),
    ("string(true)", "true"), ("string(nil)", "<nil>"), ("string(1.0)", "1"), ("string(0.5)", "0.5"),
    ("string(100000.0)", "100000"), ("string(1000000.0)", "1e+06"), ("string(1234567.5)", "1.2345675e+06"),
    ("string(0.0001)", "0.0001"), ("string(0.00001)", "1e-05"), ("string(1 / 0)", "+Inf"),
    ("string(-1 / 0)", "-Inf"), ("string(0 / 0)", "NaN"), ("string(-0.0)", "-0"),
    ("string([1, 'a', nil])", "[1 a <nil>]"), ("string({b: 1, a: [2]})", "map[a:[2] b:1]"),
    ("type(1)", "int"), ("type(1.5)", "float"), ("type('a')", "string"), ("type(true)", "bool"),
    ("type(nil)", "nil"), ("type([])", "array"), ("type({})", "map"), ("type(1..2)", "array"),
    ("toJSON('a\"<\u00e9')", '"a\\"\\u003c\u00e9"'), ("toJSON([])", "[]"), ("toJSON({})", "{}"),
    ("toJSON([1, 1.0, 0.5, 1e21, nil, true])", "[\n  1,\n  1,\n  0.5,\n  1e+21,\n  null,\n  true\n]"),
    ("toJSON({b: {c: 1}, a: 2})", '{\n  "a": 2,\n  "b": {\n    "c": 1\n  }\n}'),
    ("fromJSON('{\"a\": [1, \"b\", null]}').a", [1.0, "b", None]), ("fromJSON(' 1 ')", 1.0),
    ("fromJSON('true')", True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_values(text, expected):
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_a_float_that_is_not_a_number():
    assert math.isnan(value("float('nan')"))
    assert math.isnan(value("ceil(0 / 0)"))


FAILURES = [
    ("repeat('a', -1)", "repeat cannot repeat a string -1 times"),
    ("repeat('', 1000001)", "repeat repeats a string up to 1000000 times"),
    ("fromBase64('YQ')", "fromBase64: the string is not Base64"),
    ("fromBase64('\u00e9')", "fromBase64: the string is not Base64"),
    ("trim(anything(1))", "trim needs a string, not int"),
    ("upper(anything(nil))", "upper needs a string, not nil"),
    ("hasPrefix(anything(1), 'a')", "hasPrefix needs a string, not int"),
    ("split('a', ',', anything('b'))", "split needs an int, not string"),
    ("join([1])", "join needs a string, not int"),
    ("abs(anything('a'))", "abs needs a number, not string"),
    ("max([1, 'a'])", "max needs numbers, not string"),
    ("max(anything(nil))", "max needs numbers, not nil"),
    ("mean([true])", "mean needs numbers, not bool"),
    ("sum(['a'])", "+ does not work for string and int"),
    ("bitshl(1, -1)", "a shift by -1 bits is not possible"),
    ("bitshr(1, -1)", "a shift by -1 bits is not possible"),
    ("bitand(anything(1.5), 1)", "bitand needs an int, not float"),
    ("bitnot(anything('a'))", "bitnot needs an int, not string"),
    ("len(anything(1))", "len needs a string, an array or a map, not int"),
    ("take([1], -1)", "take cannot take -1 elements"),
    ("sort([1, 'a'])", "only numbers, only strings, or only dates can be sorted"),
    ("sort([true, false])", "only numbers, only strings, or only dates can be sorted"),
    ("sort([1, 2], 'up')", "the order is asc or desc, not up"),
    ("sortBy([1], #, anything(1))", "the order is asc or desc, not 1"),
    ("keys(anything(1))", "keys needs a map, not int"),
    ("fromPairs([[1]])", "fromPairs needs an array of arrays with two elements each"),
    ("fromPairs([1])", "fromPairs needs an array of arrays with two elements each"),
    ("fromPairs([[[1], 2]])", "array cannot be the key of a map"),
    ("groupBy([1], [#])", "array cannot be the key of a map"),
    ("reduce([], #acc + #)", "reduce of an empty array needs an initial value"),
    ("filter([1], anything(1))", "int is used as a condition"),
    ("count([true, 1])", "int is used as a condition"),
    ("any(anything('a'), true)", "any needs an array, not string"),
    ("findLast(anything(1), true)", "findLast needs an array, not int"),
    ("reduce(anything(1), #)", "reduce needs an array, not int"),
    ("int('1_0')", "int needs a string of digits, within 64 bits"),
    ("int('9223372036854775808')", "int needs a string of digits, within 64 bits"),
    ("int(' 1')", "int needs a string of digits, within 64 bits"),
    ("int('\u0661')", "int needs a string of digits, within 64 bits"),
    ("int(1 / 0)", "+Inf is not in the range of int"),
    ("int(1e19)", "1e+19 is not in the range of int"),
    ("int(anything(nil))", "int needs an int, not nil"),
    ("float('a')", "float needs a string that is a number"),
    ("float('1e999')", "float: the number is too large"),
    ("float(anything([]))", "float needs a number, not array"),
    ("toJSON(1 / 0)", "toJSON: JSON has no infinite numbers"),
    ("toJSON(groupBy([1], #))", "toJSON: the keys of a map in JSON are strings"),
    ("fromJSON('{')", "fromJSON: the string is not JSON"),
    ("fromJSON('NaN')", "fromJSON: the string is not JSON"),
    ("fromJSON('1e999')", "fromJSON: the string is not JSON"),
    (f"fromJSON('{'[' * 30_000}')", "fromJSON: the string is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FAILURES)
def test_functions_that_fail(text, message):
    compiled = compile_(text, ENVIRONMENT)
    with pytest.raises(ExpressionError) as caught:
        compiled.evaluate(None)
    assert str(caught.value) == message


PROBLEMS = [
    ("trim()", 0, "not enough arguments for trim"),
    ("trim('a', 'b', 'c')", 15, "too many arguments for trim"),
    ("trim(1)", 5, "trim needs string, not int"),
    ("split('a', 1)", 11, "split needs string, not int"),
    ("max()", 0, "not enough arguments for max"),
    ("max(1, 'a')", 7, "max needs int or float or array or duration, not string"),
    ("abs('a')", 4, "abs needs int or float, not string"),
    ("bitand(1.5, 1)", 7, "bitand needs int, not float"),
    ("len(1)", 4, "len needs string or array or map, not int"),
    ("get(1, 2)", 4, "get needs array or map, not int"),
    ("keys([])", 5, "keys needs map, not array"),
    ("int(true)", 4, "int needs int or float or string or duration or month or weekday, not bool"),
    ("filter('a', true)", 7, "filter needs an array, not string"),
    ("filter([1], #)", 12, "the predicate of filter is a bool, not int"),
    ("count([1])", 6, "the predicate of count is a bool, not int"),
    ("map([1], nil)", 9, "the predicate has no value but nil"),
    ("sortBy([1], #, 1)", 15, "the order of sortBy is a string, not int"),
    ("now()", 0, "now is not supported"),
    ("nosuch(1)", 0, "unknown function 'nosuch'"),
]


@pytest.mark.parametrize(("text", "offset", "message"), PROBLEMS)
def test_calls_that_are_rejected(text, offset, message):
    with pytest.raises(ExpressionProblem) as caught:
        compile_(text, ENVIRONMENT)
    assert str(caught.value) == message
    assert caught.value.offset == offset


USAGES = [
    ("trim()", "trim(string, [string])"),
    ("get([1])", "get(array or map, any)"),
    ("mean()", "mean(int or float or array...)"),
    ("date('2023-08-14').Add()", ".Add(duration)"),
    ("all([true], #, 1)", "all(array, predicate)"),
    ("sum([1], #, 1)", "sum(array, [predicate])"),
    ("anything()", "anything(any)"),
    ("named(1, 2)", "named(NUMBER)"),
]


@pytest.mark.parametrize(("text", "hint"), USAGES)
def test_the_hint_for_a_wrong_number_of_arguments(text, hint):
    named = Function("named", (INT,), INT, lambda subject, number: 1, argument_names=("NUMBER",))
    environment = Environment({**ENVIRONMENT.functions, "named": named})
    with pytest.raises(ExpressionProblem) as caught:
        compile_(text, environment)
    assert caught.value.hint == hint


TYPES = [
    ("upper('a')", "string"), ("split('a', ',')", "array of string"), ("abs(1)", "int"),
    ("abs(1.5)", "float"), ("max(1, 2)", "int"), ("max([1])", "any"), ("max(1, 2.5)", "any"), ("round(1)", "float"),
    ("first(['a'])", "string"), ("first(anything(1))", "any"), ("sort([2])", "array"),
    ("take(['a'], 1)", "array of string"), ("keys({a: 1})", "array"), ("fromPairs([])", "map"),
    ("filter(['a'], true)", "array of string"), ("map([1], 'a')", "array of string"),
    ("find([1], true)", "int"), ("find(anything(1), true)", "any"), ("count([true])", "int"),
    ("groupBy([1], #)[1]", "array"), ("uniq([1])", "array"), ("mean([1])", "any"), ("median(1)", "any"), ("sum([1.5])", "float"), ("sum([1], 'a')", "any"), ("sum([1])", "int"),
    ("reduce([1], 2, 3)", "int"), ("reduce([1], 2)", "int"), ("reduce([1], 'a')", "any"),
    ("reduce([1], #acc)", "any"), ("sortBy(['a'], #)", "array of string"), ("fromJSON('1')", "any"),
    ("get(['a'], 0)", "string"), ("int('1')", "int"), ("reverse(anything(1))", "array"),
    ("filter(anything(1), true)", "array"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TYPES)
def test_types(text, expected):
    assert str(compile_(text, ENVIRONMENT).type) == expected


def test_the_functions_are_those_of_the_language():
    """builtin.Index of expr-lang 1.17."""
    assert sorted(RESERVED) == sorted(["abs", "all", "any", "bitand", "bitnand", "bitnot", "bitor", "bitshl", "bitshr", "bitushr", "bitxor", "ceil", "concat", "count", "date", "duration", "filter", "find", "findIndex", "findLast", "findLastIndex", "first", "flatten", "float", "floor", "fromBase64", "fromJSON", "fromPairs", "get", "groupBy", "hasPrefix", "hasSuffix", "indexOf", "int", "join", "keys", "last", "lastIndexOf", "len", "lower", "map", "max", "mean", "median", "min", "none", "now", "one", "reduce", "repeat", "replace", "reverse", "round", "sort", "sortBy", "split", "splitAfter", "string", "sum", "take", "timezone", "toBase64", "toJSON", "toPairs", "trim", "trimPrefix", "trimSuffix", "type", "uniq", "upper", "values"])  # fmt: skip
    assert not BUILTINS.keys() & WITH_PREDICATES
    assert {"now"} == UNSUPPORTED


def test_the_environment_comes_before_the_language():
    environment = Environment.of([Function("type", (), ANY, lambda subject: "mine")])
    assert compile_("type()", environment).evaluate(None) == "mine"
    with pytest.raises(ExpressionProblem, match="too many arguments for type"):
        compile_("type(1)", environment)
