"""The directive: what the original accepts (setup_test.go) is accepted, and mistakes are named."""

import pytest

from corepy.loading.order_table import positions
from corepy.plugin import Denial
from corepy.testing import refusal, set_up
from corepy_ratelimit.handler import RateLimit
from corepy_ratelimit.limiter import DEFAULT_SIZE

PEER = ("192.0.2.7", 53)


def settings(text):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, RateLimit)
    return handler.gate.settings


@pytest.mark.parametrize(
    ("text", "limit", "exempt"),
    [
        ("ratelimit", 50, []),
        ("ratelimit 100", 100, []),
        (
            "ratelimit 50 {\n whitelist 127.0.0.1 176.103.130.130\n}",
            50,
            ["127.0.0.1", "176.103.130.130"],
        ),
        (
            "ratelimit 50 {\n whitelist 127.0.0.1 192.168.1.25 10.240.1.1\n}",
            50,
            ["192.168.1.25", "10.240.1.1", "::ffff:10.240.1.1"],
        ),
        ("ratelimit 1 {\n whitelist\n}", 1, []),
        ("ratelimit {\n whitelist 127.0.0.1\n whitelist ::1\n}", 50, ["127.0.0.1", "::1"]),
        ("ratelimit +7", 7, []),
        ("ratelimit {\n}", 50, []),
    ],
)
def test_what_the_original_accepts(text, limit, exempt):
    found = settings(text)
    assert (found.limit, found.burst, found.action) == (limit, None, Denial.REFUSE)
    assert (found.ipv4_prefix, found.ipv6_prefix) == (32, 64)
    assert (found.slip, found.size, found.is_report) == (0, DEFAULT_SIZE, False)
    assert all((address, 0) in found.exempt for address in exempt)
    assert PEER not in found.exempt


def test_all_options():
    found = settings(
        "ratelimit 20 {\n burst 100\n exempt 192.0.2.0/24 2001:db8::/32 loopback\n"
        " ipv4_prefix 24\n ipv6_prefix 56\n action drop\n slip 2\n size 1000\n report_only\n}"
    )
    assert (found.limit, found.burst, found.ipv4_prefix, found.ipv6_prefix) == (20, 100, 24, 56)
    assert (found.action, found.slip, found.size) == (Denial.DROP, 2, 1000)
    assert found.is_report
    members = ["192.0.2.200", "2001:db8:ffff::1", "127.9.9.9", "::1", "::ffff:192.0.2.1"]
    others = ["192.0.3.1", "2001:db9::", "128.0.0.1", "::2", "::ffff:192.0.3.1"]
    assert [(it, 0) in found.exempt for it in members + others] == [True] * 5 + [False] * 5


@pytest.mark.parametrize(("word", "denial"), [(it.value, it) for it in Denial])
def test_actions(word, denial):
    assert settings(f"ratelimit {{\n action {word}\n}}").action is denial


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("ratelimit error", "not a whole number: 'error'", "error"),
        ("ratelimit 0", "the limit 0 is out of range", "0"),
        ("ratelimit -5", "the limit -5 is out of range", "-5"),
        ("ratelimit 10s", "not a whole number: '10s'", "10s"),
        ("ratelimit {\n blacklist 192.0.2.1\n}", "unknown option 'blacklist'", "blacklist"),
        ("ratelimit {\n exempt localhost\n}", "not an IP address or a network", "localhost"),
        ("ratelimit {\n exempt\n}", "", "exempt"),
        ("ratelimit {\n ipv4_prefix 33\n}", "ipv4_prefix 33 is out of range", "33"),
        ("ratelimit {\n ipv6_prefix 65\n}", "ipv6_prefix 65 is out of range", "65"),
        ("ratelimit {\n ipv4_prefix 0\n}", "ipv4_prefix 0 is out of range", "0"),
        ("ratelimit {\n burst 0\n}", "burst 0 is out of range", "0"),
        ("ratelimit {\n slip 101\n}", "slip 101 is out of range", "101"),
        ("ratelimit {\n size 0\n}", "size 0 is out of range", "0"),
        ("ratelimit {\n action reject\n}", "unknown action 'reject'", "reject"),
        ("ratelimit {\n report_only yes\n}", "", "yes"),
        ("ratelimit 1\nratelimit 2", "this plugin can only be used once per Server Block", None),
    ],
)
def test_mistakes(text, message, at):
    found = refusal(text)
    assert message in found.message
    assert found.token is not None
    assert at in (None, found.token.text)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("ratelimit 50 60", "only the first argument"),
        ("ratelimit {\n whitelist router.lan\n}", "not an IP address: 'router.lan'"),
    ],
)
def test_what_the_original_ignores_is_a_warning(text, warning):
    (found,) = set_up(text).warnings
    assert warning in found.message


def test_the_position_in_the_chain():
    order = [it.directive for it in positions([])[0]]
    assert order.index("dnstap") < order.index("ratelimit") < order.index("local")
