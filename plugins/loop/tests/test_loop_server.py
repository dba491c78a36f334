"""Whole servers whose queries come back: at the start, on a reload, while they run."""

import signal
import threading

import dnslib
import pytest

from corepy.plugin import StartupError, metrics
from corepy.testing import Upstream, ask, exchange, free_port, run_command, serve
from corepy.testing.command import wait_until
from corepy.testing.netns import isolated
from corepy_loop import loop

SERVFAIL = 2
FATAL = "[FATAL] plugin/loop: Loop (127.0.0.1:"
BACK = "such queries are answered SERVFAIL"


def block(port, upstream, zone=".", more=""):
    return (
        f"{zone}:{port} {{\n bind 127.0.0.1\n errors\n loop\n {more}\n"
        f" forward . {upstream.to} {{\n max_fails 0\n }}\n}}\n"
    )


class Circle:
    """An upstream that answers itself until `closed` is set; then it asks the server."""

    def __init__(self, port, closed, keeps_options=True):
        self.port = port
        self.closed = threading.Event()
        self._keeps_options = keeps_options
        if closed:
            self.closed.set()

    def __call__(self, query, proto):
        if not self.closed.is_set():
            reply = query.reply()
            reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 A 192.0.2.1"))
            return reply
        if not self._keeps_options:
            query = dnslib.DNSRecord(query.header, q=query.q)
        try:
            return exchange(("127.0.0.1", self.port), bytes(query.pack()), tcp=proto == "tcp")
        except (OSError, TimeoutError):
            return None


def options_of(reply):
    return b"".join(bytes(it.data) for rr in reply.ar for it in rr.rdata if rr.rtype == 41)


@pytest.mark.parametrize("keeps_options", [True, False])
@pytest.mark.parametrize("more", ["", "cache", "multisocket 2"])
def test_a_loop_at_the_start_is_fatal(more, keeps_options):
    circle = Circle(free_port(), closed=True, keeps_options=keeps_options)
    with (
        Upstream(circle) as upstream,
        run_command(block(circle.port, upstream, more=more), wait=False) as server,
    ):
        assert server.process.wait(60) == 1
        wait_until(lambda: "there is a forwarding loop" in server.output)
        assert FATAL in server.output
        assert f'-> dns://127.0.0.1:{circle.port}) detected for zone "."' in server.output
        assert 'Query: "HINFO ' in server.output


def test_the_looping_block_is_named():
    circle = Circle(free_port(), closed=True)
    good = Circle(0, closed=False)
    with Upstream(circle) as upstream, Upstream(good) as other:
        text = block(circle.port, other) + block(circle.port, upstream, "example.org")
        with pytest.raises(StartupError, match=r'forwarding loop for zone "example.org."'):
            serve(text).__enter__()


@pytest.mark.parametrize("answer", [None, "REFUSED"])
def test_no_loop(answer):
    """An upstream that is down, or does not like the probe, is no loop."""

    def behave(query, proto):
        reply = query.reply()
        reply.header.rcode = 5
        return reply if answer else None

    with Upstream(behave) as upstream, serve(block(0, upstream)) as server:
        wait_until(lambda: upstream.queries)
        assert upstream.queries[0][0].endswith(". HINFO")
        assert server.ask("example.org", timeout=60).header.rcode == (5 if answer else SERVFAIL)
        assert counted(server) == 0


def counted(server):
    (found,) = [it for it in metrics.registered() if it.name == "coredns_loop_detected_total"]
    label = f"dns://127.0.0.1:{server.address[1]}"
    return sum(child.value for labels, child in found.children() if labels[0] == label)


@pytest.mark.parametrize("more", ["", "cache", "multisocket 2"])
def test_a_loop_that_appears_later(more):
    circle = Circle(free_port(), closed=False)
    with (
        Upstream(circle) as upstream,
        serve(
            block(circle.port, upstream, more=more)
            + f"other:{circle.port} {{\n bind 127.0.0.1\n whoami\n}}\n"
        ) as server,
    ):
        assert server.ask("a.example").header.rcode == 0
        assert counted(server) == 0
        circle.closed.set()
        # The first is told so as well, unless this machine is so slow that *forward* gives up before.
        assert server.ask("b.example", edns=1232, timeout=60).header.rcode == SERVFAIL
        reply = server.ask("c.example", edns=1232, timeout=60)
        assert reply.header.rcode == SERVFAIL
        assert b"forwarding loop" in options_of(reply)
        assert counted(server) >= 1
        assert server.ask("example.other").header.rcode == 0
        circle.closed.clear()
        assert server.ask("d.example").header.rcode == 0


def test_two_servers_that_forward_to_each_other():
    ports = free_port(), free_port()
    good = Circle(0, closed=False)
    with Upstream(good) as upstream:
        first = run_command(block(ports[0], upstream).replace(upstream.to, f"127.0.0.1:{ports[1]}"))
        second = run_command(block(ports[1], upstream))
        with second as b, first as a:
            assert a.ask("a.example").header.rcode == 0
            # B turns round: its probe may come back by A, and then it keeps what it has.
            looping = block(ports[1], upstream).replace(upstream.to, f"127.0.0.1:{ports[0]}")
            b.conf.write_text(looping)
            b.send_signal(signal.SIGUSR1)
            b.wait_for("reload failed, the old configuration stays in use")
            assert "[FATAL]" not in b.output
            assert "Loop (127.0.0.1:" in b.output
            assert a.ask("b.example").header.rcode == 0
            # Without the directive nothing stops it; A has to cope.
            elsewhere = f"other:{ports[1]} {{\n bind 127.0.0.1\n whoami\n}}\n"
            b.conf.write_text(looping.replace(" loop\n", " log\n") + elsewhere)
            b.send_signal(signal.SIGUSR1)
            b.wait_for("Reloading complete")
            assert a.ask("c.example", timeout=60).header.rcode == SERVFAIL
            reply = a.ask("d.example", edns=1232, timeout=60)
            assert reply.header.rcode == SERVFAIL
            assert b"forwarding loop" in options_of(reply)
            a.wait_for(BACK)
            # No copy goes round twice: there are the attempts of one exchange, and the marked one.
            for name in ("c.example", "d.example"):
                b.wait_for(f"A IN {name}.")
                assert b.output.count(f"A IN {name}.") <= 5
            assert b.ask("example.other").header.rcode == 0
            assert a.stop() == 0
            assert b.stop() == 0


@isolated
def test_two_blocks_that_forward_to_each_other_once_a_file_has_changed(tmp_path):
    """As when the node's resolv.conf comes to name the cache that reads it, by way of another."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.9\n")
    text = "".join(
        f".:53 {{\n bind 127.0.0.{host}\n errors\n loop\n cache\n forward . {upstream}\n}}\n"
        for host, upstream in ((2, "127.0.0.3"), (3, file))
    )
    with run_command(text + ".:53 {\n bind 127.0.0.9\n whoami\n}\n") as server:
        first, second, other = (f"127.0.0.{it}" for it in (2, 3, 9))
        assert ask((first, 53), "a.example").header.rcode == 0
        file.write_text("nameserver 127.0.0.2\n")
        server.wait_for("upstreams are now 127.0.0.2:53")
        for number, host in enumerate((first, second, first)):
            reply = ask((host, 53), f"b{number}.example", edns=1232, timeout=60)
            assert reply.header.rcode == SERVFAIL
            assert number == 0 or b"forwarding loop" in options_of(reply)
        assert ask((other, 53), "c.example").header.rcode == 0
        file.write_text("nameserver 127.0.0.9\n")
        server.wait_for("upstreams are now 127.0.0.9:53", times=1)
        assert ask((first, 53), "d.example").header.rcode == 0
        assert server.stop() == 0


def test_a_loop_that_loses_the_mark_is_found_by_a_probe(monkeypatch):
    monkeypatch.setattr(loop, "PROBE_AGAIN", 0)
    circle = Circle(free_port(), closed=False, keeps_options=False)
    with Upstream(circle) as upstream, serve(block(circle.port, upstream)) as server:
        assert server.ask("a.example").header.rcode == 0
        circle.closed.set()
        assert server.ask("b.example", timeout=60).header.rcode == SERVFAIL
        wait_until(lambda: counted(server))
        assert server.ask("c.example", timeout=60).header.rcode == SERVFAIL
