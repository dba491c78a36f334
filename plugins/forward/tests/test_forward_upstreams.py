"""Where upstreams come from: files that change, host names, and not ourselves."""

import contextlib
import re
from functools import partial

import dnslib
import pytest

from corepy.plugin import ListenHosts, StartupError
from corepy.testing import Upstream, controller_for, free_port
from corepy.testing import serve as serve_with_timers
from corepy_forward import usable
from corepy_forward.handler import Forward
from corepy_forward.targets import Target

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine


def fixed(address):
    def behave(query, _proto):
        reply = query.reply()
        if query.q.qtype == 1:
            reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A {address}"))
        return reply

    return behave


def answer(server, name="example.org"):
    return ".".join(str(byte) for byte in server.ask(name).rr[0].rdata.data)


def test_host_names_are_looked_up_at_start():
    with Upstream(fixed("192.0.2.1")) as upstream, Upstream(fixed("127.0.0.1")) as resolver:
        target = f"dns.example:{upstream.address[1]}"
        text = f".:0 {{\nforward . {target} {{\nresolver {resolver.to}\n}}\n}}"
        with serve(text) as server:
            assert answer(server) == "192.0.2.1"
        assert [name for name, _ in resolver.queries] == ["dns.example. A", "dns.example. AAAA"]


def test_host_name_nobody_knows():
    with Upstream(lambda query, _: query.reply()) as resolver:
        text = f".:0 {{\nforward . dns.example {{\nresolver {resolver.to}\n}}\n}}"
        with pytest.raises(StartupError, match=r'failed to resolve "dns\.example"'), serve(text):
            pass


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (lambda query, proto: None, "i/o timeout"),
        (lambda query, proto: query.reply(), "no addresses found"),
        (None, "read: connection refused"),
    ],
)
def test_resolver_that_does_not_help(behave, reason, monkeypatch):
    # A busy machine makes no other failure a timeout.
    monkeypatch.setattr("corepy_forward.resolve.TIMEOUT", 0.2 if "timeout" in reason else 60.0)
    to = f"127.0.0.1:{free_port()}"
    with Upstream(behave) if behave else contextlib.nullcontext() as resolver:
        to = resolver.to if resolver else to
        text = f".:0 {{\nforward . dns.example {{\nresolver {to}\n}}\n}}"
        where = f"lookup dns.example on {to}: " if reason != "no addresses found" else ""
        message = re.escape(f'failed to resolve "dns.example": {where}{reason}')
        with pytest.raises(StartupError, match=f"{message}$"), serve(text):
            pass


def test_source_address():
    seen = []
    with Upstream(fixed("192.0.2.1")) as upstream:
        text = f".:0 {{\nforward . {upstream.to} {{\nsource_address 127.0.0.9\n}}\n}}"
        with serve(text) as server:
            assert answer(server) == "192.0.2.1"
            (forward,) = server.plugins(Forward)
            pool = forward.pool
            (udp,) = pool.upstreams[0]._udp._open
            seen.append(udp.sock.getsockname()[0])
    assert seen == ["127.0.0.9"]


@pytest.mark.parametrize("to", ["127.0.0.1", "127.0.0.5"])
def test_own_address_is_refused(to):
    port = free_port()
    with (
        pytest.raises(StartupError, match=f"{to}:{port} is an address that this server listens on"),
        serve(f".:{port} {{\nforward . {to}:{port}\n}}"),
    ):
        pass


def test_foreign_addresses_are_not_own():
    listening = [("", 53), ("::1", 54), ("127.0.0.1", 55)]
    for host, port in (("192.0.2.1", 53), ("127.0.0.1", 54), ("127.0.0.2", 55), ("::1", 55)):
        assert usable.own_among([Target(host, port)], listening) is None
    for host, port in (("127.0.0.1", 53), ("::1", 54), ("127.0.0.1", 55)):
        assert usable.own_among([Target(host, port)], listening) is not None
    assert usable.own_among([Target("127.0.0.1", 53, "tls")], listening) is None


@pytest.mark.parametrize(
    ("wildcard", "own", "foreign"),
    [
        ("", ["127.0.0.1", "::1", "0.0.0.0", "::"], ["192.0.2.1", "2001:db8::1"]),
        ("0.0.0.0", ["127.0.0.1", "127.0.0.77", "0.0.0.0"], ["::1", "::", "192.0.2.1"]),
        ("::", ["::1", "::"], ["127.0.0.1", "0.0.0.0", "2001:db8::1"]),
    ],
)
def test_a_wildcard_has_the_addresses_of_its_families(wildcard, own, foreign):
    for host in (*own, *foreign):
        found = usable.own_among([Target(host, 53)], [(wildcard, 53)])
        assert (found is not None) is (host in own), host


def test_places_of_a_block_among_those_of_the_server():
    listening = ["dns://:53", "dns://[::1]:53", "dns://127.0.0.1:53", "tls://:853", "dns://:4711"]
    listening += ["dns://0.0.0.0:55", "dns://[::]:55"]
    for text, hosts, expected in (
        (".:53", [""], [("", 53)]),
        (".:53", ["::1", "127.0.0.1"], [("::1", 53), ("127.0.0.1", 53)]),
        (".:0", [""], [("", 53), ("", 4711)]),
        ("tls://.:853", [""], []),
        (".:54", ["127.0.0.1"], []),
        (".:55", ["0.0.0.0"], [("0.0.0.0", 55)]),
        (".:55", ["::"], [("::", 55)]),
    ):
        config = controller_for("forward . 192.0.2.1", zone=text).config
        config.set(ListenHosts(tuple(hosts)))
        assert usable.own_addresses(config, listening) == expected
