"""What the log says of a query that failed: upstream, transport, attempt, time, what came next."""

import re
import socket

import dnslib
import pytest

from corepy.testing import Upstream, make_request, serve, set_up
from corepy_forward.handler import Forward


def silent(_query, _proto):
    return None


def garbage(_query, _proto):
    return [b"", b"\0" * 11, b"\xff" * 40]


def truncated(query, _proto):
    """Reply that is cut off and does not say so."""
    reply = query.reply()
    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A 192.0.2.7"))
    return bytes(reply.pack())[:-3]


def wrong_question(query, _proto):
    other = dnslib.DNSRecord.question("other.example")
    other.header.id = query.header.id
    return other.reply()


def closes(_query, _proto):
    """End the connection without an answer: the thread that serves it ends with this."""
    raise OSError


def reason(caplog):
    lines = [r.getMessage() for r in caplog.records if "example.org" in r.getMessage()]
    assert lines
    return lines[0]


@pytest.mark.parametrize(
    ("behave", "options", "expected"),
    [
        (silent, "", "{to} over udp: no reply"),
        (silent, "force_tcp", "{to} over tcp: no reply"),
        (garbage, "", "{to} over udp: no reply"),
        (wrong_question, "", "{to} over udp: no reply"),
        (wrong_question, "force_tcp", "{to} over tcp: no reply"),
        (truncated, "force_tcp", "{to} over tcp: malformed reply"),
        (truncated, "", "{to} over tcp: malformed reply"),
        (closes, "force_tcp", "{to} over tcp: connection"),
    ],
)
def test_fault_of_one_upstream(behave, options, expected, caplog):
    patience = "2s" if behave is closes else "200ms"  # three connections take their time
    with Upstream(behave) as upstream:
        options += f"\nread_timeout {patience}\nmax_connect_attempts 1"
        with serve(f".:0 {{\nerrors\nforward . {upstream.to} {{\n{options}\n}}\n}}") as server:
            assert server.ask("example.org").header.rcode == 2
    assert re.search(
        re.escape(expected.format(to=upstream.to)) + r"[a-z ]* \(attempt 1 of 1, \d+\.\d{3}s\)",
        reason(caplog),
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "{to} over udp: connection refused (attempt 1 of 2"),
        ("force_tcp", "{to} over tcp: cannot connect: connection refused (attempt 2 of 2"),
    ],
)
def test_nobody_listens(options, expected, caplog):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        to = f"127.0.0.1:{sock.getsockname()[1]}"
    options += "\nmax_connect_attempts 2"
    with serve(f".:0 {{\nerrors\nforward . {to} {{\n{options}\n}}\n}}") as server:
        assert server.ask("example.org").header.rcode == 2
    assert expected.format(to=to) in reason(caplog)


def test_every_upstream_is_named(caplog):
    with Upstream(silent) as one, Upstream(silent) as two:
        options = "read_timeout 200ms\nmax_connect_attempts 2\npolicy sequential"
        text = f".:0 {{\nerrors\nforward . {one.to} {{\n{options}\n}}\n}}".replace(
            one.to, f"{one.to} {two.to}"
        )
        with serve(text) as server:
            assert server.ask("example.org").header.rcode == 2
    line = reason(caplog)
    assert f"{one.to} over udp: no reply (attempt 1 of 2" in line
    assert f"{two.to} over udp: no reply (attempt 2 of 2" in line


def test_all_down_with_failfast(caplog):
    with Upstream(silent) as dead:
        options = "failfast_all_unhealthy_upstreams\nmax_fails 1\nhealth_check 10s"
        with serve(f".:0 {{\nerrors\nforward . {dead.to} {{\n{options}\n}}\n}}") as server:
            (forward,) = server.plugins(Forward)
            pool = forward.pool
            server.call(lambda: [pool.upstreams[0].unhealthy() for _ in range(2)])
            assert server.ask("example.org").header.rcode == 2
    assert "no healthy upstream" in reason(caplog)


def test_refusals_are_explained_to_clients_and_logged_once_a_second():
    """A flood must not become a flood of lines in the log."""
    (forward,) = set_up("forward . 192.0.2.1 {\nmax_concurrent 2\n}").handlers
    errors = []
    for received in (100.0, 100.1, 100.9, 101.0, 101.5):
        request = make_request("example.org", edns=1232)
        request.received = received
        reply = forward._reject(request)
        assert reply.rcode == 5
        assert b"too many queries wait for an upstream" in reply.options
        errors.append(reply.error)
    said = "concurrent queries exceeded maximum 2; {} refused since this was said last"
    assert errors == [said.format(1), None, None, said.format(3), None]
