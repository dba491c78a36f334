"""Dates, durations and time zones of the expression language, with Go's results.

Each row of VALUES is the value that expr-lang 1.17.8 and Go print for the same text in double
quotes, on a host whose time zone is UTC.
"""

import sys
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.expr import ANY, Environment, ExpressionError, ExpressionProblem, Function, plain
from corepy.expr import compile_expression as compile_
from corepy.expr import expr_values as v
from corepy.expr.calls import BUILTINS
from corepy.expr.date_layouts import date_text, elements_of, format_date
from corepy.expr.date_reader import DEFAULT_LAYOUTS, read_date
from corepy.expr.frame import MOST_MEMORY, MOST_STEPS, MOST_TEXT, Frame
from corepy.expr.time_methods import METHODS
from corepy.expr.time_values import Date
from corepy.expr.time_zones import UTC, load_zone
from corepy.expr.value_types import BOOL, DATE, STRING

ENVIRONMENT = Environment.of([Function("anything", (ANY,), ANY, lambda subject, value: value)])
DAY = "date('2023-08-14')"
ZURICH = "timezone('Europe/Zurich')"


def frame():
    return Frame(None, {}, 0)


def evaluate(text):
    return compile_(text, ENVIRONMENT).evaluate(None)


def shown(text):
    """The kind of a value, and its text."""
    value = evaluate(text)
    return f"{v.kind_name(value)} {v.to_text(value, frame())}"


VALUES = [
    # date, in the usual layouts and in others
    (DAY, "date 2023-08-14 00:00:00 +0000 UTC"),
    ("date('15:04:05')", "date 0000-01-01 15:04:05 +0000 UTC"),
    ("date('2023-08-14 12:00:00.123456789')", "date 2023-08-14 12:00:00.123456789 +0000 UTC"),
    ("date('2023-08-14T02:00:00+02:00')", "date 2023-08-14 02:00:00 +0200 +0200"),
    ("date('2023-08-14T12:00:00.1234567899Z')", "date 2023-08-14 12:00:00.123456789 +0000 UTC"),
    ("date('2023-08-14T12:00:00,5Z')", "date 2023-08-14 12:00:00.5 +0000 UTC"),
    ("date('2023-08-14T12:00:00+24:60')", "date 2023-08-14 12:00:00 +2500 +2500"),
    ("date('02 Jan 06 15:04 MST')", "date 2006-01-02 15:04:00 +0000 MST"),
    ("date('Monday, 02-Jan-06 15:04:05 CET')", "date 2006-01-02 15:04:05 +0000 CET"),
    ("date('Mon, 02 Jan 2006 15:04:05 GMT')", "date 2006-01-02 15:04:05 +0000 GMT"),
    ("date('Fri, 02 Jan 2006 15:04:05 UTC')", "date 2006-01-02 15:04:05 +0000 UTC"),
    ("date('2006.01.02', '2006.01.02')", "date 2006-01-02 00:00:00 +0000 UTC"),
    ("date('', '')", "date 0000-01-01 00:00:00 +0000 UTC"),
    ("date('60', '06')", "date 2060-01-01 00:00:00 +0000 UTC"),
    ("date('69', '06')", "date 1969-01-01 00:00:00 +0000 UTC"),
    ("date('-5', '06')", "date 1995-01-01 00:00:00 +0000 UTC"),
    ("date('226 2023', '002 2006')", "date 2023-08-14 00:00:00 +0000 UTC"),
    ("date('366 2024', '002 2006')", "date 2024-12-31 00:00:00 +0000 UTC"),
    ("date(' 60 2024', '__2 2006')", "date 2024-02-29 00:00:00 +0000 UTC"),
    ("date('12AM', '3PM')", "date 0000-01-01 00:00:00 +0000 UTC"),
    ("date('12pm', '03pm')", "date 0000-01-01 12:00:00 +0000 UTC"),
    ("date('0PM', '3PM')", "date 0000-01-01 12:00:00 +0000 UTC"),
    ("date('jan 5', 'Jan _2')", "date 0000-01-05 00:00:00 +0000 UTC"),
    ("date('JANUARY  5', 'January _2')", "date 0000-01-05 00:00:00 +0000 UTC"),
    ("date('_2023', '_2006')", "date 2023-01-01 00:00:00 +0000 UTC"),
    ("date('2023  08', '2006 01')", "date 2023-08-01 00:00:00 +0000 UTC"),
    ("date('2023', '2006 ')", "date 2023-01-01 00:00:00 +0000 UTC"),
    ("date('Month 3', 'Month 1')", "date 0000-03-01 00:00:00 +0000 UTC"),
    ("date('1:2.25', '4:5.00')", "date 0000-01-01 00:01:02.25 +0000 UTC"),
    ("date('1:2', '4:5.9')", "date 0000-01-01 00:01:02 +0000 UTC"),
    ("date('1:2,123456', '4:5.9')", "date 0000-01-01 00:01:02.123456 +0000 UTC"),
    ("date('1:2.123456789xx', '4:5.00000000000')", "date 0000-01-01 00:01:02.123456789 +0000 UTC"),
    ("date('2023 -070809', '2006 -070000')", "date 2023-01-01 00:00:00 -0708 -0708"),
    ("date('2023 Z', '2006 Z07')", "date 2023-01-01 00:00:00 +0000 UTC"),
    ("date('2023 +05', '2006 Z07')", "date 2023-01-01 00:00:00 +0500 +0500"),
    ("date('2023 GMT+5', '2006 MST')", "date 2023-01-01 05:00:00 +0500 GMT+5"),
    ("date('2023 +05', '2006 MST')", "date 2023-01-01 00:00:00 +0000 +05"),
    ("date('2023 WITA', '2006 MST')", "date 2023-01-01 00:00:00 +0000 WITA"),
    ("date('2023 ChST', '2006 MST')", "date 2023-01-01 00:00:00 +0000 ChST"),
    # time zones
    ("timezone('')", "timezone UTC"), (ZURICH, "timezone Europe/Zurich"),
    (f"{DAY}.In({ZURICH})", "date 2023-08-14 02:00:00 +0200 CEST"),
    ("date('2023-08-14', '2006-01-02', '')", "date 2023-08-14 00:00:00 +0000 UTC"),
    ("date('2023-08-14 12', '2006-01-02 15', 'Europe/Zurich')", "date 2023-08-14 12:00:00 +0200 CEST"),
    ("date('2023-03-26 02:30', '2006-01-02 15:04', 'Europe/Zurich')", "date 2023-03-26 03:30:00 +0200 CEST"),
    ("date('2023-10-29 02:30', '2006-01-02 15:04', 'Europe/Zurich')", "date 2023-10-29 02:30:00 +0100 CET"),
    ("date('0001', '2006', 'Europe/Zurich')", "date 0001-01-01 00:00:00 +0034 LMT"),
    ("date('0000-01-01', '2006-01-02', 'Asia/Tokyo')", "date 0000-01-01 00:00:00 +0918 LMT"),
    ("date('9999-12-31 23:59', '2006-01-02 15:04', 'America/New_York')", "date 9999-12-31 23:59:00 -0500 EST"),
    ("date('2023-08-14 +0100', '2006-01-02 -0700', 'Europe/Lisbon')", "date 2023-08-14 00:00:00 +0100 WEST"),
    ("date('2023-08-14 BST', '2006-01-02 MST', 'Europe/London')", "date 2023-08-14 00:00:00 +0100 BST"),
    ("date('2023-01-14 BST', '2006-01-02 MST', 'Europe/London')", "date 2023-01-13 23:00:00 +0000 GMT"),
    ("date('2023-01-14 LMT', '2006-01-02 MST', 'Europe/London')", "date 2023-01-14 00:01:15 +0000 GMT"),
    ("date('2023-01-14 CET', '2006-01-02 MST', 'Europe/Lisbon')", "date 2023-01-13 23:00:00 +0000 WET"),
    ("date('2023-01-14 PST', '2006-01-02 MST', 'Europe/London')", "date 2023-01-14 00:00:00 +0000 PST"),
    (f"(date('9999-12-31') + duration('2540400h')).In({ZURICH})", "date 10289-10-21 02:00:00 +0200 CEST"),
    # methods of dates
    (f"{DAY}.Year()", "int 2023"), (f"{DAY}.Month()", "month August"), (f"{DAY}.Day()", "int 14"),
    (f"{DAY}.Hour()", "int 0"), (f"{DAY}.Weekday()", "weekday Monday"), (f"{DAY}.YearDay()", "int 226"),
    ("date('15:04:05.5').Minute()", "int 4"), ("date('15:04:05.5').Second()", "int 5"),
    ("date('15:04:05.5').Nanosecond()", "int 500000000"), (f"{DAY}.Unix()", "int 1691971200"),
    (f"{DAY}.UnixMilli()", "int 1691971200000"), (f"{DAY}.UnixMicro()", "int 1691971200000000"),
    (f"{DAY}.UnixNano()", "int 1691971200000000000"), ("date('1969-12-31T23:59:59.5Z').Unix()", "int -1"),
    ("date('0000-01-01').UnixNano()", "int -6826986978871345152"),
    (f"{DAY}.Zone()", "string UTC"), (f"{DAY}.In({ZURICH}).Zone()", "string CEST"),
    ("date('2023-08-14T00:00:00+01:00').Zone()", "string "),
    (f"{DAY}.Location()", "timezone UTC"), (f"{DAY}.In({ZURICH}).UTC()", "date 2023-08-14 00:00:00 +0000 UTC"),
    (f"{DAY}.Add(duration('1h'))", "date 2023-08-14 01:00:00 +0000 UTC"),
    (f"{DAY}.AddDate(0, 1, 20)", "date 2023-10-04 00:00:00 +0000 UTC"),
    (f"{DAY}.AddDate(0, -8, -14)", "date 2022-11-30 00:00:00 +0000 UTC"),
    ("date('2023-10-31 02:30:00').AddDate(0, 1, 0)", "date 2023-12-01 02:30:00 +0000 UTC"),
    (f"{DAY}.Sub(date('2023-08-13'))", "duration 24h0m0s"), (f"{DAY}.Before(date('2023-08-15'))", "bool true"),
    (f"{DAY}.After({DAY})", "bool false"), (f"{DAY}.Equal({DAY}.In({ZURICH}))", "bool true"),
    (f"{DAY}.Compare(date('2023-08-15'))", "int -1"), (f"{DAY}.Compare({DAY})", "int 0"),
    (f"{DAY}.Round(duration('36h'))", "date 2023-08-14 12:00:00 +0000 UTC"),
    ("date('2023-08-14T12:30:00Z').Round(duration('1h'))", "date 2023-08-14 13:00:00 +0000 UTC"),
    ("date('0000-08-14T12:30:00Z').Truncate(duration('7h'))", "date 0000-08-14 07:00:00 +0000 UTC"),
    (f"{DAY}.Truncate(duration('0'))", "date 2023-08-14 00:00:00 +0000 UTC"),
    (f"{DAY}.IsZero()", "bool false"), ("date('0001-01-01').IsZero()", "bool true"),
    (f"{DAY}.String()", "string 2023-08-14 00:00:00 +0000 UTC"),
    # duration and its methods; plugin/duration.py has more texts
    ("duration('1h')", "duration 1h0m0s"), ("duration('-1.5s')", "duration -1.5s"), ("duration('0')", "duration 0s"),
    ("duration('1\u00b5s')", "duration 1\u00b5s"), ("duration('1h').Hours()", "float 1"),
    ("duration('90m').Hours()", "float 1.5"), ("duration('-90s').Minutes()", "float -1.5"),
    ("duration('1500ms').Seconds()", "float 1.5"), ("duration('-1500us').Milliseconds()", "int -1"),
    ("duration('1500ns').Microseconds()", "int 1"), ("duration('1us').Nanoseconds()", "int 1000"),
    ("duration('-1h').Abs()", "duration 1h0m0s"), ("duration('1h').String()", "string 1h0m0s"),
    ("duration('-9223372036854775808ns').Abs()", "duration 2562047h47m16.854775807s"),
    ("duration('90m').Round(duration('1h'))", "duration 2h0m0s"),
    ("duration('-90m').Round(duration('1h'))", "duration -2h0m0s"),
    ("duration('-89m').Round(duration('1h'))", "duration -1h0m0s"),
    ("duration('9223372036854775807ns').Round(duration('1h'))", "duration 2562047h47m16.854775807s"),
    ("duration('-9223372036854775808ns').Round(duration('1h'))", "duration -2562047h47m16.854775808s"),
    ("duration('-90m').Truncate(duration('1h'))", "duration -1h0m0s"),
    ("duration('90m').Truncate(duration('-1h'))", "duration 1h30m0s"),
    ("duration('90m').Round(duration('0'))", "duration 1h30m0s"),
    # Format
    (f"{DAY}.Format('2006')", "string 2023"), (f"{DAY}.Format('')", "string "),
    (f"{DAY}.In(timezone('America/New_York')).Format('Mon Jan _2 15:04:05 MST 2006')", "string Sun Aug 13 20:00:00 EDT 2023"),
    (f"{DAY}.Format('Monday January 01 1 02 2 _2 002 __2')", "string Monday August 08 8 14 14 14 226 226"),
    (f"{DAY}.Format('15 3 03 4 04 5 05 PM pm')", "string 00 12 12 0 00 0 00 AM am"),
    ("date('2023-03-04T15:06:07Z').Format('15 3 03 4 5 PM pm _2 __2')", "string 15 3 03 6 7 PM pm  4  63"),
    ("date('15:04:05.12').Format('.000 .999 ,0 ,9 .000000000 .0000000000')", "string .120 .12 ,1 ,1 .120000000 .120000000"),
    ("date('15:04:05').Format('.00|.99|06|2006')", "string .00||00|0000"),
    ("date('15:04:05.001').Format('5.99|.005')", "string 5|.005"),
    (f"{DAY}.Format('-07 -0700 -07:00 -070000 -07:00:00 Z07 Z0700')", "string +00 +0000 +00:00 +000000 +00:00:00 Z Z"),
    ("date('0001', '2006', 'Europe/Zurich').Format('Z07 Z0700 Z07:00 Z070000 Z07:00:00')", "string +00 +0034 +00:34 +003408 +00:34:08"),
    ("date('0001', '2006', 'America/New_York').Format('-07 -07:00:00')", "string -04 -04:56:02"),
    ("date('2023-08-14T00:00:00+01:00').Format('MST')", "string +0100"),
    ("(date('0000-01-01') - duration('24000h')).Format('2006 06')", "string -0003 03"),
    ("(date('9999-12-31') + duration('24000h')).Format('2006 06')", "string 10002 02"),
    (f"{DAY}.Format('Janet Monkey Months 20060102_2006 __2006')", "string Janet Monkey Months 20230814_2023 226023"),
    # operators
    (f"{DAY} - date('2023-08-13')", "duration 24h0m0s"),
    (f"{DAY} - duration('1h')", "date 2023-08-13 23:00:00 +0000 UTC"),
    (f"duration('1h') + {DAY}", "date 2023-08-14 01:00:00 +0000 UTC"),
    (f"{DAY}.In({ZURICH}) + duration('1h')", "date 2023-08-14 03:00:00 +0200 CEST"),
    ("date('9999-12-31') - date('0000-01-01')", "duration 2562047h47m16.854775807s"),
    ("date('0000-01-01') - date('9999-12-31')", "duration -2562047h47m16.854775808s"),
    ("date('9999-12-31') + duration('2400h')", "date 10000-04-09 00:00:00 +0000 UTC"),
    ("date('0000-01-01') - duration('2400h')", "date -0001-09-23 00:00:00 +0000 UTC"),
    ("duration('1h') + duration('1m')", "duration 1h1m0s"), ("duration('1h') - duration('2h')", "duration -1h0m0s"),
    ("duration('9223372036854775807ns') + duration('1ns')", "duration -2562047h47m16.854775808s"),
    ("duration('9223372036854775807ns') * 2", "duration -2ns"),
    ("duration('-9223372036854775808ns') * -1", "duration -2562047h47m16.854775808s"),
    (f"{DAY} - duration('-9223372036854775808ns')", "date 1731-05-05 00:12:43.145224192 +0000 UTC"),
    ("duration('1h') * 2", "duration 2h0m0s"), ("2 * duration('1h')", "duration 2h0m0s"),
    ("duration('1h') * 2.5", "float 9e+12"), ("0.5 * duration('1h')", "float 1.8e+12"),
    ("duration('1h') * duration('2ns')", "duration 2h0m0s"),
    (f"{DAY} == date('2023-08-14T02:00:00+02:00')", "bool true"), (f"{DAY} != {DAY}", "bool false"),
    ("duration('60m') == duration('1h')", "bool true"), (f"{DAY} == nil", "bool false"),
    (f"{DAY} < date('2023-08-15') < date('2023-08-16')", "bool true"), (f"{DAY} >= {DAY}", "bool true"),
    ("duration('1h') <= duration('1m')", "bool false"), ("duration('2m') > duration('1m')", "bool true"),
    (f"{DAY}.Month() == date('2024-08-01').Month()", "bool true"), (f"{DAY} in [{DAY}]", "bool true"),
    (f"timezone('UTC') == {DAY}.Location()", "bool true"), (f"{ZURICH} == {ZURICH}", "bool true"),
    (f"date('2023-08-14T00:00:00+01:00').Location() == {ZURICH}", "bool false"),
    (f"anything({DAY}) - duration('1h')", "date 2023-08-13 23:00:00 +0000 UTC"),
    ("anything(2) * duration('1h')", "duration 2h0m0s"), (f"anything({DAY}) == 1", "bool false"),
    (f"anything({DAY}) < {DAY}", "bool false"), ("anything(duration('1h')) == 3600000000000", "bool false"),
    # other functions
    (f"int({DAY}.Month())", "int 8"), (f"int({DAY}.Weekday())", "int 1"), ("int(duration('1us'))", "int 1000"),
    (f"string({DAY}.Month())", "string August"), (f"{DAY}.Weekday().String()", "string Monday"),
    ("string(duration('1h'))", "string 1h0m0s"), (f"string([{DAY}])", "string [2023-08-14 00:00:00 +0000 UTC]"),
    (f"toJSON({DAY}.In(timezone('Asia/Kolkata')))", 'string "2023-08-14T05:30:00+05:30"'),
    ("toJSON(date('15:04:05.5'))", 'string "0000-01-01T15:04:05.5Z"'), ("toJSON(duration('1us'))", "string 1000"),
    (f"toJSON({DAY}.Month())", "string 8"), (f"toJSON({ZURICH})", "string {}"),
    (f"type({DAY})", "string time.Time"), ("type(duration('1h'))", "string time.Duration"),
    (f"type({ZURICH})", "string time.Location"), (f"type({DAY}.Month())", "string time.Month"),
    (f"type({DAY}.Weekday())", "string time.Weekday"),
    (f"sort([{DAY}, date('2023-08-13')])[0].Day()", "int 13"),
    ("sortBy(['2h', '1h', '3h'], duration(#))", "array [1h 2h 3h]"),
    ("sort([duration('1h'), duration('2h')], 'desc')", "array [2h0m0s 1h0m0s]"),
    ("sum([duration('2h'), duration('1h')])", "duration 3h0m0s"),
    ("reduce([duration('2h'), duration('1h')], #acc + #)", "duration 3h0m0s"),
    ("max(duration('1h'), duration('2h'))", "duration 2h0m0s"),
    ("min(duration('3h'), duration('1h'), duration('2h'))", "duration 1h0m0s"),
    (f"uniq([{DAY}, {DAY}.In({ZURICH})])", "array [2023-08-14 00:00:00 +0000 UTC]"),
    (f"groupBy([{DAY}, {DAY}], #)[{DAY}] | len()", "int 2"),
    (f"map([{DAY}], .Year())", "array [2023]"), ("map(['1h'], duration(#).Hours())", "array [1]"),
    (f"{{a: {DAY}}}.a.Year()", "int 2023"), (f"anything({DAY}).Year()", "int 2023"),
    (f"anything({DAY})?.Year()", "int 2023"), (f"{DAY}?.Year()", "int 2023"), ("anything(nil)?.Year()", "nil <nil>"),
    ("anything(nil)?.Add(duration('1h')).Year()", "nil <nil>"), (f"{DAY} | string()", "string 2023-08-14 00:00:00 +0000 UTC"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), VALUES, ids=range(len(VALUES)))
def test_values(text, expected):
    assert shown(text) == expected


TYPES = [
    (DAY, "date"), ("duration('1h')", "duration"), (ZURICH, "timezone"), (f"{DAY}.Month()", "month"),
    (f"{DAY} - {DAY}", "duration"), (f"{DAY} + duration('1h')", "date"), ("duration('1h') * 2", "duration"),
    ("duration('1h') * 0.5", "float"), ("anything(1) * duration('1h')", "any"), (f"anything(1) - {DAY}", "any"),
    (f"anything({DAY}).Year()", "int"), (f"anything({DAY}).Round(duration('1h'))", "any"),
    (f"anything({DAY}).String()", "any"), ("max(duration('1h'), duration('2h'))", "duration"),
    (f"true ? nil : {DAY}", "date"), (f"[{DAY}]", "array of date"), (f"map([{DAY}], .Year())", "array of int"),
    (f"(anything(true) ? nil : {DAY})?.Year()", "int"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TYPES)
def test_types(text, expected):
    assert str(compile_(text, ENVIRONMENT).type) == expected


PROBLEMS = [
    ("now()", 0, "now is not supported", None),
    ("now().Year()", 0, "now is not supported", None),
    ("date()", 0, "not enough arguments for date", None),
    ("date(1)", 5, "date needs string, not int", None),
    ("date('a', 'b', 'c', 'd')", 20, "too many arguments for date", None),
    (f"date({ZURICH}, '2006')", 5, "date needs string, not timezone", None),
    ("duration(1)", 9, "duration needs string, not int", None),
    ("timezone(1)", 9, "timezone needs string, not int", None),
    (f"{DAY}.Foo()", 19, "a value of the type date has no method 'Foo'", None),
    (f"{DAY}.Yeer()", 19, "a value of the type date has no method 'Yeer'", "did you mean 'Year'?"),
    (
        "1 + 'a'.Year()",
        8,
        "a value of the type string has no method 'Year'",
        "functions are called",
    ),
    ("anything(1).Yeer()", 12, "no value has a method 'Yeer'", "did you mean 'Year'?"),
    ("{a: 1}.a.nosuch()", 9, "no value has a method 'nosuch'", None),
    (f"{DAY}.Year(1)", 24, "too many arguments for Year", None),
    (f"{DAY}.Add()", 19, "not enough arguments for Add", None),
    (f"{DAY}.Add(1)", 23, "Add needs duration, not int", None),
    (f"anything({DAY}).Add(1)", 33, "Add needs duration, not int", None),
    (f"{DAY}.In('UTC')", 22, "In needs timezone, not string", None),
    (f"{DAY}.AddDate(1.5, 0, 0)", 27, "AddDate needs int, not float", None),
    (
        f"{DAY}.Year",
        19,
        "a value of the type date has no field 'Year'",
        "a method is called: .Year()",
    ),
    (f"{DAY}.Foo", 19, "a value of the type date has no field 'Foo'", None),
    (f"{DAY}[0]", 18, "a value of the type date has no elements", None),
    (f"{DAY}.Month() == 8", 27, "== does not work for month and int", "int(...) makes a number"),
    (f"{DAY}.Weekday() > 1", 29, "> does not work for weekday and int", "int(...) makes a number"),
    (
        f"{DAY} == '2023-08-14'",
        19,
        "== does not work for date and string",
        "date(...) makes a date",
    ),
    ("duration('1h') > '1m'", 15, "> does not work for duration and string", "duration(...) makes"),
    ("duration('1h') > 5", 15, "> does not work for duration and int", "int(...) makes a number"),
    (f"{DAY}.Month() < {DAY}.Month()", 27, "< does not work for month and month", None),
    (f"{DAY} + 1", 19, "+ does not work for date and int", None),
    (f"{DAY} + {DAY}", 19, "+ does not work for date and date", None),
    (f"duration('1h') - {DAY}", 15, "- does not work for duration and date", None),
    ("duration('1h') / 2", 15, "/ does not work for duration and int", None),
    ("duration('1h') % duration('1m')", 15, "% does not work for duration and duration", None),
    ("-duration('1h')", 0, "- needs a number, not duration", None),
    (f"{DAY} < duration('1h')", 19, "< does not work for date and duration", None),
    (f"1 in [{DAY}]", 2, "an element of the array is never a value of the type int", None),
    (f"len({DAY})", 4, "len needs string or array or map, not date", None),
    (f"max({DAY})", 4, "max needs int or float or array or duration, not date", None),
    (".Year()", 0, "# is outside of a predicate", "a predicate is an argument"),
    (f"{DAY} ? 1 : 2", 0, "the condition is not a bool, but date", None),
]


@pytest.mark.parametrize(("text", "offset", "message", "hint"), PROBLEMS)
def test_mistakes_have_a_column(text, offset, message, hint):
    with pytest.raises(ExpressionProblem) as caught:
        compile_(text, ENVIRONMENT)
    assert (caught.value.offset, str(caught.value)) == (offset, message)
    assert hint is None or hint in str(caught.value.hint)


NOT_IN_LAYOUT = [
    ("2023-02-30", "2006-01-02"), ("2023-13-01", "2006-01-02"), ("2023-00-01", "2006-01-02"),
    ("2023-08-00", "2006-01-02"), ("2023-8-14", "2006-01-02"), (" 2023-08-14", "2006-01-02"),
    ("2023-08-14 ", "2006-01-02"), ("2023-08-14", "02/01/2006"), ("a", ""), ("", "2006"),
    ("\u0662\u0660\u0662\u0663", "2006"), ("24", "15"), ("13PM", "3PM"), ("60", "4"), ("60", "5"),
    ("366 2023", "002 2006"), ("000 2023", "002 2006"), ("5 2023", "002 2006"), ("032 01", "002 01"),
    ("032 02", "002 2"), ("May", "January 2"), ("\u017fep", "Jan"), ("12pm", "3PM"), ("Mun", "Mon"),
    ("+25:00", "Z07:00"), ("+01:61", "Z07:00"), ("+01:00:61", "Z07:00:00"), ("+0100", "Z07:00"), ("z", "Z07"),
    ("MS", "MST"), ("MSTX", "MST"), ("ABCDEF", "MST"), ("GMT+24", "MST"), ("+24", "MST"), ("mst", "MST"),
    (".1", ".00"), (".1x", ".00"), ("x12", ".00"), ("+x", "06"), ("5", "06"), ("2006  x", "2006 01"), ("7x", "3 x"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "layout"), NOT_IN_LAYOUT)
def test_texts_that_are_not_in_the_layout(text, layout):
    with pytest.raises(ExpressionError) as caught:
        read_date(frame(), text, layout, UTC)
    assert str(caught.value) == f"date: {text!r} is not in the layout {layout!r}"


LONG = "9" * 500
FAILURES = [
    ("date('error')", "date: 'error' is not a date, such as 2006-01-02"),
    ("date('')", "date: '' is not a date, such as 2006-01-02"),
    ("date('23:59')", "date: '23:59' is not a date, such as 2006-01-02"),
    (f"date('{LONG}')", f"date: '{LONG[:64]}' is not a date, such as 2006-01-02"),
    (f"date('{LONG}', '{LONG}x')", f"date: '{LONG[:64]}' is not in the layout '{LONG[:64]}'"),
    ("date(anything(1))", "date needs a string, not int"),
    ("date('2006', anything(nil))", "date needs a string, not nil"),
    ("date('2006', '2006', anything(1))", "a time zone needs a string, not int"),
    ("duration('1d')", "unknown unit 'd' in duration '1d'"),
    ("duration('9223372036854775808ns')", "invalid duration '9223372036854775808ns'"),
    (f"duration('{LONG}')", f"missing unit in duration '{LONG}'"[:120]),
    ("duration(anything(1))", "duration needs a string, not int"),
    ("timezone('Nowhere/City')", "unknown time zone 'Nowhere/City'"),
    ("timezone('utc')", "unknown time zone 'utc'"),
    ("timezone('Europe')", "unknown time zone 'Europe'"),
    ("timezone('leapseconds')", "unknown time zone 'leapseconds'"),
    ("timezone('../etc/passwd')", "unknown time zone '../etc/passwd'"),
    ("timezone('/etc/localtime')", "unknown time zone '/etc/localtime'"),
    ("timezone('a\\x00b')", "unknown time zone 'a\\x00b'"),
    (f"timezone('{LONG}')", f"unknown time zone '{LONG[:64]}'"),
    ("timezone('Local')", "time zone 'Local' differs between hosts; use UTC or Europe/Zurich"),
    ("anything(1).Year()", "int has no method 'Year'"),
    ("anything(nil).Year()", "nil has no method 'Year'"),
    ("anything(1)?.Year()", "int has no method 'Year'"),
    ("(anything(true) ? nil : date('2006-01-02')).Year()", "nil has no method 'Year'"),
    (f"{DAY}.Add(anything(1))", "Add needs a duration, not int"),
    (f"{DAY}.In(anything('UTC'))", "In needs a timezone, not string"),
    (f"{DAY}.Sub(anything(nil))", "Sub needs a date, not nil"),
    (f"{DAY}.Format(anything(1))", "Format needs a string, not int"),
    (f"{DAY}.AddDate(0, anything('1'), 0)", "AddDate needs an int, not string"),
    (f"{DAY}.AddDate(9223372036854775807, 0, 0)", "the date is out of range"),
    (f"{DAY}.AddDate(0, -9223372036854775807, 0)", "the date is out of range"),
    (f"{DAY}.AddDate(0, 0, 9223372036854775807)", "the date is out of range"),
    (f"reduce(1..99, #acc.AddDate(999999999, 0, 0), {DAY}).Year()", "the date is out of range"),
    (f"anything({DAY}) + 1", "+ does not work for date and int"),
    ("anything(5) - duration('1h')", "- does not work for int and duration"),
    (f"anything({DAY}) < duration('1h')", "date and duration have no order"),
    (f"anything({DAY}.Month()) < anything({DAY}.Month())", "month and month have no order"),
    (f"sort([{DAY}, duration('1h')])", "only numbers, only strings, or only dates can be sorted"),
    ("sort([1, duration('1h')])", "only numbers, only strings, or only dates can be sorted"),
    ("max(duration('1h'), 5)", "max needs durations, not int"),
    ("max(5, duration('1h'))", "max needs numbers, not duration"),
    ("sum([1, duration('1h')])", "+ does not work for duration and int"),
    ("toJSON(date('9999-12-31') + duration('24h'))", "toJSON: the date 10000-01-01 00:00:00 +0000 UTC has no form in JSON"),
    ("toJSON(date('2023-08-14T00:00:00+24:00'))", "toJSON: the date 2023-08-14 00:00:00 +2400 +2400 has no form in JSON"),
    ("toJSON(date('0000-01-01') - duration('24h'))", "toJSON: the date -0001-12-31 00:00:00 +0000 UTC has no form in JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), FAILURES, ids=range(len(FAILURES)))
def test_failures(text, message):
    with pytest.raises(ExpressionError) as caught:
        evaluate(text)
    assert str(caught.value) == message


WARNINGS = [
    ("true || date('2023-02-30').Year() == 1", 13, "date: '2023-02-30' is not a date, such as 2006-01-02"),
    ("date(type(1), '2006', 'Nowhere/City')", 22, "unknown time zone 'Nowhere/City'"),
    ("date('1', '2006', 'Nowhere/City')", 18, "unknown time zone 'Nowhere/City'"),
    ("duration('1d').Hours() > 1", 9, "unknown unit 'd' in duration '1d'"),
    (f"{DAY}.AddDate(9999999999, 0, 0)", 19, "the date is out of range"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "offset", "message"), WARNINGS)
def test_a_constant_that_always_fails_is_a_warning(text, offset, message):
    """As in CoreDNS, it is not an error: the expression may never come to it."""
    (warning,) = compile_(text, ENVIRONMENT).warnings
    assert (warning.offset, str(warning)) == (offset, f"{message}, so the expression fails")


def test_constants_are_computed_once():
    compiled = compile_(f"{DAY}.In({ZURICH}).Format('2006') + string({DAY})", ENVIRONMENT)
    assert compiled.warnings == ()
    for text in (DAY, f"{DAY}.In({ZURICH}).Year()", "duration('1h').Hours()"):
        run, spent = compile_(text, ENVIRONMENT).run, frame()
        spent.steps = spent.memory = 0
        assert run(spent) is run(spent)


def test_a_host_without_a_database(monkeypatch):
    load_zone.cache_clear()
    zoneinfo.ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=())
    for name in ("tzdata", *(name for name in sys.modules if name.startswith("tzdata."))):
        monkeypatch.setitem(sys.modules, name, None)
    try:
        assert shown("timezone('UTC')") == "timezone UTC"
        (warning,) = compile_(ZURICH, ENVIRONMENT).warnings
    finally:
        zoneinfo.reset_tzpath()
    assert str(warning).startswith(
        "unknown time zone 'Europe/Zurich': install the package tzdata, the database of time zones"
    )


@pytest.mark.parametrize(
    ("count", "steps", "memory"),
    [
        (lambda it: read_date(it, "2023" + " " * 1000, "2006 ", UTC), 2, 1009),
        (lambda it: read_date(it, "2023 ", "2006" + " " * 1000, UTC), 1004, 1009),
        (lambda it: format_date(it, evaluate(DAY), "1" * 1000), 1000, 2000),
        (lambda it: BUILTINS["timezone"].call(it, "UTC"), 200, 0),
        (lambda it: BUILTINS["date"].call(it, "2023", "2006", "UTC"), 202, 8),
        (lambda it: BUILTINS["duration"].call(it, "1h1m"), 4, 0),
    ],
    ids=["text", "layout", "Format", "zone", "date in a zone", "duration"],
)
def test_the_work_is_counted(count, steps, memory):
    count(it := frame())
    assert (MOST_STEPS - it.steps, MOST_MEMORY - it.memory) == (steps, memory)


def test_only_names_of_zones_become_names_of_files(monkeypatch):
    monkeypatch.setattr(zoneinfo, "ZoneInfo", pytest.fail)
    for name in ("a.b", "../x", "/etc/x", "a//b", "a/", "é", "a\n", "a\0", "a" * 65):
        with pytest.raises(ExpressionError, match="unknown time zone"):
            load_zone(name)


def test_dates_outside_of_expressions_are_text():
    value = evaluate(f"{{at: [{DAY}], long: duration('1h'), zone: {ZURICH}, month: {DAY}.Month()}}")
    assert plain(value) == {
        "at": ["2023-08-14 00:00:00 +0000 UTC"],
        "long": "1h0m0s",
        "zone": "Europe/Zurich",
        "month": "August",
    }
    assert plain(evaluate(DAY)) == "2023-08-14 00:00:00 +0000 UTC"
    assert plain(evaluate(f"groupBy([1], {DAY})")) == {"2023-08-14 00:00:00 +0000 UTC": [1]}


def test_each_method_is_in_the_table():
    called = {name for name in METHODS if any(f".{name}(" in text for text, _ in VALUES)}
    assert called == METHODS.keys()


DATES = st.builds(
    Date,
    st.integers(-(10**20), 3 * 10**20),
    st.sampled_from(["UTC", "Europe/Zurich", "America/St_Johns", "Australia/Lord_Howe"]).map(load_zone),
)  # fmt: skip


OF_SUBJECT = Environment.of(
    Function(name, (), type_, lambda subject, name=name: subject[name])
    for name, type_ in (("left", DATE), ("right", DATE), ("between", STRING), ("fits", BOOL))
)
RELATIONS = [
    compile_(text, OF_SUBJECT)
    for text in (
        "fits() ? right() + duration(between()) == left() : nil",
        "fits() ? left() - right() == duration(between()) : nil",
        "left() < right()",
        "left().Before(right())",
        "left().AddDate(0, 0, 0).Sub(left()).Abs() <= duration('1h')",
    )
]


@settings(max_examples=40, deadline=None)
@given(DATES, DATES)
def test_dates_and_durations_fit_together(one, other):
    between = one.instant - other.instant
    fits = -(2**63) <= between < 2**63
    subject = {"left": one, "right": other, "between": f"{between}ns", "fits": fits}
    found = [compiled.evaluate(subject) for compiled in RELATIONS]
    is_less = one.instant < other.instant
    assert found == [fits or None, fits or None, is_less, is_less, True]


@settings(max_examples=30, deadline=None)
@given(DATES.filter(lambda date: -(6 * 10**19) < date.instant < 25 * 10**19))
def test_a_date_in_a_layout_is_read_again(date):
    for layout in (
        "2006-01-02 15:04:05.999999999 Z07:00:00",
        "002 2006 3:4:5.000000000PM -070000",
        "Monday, January _2 2006 03pm 04:5,999999999 Z070000",
    ):
        text = date_text(date, layout)
        assert read_date(frame(), text, layout, date.zone) == date
    for layout in DEFAULT_LAYOUTS[1:4]:
        text = date_text(date, layout)
        assert evaluate(f"date('{text}').Format('{layout}')") == text


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.sampled_from("012345679-+:.,Z_ JanMondyPpmST"), max_size=24),
    st.text(st.sampled_from("012345679-+:.,Z_ JanMondyPpmST"), max_size=24),
)
def test_any_layout_and_any_text(layout, text):
    """A layout splits into its parts, and any text is read or refused."""
    assert "".join(each.before + each.text for each in elements_of(frame(), layout)) == layout
    for given_text in (text, layout):
        try:
            date = read_date(frame(), given_text, layout, load_zone("Europe/Zurich"))
        except ExpressionError:
            continue
        assert len(date_text(date, layout)) < MOST_TEXT
