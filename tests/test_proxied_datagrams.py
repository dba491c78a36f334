"""PROXY headers of datagrams: sessions over time, changes of the policy, and any bytes."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.address import host_port
from corepy.net.proxy_header import SIGNATURE_2
from corepy.plugin import ListenerConfig, ProxyAction, ProxyPolicy
from corepy.server.listen.proxied_datagrams import ProxiedDatagrams

NETWORKS = (ipaddress.ip_network("192.0.2.0/24"),)
PROXY, STRANGER = ("192.0.2.1", 4000), ("203.0.113.1", 4000)
QUERY = bytes(12)


def header(number=7):
    addresses = bytes((198, 51, 100, number, 192, 0, 2, 1)) + struct.pack("!HH", 4000, 53)
    return SIGNATURE_2 + b"\x21\x12\0\x0c" + addresses


def proxied(seconds=30.0, limit=2, otherwise=ProxyAction.IGNORE):
    return ProxiedDatagrams(ProxyPolicy(NETWORKS, otherwise, seconds, limit), "dns://:53")


def client_at(it, now, peer=PROXY, data=QUERY):
    payload, client = it.strip(data, peer, now)
    assert payload == QUERY
    return None if client is None else host_port(client)[0]


def test_a_session_lasts_as_long_as_it_is_used():
    it = proxied()
    assert it.strip(header(), PROXY, 0.0) is None
    assert [client_at(it, now) for now in (29.0, 58.0, 87.0)] == ["198.51.100.7"] * 3
    assert client_at(it, 117.0) is None
    assert client_at(it, 117.5) is None
    assert client_at(it, 118.0, data=header(8) + QUERY) == "198.51.100.8"
    assert client_at(it, 147.0) == "198.51.100.8"
    assert client_at(it, 147.0, peer=("192.0.2.1", 4001)) is None


def test_the_session_used_least_recently_is_forgotten():
    it = proxied()
    peers = [("192.0.2.1", port) for port in range(3)]
    for at, peer in enumerate(peers[:2]):
        it.strip(header(at), peer, 0.0)
    assert client_at(it, 1.0, peers[0]) == "198.51.100.0"
    it.strip(header(2), peers[2], 2.0)
    found = [client_at(it, 3.0, peer) for peer in peers]
    assert found == ["198.51.100.0", None, "198.51.100.2"]


def test_a_policy_without_sessions_keeps_none():
    it = proxied(seconds=0.0)
    assert it.strip(header(), PROXY, 0.0) is None
    assert client_at(it, 0.0) is None


def test_a_stranger_has_no_session():
    it = proxied()
    assert it.strip(header(), STRANGER, 0.0) is None
    assert client_at(it, 0.0, STRANGER) is None
    assert client_at(it, 0.0, STRANGER, header() + QUERY) is None


def test_a_new_policy_applies_to_sessions_and_known_senders():
    it = proxied()
    it.strip(header(), PROXY, 0.0)
    it.follow(ProxyPolicy((), ProxyAction.IGNORE, 30.0))
    assert client_at(it, 1.0) is None
    it.follow(ProxyPolicy(NETWORKS, ProxyAction.REJECT, 30.0))
    assert client_at(it, 1.0, data=header() + QUERY) == "198.51.100.7"
    assert it.strip(header() + QUERY, STRANGER, 1.0) is None


def test_the_object_is_kept_over_a_reload():
    config = ListenerConfig({ProxyPolicy: ProxyPolicy(NETWORKS)})
    first = ProxiedDatagrams.of(config, None, "dns://:53")
    assert first is not None
    assert ProxiedDatagrams.of(config, first, "dns://:53") is first
    assert ProxiedDatagrams.of(ListenerConfig(), first, "dns://:53") is None


@pytest.mark.parametrize("otherwise", ProxyAction)
@given(
    prefix=st.sampled_from([b"", b"PROXY ", SIGNATURE_2, header(), header()[:-1], header()[:14]]),
    rest=st.binary(max_size=64),
    peer=st.sampled_from([PROXY, STRANGER, None, "/run/socket", b"", b"\2\0"]),
)
def test_any_datagram(otherwise, prefix, rest, peer):
    """It is dropped, or a part of it is the payload."""
    data = prefix + rest
    stripped = proxied(otherwise=otherwise).strip(data, peer, 0.0)
    if stripped is not None:
        assert data.endswith(stripped[0])
        assert stripped[1] is None or host_port(stripped[1])[0]
