"""What *log* accepts and makes of it; the table holds the cases of CoreDNS's setup test."""

import pytest

from corepy.dns.response import ReplyClass
from corepy.plugin.placeholders import COMBINED, COMMON
from corepy.testing import refusal, set_up
from corepy_log.log import ALL, Log, LogRule

DENIAL, ERROR = ReplyClass.DENIAL, ReplyClass.ERROR


def rules(text: str) -> list[LogRule]:
    (handler,) = set_up(text).handlers
    assert isinstance(handler, Log)
    return list(handler.rules)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log", [LogRule(".", COMMON, ALL)]),
        ("log example.org", [LogRule("example.org.")]),
        ("log example.org. {common}", [LogRule("example.org.")]),
        ("log example.org {combined}", [LogRule("example.org.", COMBINED)]),
        (
            "log example.org.\nlog example.net {combined}",
            [LogRule("example.org."), LogRule("example.net.", COMBINED)],
        ),
        (
            "log example.org {host}\nlog example.org {when}",
            [LogRule("example.org.", "{host}"), LogRule("example.org.", "{when}")],
        ),
        ("log example.org example.net", [LogRule("example.org."), LogRule("example.net.")]),
        (
            "log example.org example.net {host}",
            [LogRule("example.org.", "{host}"), LogRule("example.net.", "{host}")],
        ),
        (
            "log example.org example.net {when} {\nclass denial\n}",
            [
                LogRule("example.org.", "{when}", frozenset({DENIAL})),
                LogRule("example.net.", "{when}", frozenset({DENIAL})),
            ],
        ),
        ("log example.org {\nclass all\n}", [LogRule("example.org.")]),
        (
            "log example.org {\nclass denial\n}",
            [LogRule("example.org.", COMMON, frozenset({DENIAL}))],
        ),
        ("log {\nclass denial\n}", [LogRule(".", COMMON, frozenset({DENIAL}))]),
        ("log {\nclass denial error\n}", [LogRule(".", COMMON, frozenset({DENIAL, ERROR}))]),
        ("log {\nclass denial\nclass error\n}", [LogRule(".", COMMON, frozenset({DENIAL, ERROR}))]),
        ("log {\n}", [LogRule()]),
        (
            'log example.org "{combined} {/forward/upstream}"',
            [LogRule("example.org.", COMBINED + " {/forward/upstream}")],
        ),
        (
            'log example.org "{common} {/forward/upstream}"',
            [LogRule("example.org.", COMMON + " {/forward/upstream}")],
        ),
        (
            'log example.org "{when} {combined} {/forward/upstream}"',
            [LogRule("example.org.", "{when} " + COMBINED + " {/forward/upstream}")],
        ),
        (
            "log a b {\nclass denial\n}\nlog c",
            [
                LogRule("a.", COMMON, frozenset({DENIAL})),
                LogRule("b.", COMMON, frozenset({DENIAL})),
                LogRule("c."),
            ],
        ),
        ('log ""', [LogRule(".")]),
    ],
)
def test_rules(text: str, expected: list[LogRule]) -> None:
    assert rules(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log {\nclass abracadabra\n}", "unknown class of replies: 'abracadabra'"),
        ("log {\nclass\n}", "wrong argument count"),
        ("log {\nunknown\n}", "unknown option 'unknown'"),
        ("log { unknown }", "unknown option 'unknown'"),
        ("log {\nclass all\n}\nlog {\nclass none\n}", "unknown class of replies: 'none'"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    assert message in refusal(text).message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log {combined}", "'{combined}' is taken for a name"),
        ("log . {when}", "unknown placeholder {when}, printed unchanged"),
        ("log . {>when}", "unknown placeholder {>when}"),
        ("log . {common} {name}", "'{common}' is taken for a name"),
        ("log a..b", "no query name can be below 'a..b'"),
        ("log " + "a" * 64, "no query name can be below"),
    ],
)
def test_warns(text: str, message: str) -> None:
    (warning,) = set_up(text).warnings
    assert message in warning.message


def test_does_not_warn_of_other_braces() -> None:
    assert set_up('log . "{\\"name\\": \\"{name}\\", \\"id\\": {>id}}"').warnings == []
    assert set_up("log . {/a/b}").warnings == []
