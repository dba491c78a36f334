"""Settings of blocks that share a listener: merged or refused, with a diagnostic at the token."""

import ipaddress
from dataclasses import dataclass

import pytest

from corepy.corefile import CorefileError, parse
from corepy.loading.registry import find
from corepy.plugin import (
    Debug,
    GRPCLimits,
    HTTPS3Limits,
    HTTPSLimits,
    ListenerConfig,
    ListenerSetting,
    ProxyAction,
    ProxyPolicy,
    QUICLimits,
    Timeouts,
    TLSSetting,
    TSIGKeys,
)
from corepy.server.build.builder import build
from corepy.server.listen import transports
from corepy.server.listen.tcp import TCPListener
from corepy.server.listen.transport import Transport
from corepy.testing.inline import inline

SECURE = Transport(
    "tls",
    853,
    (TCPListener,),
    settings=(Timeouts, TSIGKeys, TLSSetting, ProxyPolicy, QUICLimits),
    find_listener_problem=lambda config: (
        None if config.get(TLSSetting).source else "no certificate is configured"
    ),
)
"""A transport that uses settings which plain DNS does not use."""


def setting(make):
    """A setup that stores `make(argument)` for each occurrence of its directive."""

    def setup(controller):
        for _ in controller.occurrences():
            controller.configure(make(controller))

    return setup


def keys_of(controller):
    words = controller.arguments(2)
    pairs = list(zip(words[::2], words[1::2], strict=True))
    return TSIGKeys(
        {name.text.encode(): secret.text.encode() for name, secret in pairs},
        {name.text.encode(): name for name, _ in pairs},
    )


def policy_of(controller):
    networks = (ipaddress.ip_network(it.text) for it in controller.arguments(1))
    return ProxyPolicy(tuple(networks), ProxyAction.IGNORE)


PLUGINS = {
    "certificate": lambda controller: TLSSetting(controller.argument().text),  # compares like one
    "keys": keys_of,
    "policy": policy_of,
    "streams": lambda controller: QUICLimits(max_streams=controller.integer(controller.argument())),
}


@pytest.fixture(autouse=True)
def secure(monkeypatch):
    monkeypatch.setitem(transports._loaded, "tls", SECURE)


def built(text):
    found = {**find(), **{name: inline(name, setting(make)) for name, make in PLUGINS.items()}}
    return build(parse(text, schemes=transports.KNOWN), found=found)


def blocks(*bodies, scheme="tls"):
    zones = ("one", "two", "three")
    return "\n".join(
        f"{scheme}://{zone}.test:5353 {{\n{body}\n}}"
        for zone, body in zip(zones, bodies, strict=False)
    )


def merged(kind, *bodies, scheme="tls"):
    """The setting of the only listener of these blocks, and the warnings."""
    generation = built(blocks(*bodies, scheme=scheme))
    (config,) = generation.settings.values()
    return config.get(kind), [str(warning) for warning in generation.warnings]


def refusals(*bodies, scheme="tls"):
    with pytest.raises(CorefileError) as caught:
        built(blocks(*bodies, scheme=scheme))
    return [str(mistake) for mistake in caught.value.diagnostics]


def test_timeouts_are_merged_by_field_and_the_last_block_decides():
    first = "timeouts {\nread 7s\nidle 20s\nmaxtcpqueries 5\n}"
    second = "timeouts {\nidle 10s\nmaxtcpqueries -1\n}"
    timeouts, warnings = merged(Timeouts, first, second, "whoami", scheme="dns")
    assert (timeouts.read, timeouts.idle, timeouts.write) == (7.0, 10.0, 5.0)
    assert (timeouts.max_queries, warnings) == (None, [])
    assert timeouts.given == {"read", "idle", "max_queries"}


def test_a_limit_that_differs_from_its_default_is_given():
    merged, conflicts = Timeouts.merge([Timeouts(read=7.0), Timeouts(idle=20.0), Timeouts()])
    assert (merged.read, merged.idle, merged.write, conflicts) == (7.0, 20.0, 5.0, [])


def test_two_occurrences_in_a_block_add_up():
    body = "timeouts {\nread 7s\n}\ntimeouts {\nidle 20s\n}"
    timeouts, _ = merged(Timeouts, body, scheme="dns")
    assert (timeouts.read, timeouts.idle) == (7.0, 20.0)


def test_another_value_is_that_of_the_last_block_that_stores_one():
    assert merged(Debug, "whoami", "debug", "whoami", scheme="dns")[0].tracebacks


def test_keys_are_those_of_all_blocks():
    keys, warnings = merged(TSIGKeys, "keys a 1 b 2", "whoami", "keys c 3 a 1", scheme="dns")
    assert (keys.secrets, warnings) == ({b"a": b"1", b"b": b"2", b"c": b"3"}, [])


def test_a_key_with_two_secrets_has_the_last_one_and_a_warning_at_its_name():
    keys, warnings = merged(TSIGKeys, "keys a 1", "keys b 2 a 3", scheme="dns")
    assert keys.secrets == {b"a": b"3", b"b": b"2"}
    message = "this key replaces a key of another server block at this address"
    assert [warning.split("\n")[0] for warning in warnings] == [
        f"Corefile:5:10: warning: {message}"
    ]
    assert "1" not in repr(keys.secrets.keys())
    assert "secrets" not in repr(keys)


def test_two_certificates_at_a_listener_are_refused_at_the_directive():
    message = (
        "another server block at this address has different settings"
        " (give both the same settings, or different addresses)"
    )
    found = refusals("certificate a", "certificate a", "certificate b")
    assert [line.split("\n")[0] for line in found] == [f"Corefile:8:1: {message}"]


def test_a_block_without_a_certificate_uses_that_of_the_others():
    assert merged(TLSSetting, "whoami", "certificate a", "certificate a")[0].source == "a"


def test_a_listener_without_a_certificate_is_refused_at_its_first_key():
    found = refusals("whoami", "whoami")
    problem = "cannot serve tls://one.test.:5353: no certificate is configured"
    assert [line.split("\n")[0] for line in found] == [f"Corefile:1:1: {problem}"]


def test_settings_that_a_transport_does_not_use_do_not_conflict():
    kept, warnings = merged(TLSSetting, "certificate a", "certificate b", scheme="dns")
    assert (kept.source, warnings) == (None, [])
    assert merged(QUICLimits, "streams 1", "streams 2", scheme="dns") == (QUICLimits(), [])


def test_the_first_block_with_limits_decides_and_others_get_a_warning():
    body = "certificate a\nstreams "
    limits, warnings = merged(QUICLimits, "certificate a", body + "7", body + "9")
    assert limits == QUICLimits(max_streams=7)
    message = "these limits have no effect: an earlier server block at this address decides"
    assert [line.split("\n")[0] for line in warnings] == [f"Corefile:10:1: warning: {message}"]


def test_the_last_policy_decides_and_others_get_a_warning():
    body = "certificate a\npolicy "
    policy, warnings = merged(ProxyPolicy, body + "192.0.2.0/24", body + "10.0.0.0/8", "whoami")
    assert policy.action(("10.1.2.3", 1)) is ProxyAction.USE
    assert policy.action(("192.0.2.1", 1)) is ProxyAction.IGNORE
    message = "this policy has no effect: a later server block at this address decides"
    assert [line.split("\n")[0] for line in warnings] == [f"Corefile:3:1: warning: {message}"]


@pytest.fixture
def without_headers(monkeypatch):
    """A transport whose listeners read no PROXY headers."""
    monkeypatch.setitem(transports._loaded, "tls", Transport("tls", 853, (TCPListener,)))


def test_a_policy_is_refused_where_no_header_is_read(without_headers):
    """Otherwise the proxy would be taken for all its clients."""
    found = refusals("policy 10.0.0.0/8")
    message = "tls:// listeners cannot apply policy (remove policy from this server block)"
    assert [line.split("\n")[0] for line in found] == [f"Corefile:2:1: {message}"]


def test_a_diagnostic_appears_once_for_all_addresses_of_a_block(without_headers):
    text = "tls://one.test tls://one.example {\nbind 127.0.0.1 127.0.0.2\npolicy 10.0.0.0/8\n}\n"
    with pytest.raises(CorefileError) as caught:
        built(text)
    assert len(caught.value.diagnostics) == 1


def test_a_setting_of_a_plugin_of_its_own(monkeypatch):
    """Without a rule of its own, different settings are refused; the transport reads its type."""

    @dataclass(frozen=True)
    class Own(ListenerSetting):
        value: str = ""

    own = Transport("tls", 853, (TCPListener,), settings=(Own,))
    monkeypatch.setitem(transports._loaded, "tls", own)
    monkeypatch.setitem(PLUGINS, "own", lambda controller: Own(controller.argument().text))
    assert merged(Own, "own 1", "own 1")[0].value == "1"
    assert len(refusals("own 1", "own 2")) == 1


def test_a_setting_that_cannot_be_merged_is_refused_at_its_directive(monkeypatch):
    @dataclass(frozen=True)
    class Own(ListenerSetting):
        value: str = ""

        @classmethod
        def merge(cls, settings):
            raise SystemExit("no")

    own = Transport("tls", 853, (TCPListener,), settings=(Own,))
    monkeypatch.setitem(transports._loaded, "tls", own)
    monkeypatch.setitem(PLUGINS, "own", lambda controller: Own(controller.argument().text))
    (refusal,) = refusals("own 1", "own 2")
    assert "the settings of the server blocks at this address: SystemExit: no" in str(refusal)
    assert ":5:" in str(refusal)


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        (QUICLimits, (256, 1024, 200)),
        (HTTPSLimits, (200,)),
        (HTTPS3Limits, (256, 200)),
        (GRPCLimits, (256, 200)),
    ],
)
def test_the_defaults_are_those_of_coredns(kind, limits):
    assert ListenerConfig().get(kind) == kind(*limits)


NETWORKS = tuple(
    ipaddress.ip_network(it)
    for it in ("192.0.2.0/25", "192.0.2.128/25", "10.0.0.1/32", "2001:db8::/32", "::/128")
)


@pytest.mark.parametrize(
    ("peer", "action"),
    [
        (("192.0.2.0", 1), ProxyAction.USE),
        (("192.0.2.255", 1), ProxyAction.USE),
        (("192.0.3.0", 1), ProxyAction.SKIP),
        (("192.0.1.255", 1), ProxyAction.SKIP),
        (("10.0.0.1", 1), ProxyAction.USE),
        (("10.0.0.2", 1), ProxyAction.SKIP),
        (("255.255.255.255", 1), ProxyAction.SKIP),
        (("0.0.0.0", 1), ProxyAction.SKIP),
        (("::ffff:10.0.0.1", 1, 0, 0), ProxyAction.USE),
        (("2001:db8::1", 1, 0, 0), ProxyAction.USE),
        (("2001:db7::1%eth0", 1, 0, 0), ProxyAction.SKIP),
        (("::", 1, 0, 0), ProxyAction.USE),
        (b"\2\0\0\5\xc0\0\2\1" + bytes(8), ProxyAction.USE),
        (("", 1), ProxyAction.REJECT),
        (None, ProxyAction.REJECT),
        ("/run/socket", ProxyAction.REJECT),
    ],
)
def test_a_policy_by_the_network_of_the_peer(peer, action):
    assert ProxyPolicy(NETWORKS, ProxyAction.SKIP).action(peer) is action


def test_policies_compare_by_their_settings():
    assert ProxyPolicy(NETWORKS) == ProxyPolicy(NETWORKS)
    assert ProxyPolicy(NETWORKS) != ProxyPolicy(NETWORKS[:1])
    assert ProxyPolicy().action(("192.0.2.1", 1)) is ProxyAction.SKIP


@pytest.mark.parametrize(
    ("policy", "reads", "uses"),
    [
        (ProxyPolicy(), False, False),
        (ProxyPolicy(NETWORKS), True, True),
        (ProxyPolicy(otherwise=ProxyAction.USE), True, True),
        (ProxyPolicy(otherwise=ProxyAction.IGNORE), True, False),
        (ProxyPolicy(otherwise=ProxyAction.REJECT), True, False),
    ],
    ids=["none", "trusted", "use", "ignore", "reject"],
)
def test_which_policies_need_the_headers(policy, reads, uses):
    assert (policy.reads_headers, policy.uses_headers) == (reads, uses)
