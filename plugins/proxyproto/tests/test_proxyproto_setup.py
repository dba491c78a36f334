"""The directive: CoreDNS's cases (plugin/proxyproto/setup_test.go), and the policy that they mean."""

import pytest

from corepy.plugin import ProxyAction, ProxyPolicy
from corepy.testing import refusal, set_up

LOOPBACK, ELSEWHERE = ("127.0.0.1", 1), ("192.0.2.1", 1)
USE, IGNORE, REJECT, SKIP = (
    ProxyAction.USE, ProxyAction.IGNORE, ProxyAction.REJECT, ProxyAction.SKIP,
)  # fmt: skip


def policy_of(options):
    controller = set_up(f"proxyproto {{\n{options}\n}}" if options else "proxyproto")
    assert not controller.handlers
    assert not controller.warnings
    return controller.config.get(ProxyPolicy)


@pytest.mark.parametrize(
    ("options", "loopback", "elsewhere"),
    [
        ("", USE, USE),
        ("allow", USE, USE),
        ("allow 127.0.0.1/8 ::1/128", USE, IGNORE),
        ("allow 127.0.0.1/8 ::1/128\ndefault ignore", USE, IGNORE),
        ("allow 127.0.0.0/8\nallow 192.0.2.0/24", USE, USE),
        ("allow ::ffff:127.0.0.0/104", USE, IGNORE),
        ("allow ::1/128", IGNORE, IGNORE),
        ("default use", USE, USE),
        ("default ignore", IGNORE, IGNORE),
        ("default reject", REJECT, REJECT),
        ("default skip", SKIP, SKIP),
        ("default REJECT\nallow 127.0.0.1/32", USE, REJECT),
        ("default reject\ndefault skip", SKIP, SKIP),
        ("allow 127.0.0.1/32\ndefault use", USE, USE),
    ],
)
def test_the_action_by_peer(options, loopback, elsewhere):
    policy = policy_of(options)
    assert (policy.action(LOOPBACK), policy.action(ELSEWHERE)) == (loopback, elsewhere)
    assert policy.reads_headers is ("default skip" not in options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", (0, 10240)),
        ("udp_session_tracking 28s", (28, 10240)),
        ("allow 10.0.0.0/8\nudp_session_tracking 1m", (60, 10240)),
        ("udp_session_tracking 28s 20000", (28, 20000)),
        ("allow 10.0.0.0/8\nudp_session_tracking 1m 500", (60, 500)),
        ("udp_session_tracking 0", (0, 10240)),
        ("udp_session_tracking -5s 3", (0, 3)),
    ],
)
def test_sessions(options, expected):
    policy = policy_of(options)
    assert (policy.session_seconds, policy.session_limit) == expected


def test_several_directives_add_up():
    policy = set_up("proxyproto {\nallow 127.0.0.1/32\n}\nproxyproto {\ndefault reject\n}").config
    assert policy.get(ProxyPolicy).action(LOOPBACK) is USE
    assert policy.get(ProxyPolicy).action(ELSEWHERE) is REJECT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxyproto {\nunknown\n}", "unknown option"),
        ("proxyproto extra_arg", "wrong argument count"),
        ("proxyproto {\nallow invalid_ip\n}", "invalid CIDR address"),
        ("proxyproto {\nallow 192.0.2.1\n}", "invalid CIDR address"),
        ("proxyproto {\nallow 192.0.2.1/33\n}", "invalid CIDR address"),
        ("proxyproto {\nallow 192.0.2.1/255.255.255.0\n}", "invalid CIDR address"),
        ("proxyproto {\nallow fe80::1%eth0/64\n}", "invalid CIDR address"),
        ("proxyproto {\nallow 127.0.0.1/8\ndefault invalid_policy\n}", "unknown action"),
        ("proxyproto {\ndefault\n}", "wrong argument count"),
        ("proxyproto {\ndefault use reject\n}", "wrong argument count"),
        ("proxyproto {\nudp_session_tracking\n}", "wrong argument count"),
        ("proxyproto {\nudp_session_tracking 28s 100 extra\n}", "wrong argument count"),
        ("proxyproto {\nudp_session_tracking notaduration\n}", "invalid duration"),
        ("proxyproto {\nudp_session_tracking 28s notanumber\n}", "not a whole number"),
        ("proxyproto {\nudp_session_tracking 28s 0\n}", "invalid max sessions"),
        ("proxyproto {\nudp_session_tracking 28s -1\n}", "invalid max sessions"),
    ],
)
def test_refused(text, message):
    assert message in refusal(text).message
