"""What is counted under which labels, with and without the packet cache."""

import asyncio
import socket
import struct
from dataclasses import replace
from typing import Any

import dnslib
import pytest

from corepy.dns import Reply, Request
from corepy.dns.constants import type_number
from corepy.plugin import BlockConfig, Cacheability, Handler, metrics
from corepy.testing import Recorder, link, make_request, run_chain, serve
from corepy.testing.command import wait_until
from corepy.testing.inline import with_handlers
from corepy_prometheus.handler import Prometheus
from corepy_prometheus.series import TYPES, family

V4 = socket.AF_INET.to_bytes(2, "little") + struct.pack("!H", 53) + bytes([192, 0, 2, 1]) + bytes(8)
V6 = socket.AF_INET6.to_bytes(2, "little") + bytes(6)
MAPPED = V6 + bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]) + bytes(4)
REAL = V6 + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(4)


class Below(Recorder):
    """A recorder of another name."""

    name = "below"


class Pass(Handler):
    name = "pass"

    async def serve_dns(self, request: Request) -> Reply:
        return await self.next.serve_dns(request)


def count(
    zone: str,
    request: Request,
    *below: Handler,
    times: int = 1,
    error: type[Exception] | None = None,
) -> dict[str, Any]:
    """Return what is in the registry for `zone` after `times` queries."""
    handler = Prometheus(BlockConfig([]), "")
    link([handler, *below], guarded=True)
    handler.before_listen(None)  # type: ignore[arg-type]  # takes no notice of it
    request.context = replace(request.context, zone=zone)
    for _ in range(times):
        if error is None:
            run_again(handler, request)
        else:
            with pytest.raises(error):
                run_again(handler, request)
    return found(zone)


def run_again(handler: Prometheus, request: Request) -> None:
    chain = handler.serve_dns(request)
    try:
        chain.send(None)
    except StopIteration:
        pass


def found(zone: str) -> dict[str, Any]:
    """Return {name{labels}: value} of the zone's time series, without server and zone."""
    series = {}
    for metric in metrics.registered():
        if not metric.name.startswith("coredns_dns_"):
            continue
        for values, child in metric.children():
            labels = dict(zip(metric.label_names, values, strict=True))
            if labels.get("zone") == zone:
                rest = [
                    labels[name] for name in metric.label_names if name not in ("server", "zone")
                ]
                key = ",".join([metric.name.removeprefix("coredns_dns_"), *rest])
                series[key] = getattr(child, "value", None)
                if hasattr(child, "counts"):
                    series[key] = (sum(child.counts), child.total)
    return series


def test_a_query() -> None:
    request = make_request("example.org", "AAAA")
    seen = count("query.", request, Below(), times=3)
    seconds = seen.pop("request_duration_seconds,")
    assert seconds[0] == 3
    assert seen == {
        "requests_total,,udp,1,AAAA": 3,
        "request_size_bytes,,udp": (3, 3 * 29),
        "do_requests_total,": 0,
        "response_size_bytes,,udp": (3, 3 * 29),
        "responses_total,,NOERROR,below": 3,
    }


def test_do_and_sizes() -> None:
    request = make_request("example.org", "A", do=True, protocol="tcp")
    seen = count("do.", request, Below())
    assert seen["do_requests_total,"] == 1
    assert seen["request_size_bytes,,tcp"] == (1, 40)
    assert seen["response_size_bytes,,tcp"] == (1, 29 + 11)
    assert seen["requests_total,,tcp,1,A"] == 1


def test_a_dropped_query() -> None:
    """As in CoreDNS: NOERROR, and a response of no bytes (plugin/metrics/handler.go)."""
    request = make_request("example.org", "AAAA", do=True)
    seen = count("drop.", request, Below(lambda request: request.drop()), times=2)
    assert seen.pop("request_duration_seconds,")[0] == 2
    assert seen == {
        "requests_total,,udp,1,AAAA": 2,
        "request_size_bytes,,udp": (2, 2 * 40),
        "do_requests_total,": 2,
        "response_size_bytes,,udp": (2, 0),
        "responses_total,,NOERROR,below": 2,
    }


@pytest.mark.parametrize(
    ("qtype", "label"),
    [*((name, name) for name in TYPES.values()), ("NAPTR", "other"), ("TYPE65280", "other")],
)
def test_types(qtype: str, label: str) -> None:
    request = make_request("example.org")
    request.qtype = type_number(qtype)
    assert count(f"{qtype}.", request, Below())[f"requests_total,,udp,1,{label}"] == 1


def test_types_are_those_of_coredns() -> None:
    assert len(TYPES) == 19
    assert {28: "AAAA", 65: "HTTPS", 255: "ANY", 252: "AXFR"}.items() <= TYPES.items()


@pytest.mark.parametrize(
    ("peer", "label"),
    [
        (V4, "1"),
        (MAPPED, "1"),
        (REAL, "2"),
        (("192.0.2.1", 53), "1"),
        (("::ffff:192.0.2.1", 53, 0, 0), "1"),
        (("2001:db8::1", 53, 0, 0), "2"),
    ],
)
def test_families(peer: object, label: str) -> None:
    assert family(peer) == label
    request = make_request("example.org")
    request.client = peer
    zone = f"{peer!r}."
    assert count(zone, request, Below())[f"requests_total,,udp,{label},A"] == 1


def answering(rcode: int, reason: str | None = None) -> Below:
    return Below(lambda request: request.error(rcode, reason))


@pytest.mark.parametrize(
    ("case", "below", "label"),
    [
        ("next", [answering(0)], "NOERROR,below"),
        ("deep", [Pass(), Pass(), answering(3)], "NXDOMAIN,below"),
        ("end", [Pass()], "SERVFAIL,"),
        ("empty", [], "SERVFAIL,"),
        ("error", [answering(2, "no upstream")], "SERVFAIL,"),
        ("made", [answering(5)], "REFUSED,below"),
        ("extended", [answering(16)], "BADSIG,below"),
        ("unknown", [answering(3841)], "RCODE3841,below"),
    ],
)
def test_who_answered(case: str, below: list[Handler], label: str) -> None:
    assert count(f"{case}.", make_request("example.org"), *below)[f"responses_total,,{label}"] == 1


def test_a_plugin_that_breaks() -> None:
    def broken(request: Request) -> Reply:
        raise RuntimeError

    seen = count("broken.", make_request("a.org"), Below(broken), error=RuntimeError)
    assert seen["responses_total,,SERVFAIL,"] == 1


def test_the_label_follows_a_changed_query() -> None:
    class Change(Handler):
        name = "change"

        async def serve_dns(self, request: Request) -> Reply:
            return await self.next.serve_dns(request.derive(do=True))

    seen = count("changed.", make_request("a.org"), Change(), Below())
    assert seen["responses_total,,NOERROR,below"] == 1
    assert seen["do_requests_total,"] == 0


@pytest.mark.parametrize("label", ["setter", ""])
def test_repetitions_are_counted_for_the_plugin_that_sets_deadlines(label: str) -> None:
    class DeadlineSetter(Pass):
        name, cacheability = "setter", Cacheability.SETS_DEADLINE

    handler = Prometheus(BlockConfig([]), "")
    below = Below(lambda request: Reply(request.error(0).wire, deadline=5.0))
    link([handler, DeadlineSetter(), below] if label else [handler, below], guarded=True)
    handler.before_listen(None)  # type: ignore[arg-type]  # takes no notice of it
    request = make_request("example.org", zone=f"repeated-{label}.")
    reply = asyncio.run(handler.serve_dns(request))
    (hit_counter,) = reply.hit_counters
    hit_counter.count_hits(10)
    seen = found(f"repeated-{label}.")
    assert seen["responses_total,,NOERROR,below"] == 1
    assert seen[f"responses_total,,NOERROR,{label}"] == 10


def test_repetitions() -> None:
    kept = Below(lambda request: Reply(request.error(0).wire, deadline=5.0))
    handler = Prometheus(BlockConfig([]), "")
    request = make_request("example.org", do=True, zone="repeated.")
    reply = run_chain(request, handler, kept)
    (hit_counter,) = reply.hit_counters
    hit_counter.count_hits(10)
    seen = found("repeated.")
    assert seen["requests_total,,udp,1,A"] == 11
    assert seen["do_requests_total,"] == 11
    assert seen["request_size_bytes,,udp"] == (11, 11 * 40)
    assert seen["response_size_bytes,,udp"] == (11, 11 * 40)
    assert seen["request_duration_seconds,"][0] == 11


def test_no_observer_of_what_is_not_kept() -> None:
    assert (
        run_chain(make_request("a.org"), Prometheus(BlockConfig([]), ""), Below()).hit_counters
        == ()
    )


@pytest.mark.parametrize("tcp", [False, True])
def test_every_query_is_counted_once(tcp: bool) -> None:
    def address(request: Request) -> Reply:
        return request.reply(answer=dnslib.RR.fromZone(f"{request.name} 60 A 192.0.2.1"))

    proto = "tcp" if tcp else "udp"
    text = f"{proto}.test {{\nbind 127.0.0.1\nprometheus 127.0.0.1:0\ncache\nerratic\n}}"
    with serve(text, plugins=with_handlers(erratic=lambda: Recorder(address))) as server:
        for _ in range(100):
            server.ask(f"x.{proto}.test", tcp=tcp)
        key = f"requests_total,,{proto},1,A"
        wait_until(lambda: found(f"{proto}.test.").get(key, 0) == 100)
        seen = found(f"{proto}.test.")
        assert seen["responses_total,,NOERROR,recorder"] == 1
        assert seen["responses_total,,NOERROR,cache"] == 99
        assert seen[f"response_size_bytes,,{proto}"][0] == 100


def test_queries_of_no_block_are_counted_once_as_dropped() -> None:
    """Two blocks with the directive, and a query that neither answers (vars.Dropped)."""
    text = "\n".join(
        f"{zone} {{\nprometheus 127.0.0.1:0\nwhoami\n}}" for zone in ("a.test", "b.test")
    )
    before = sum(value for key, value in found("dropped").items() if "responses_total" in key)
    with serve(text) as server:
        assert server.ask("c.test").header.rcode == dnslib.RCODE.REFUSED
        assert server.ask("c.test", tcp=True).header.rcode == dnslib.RCODE.REFUSED
    after = {key: value for key, value in found("dropped").items() if "responses_total" in key}
    assert sum(after.values()) == before + 2
    assert all("REFUSED" in key for key in after)
