"""What the log says of a query that failed: Go's words at both ends, for the patterns of alerts,
and between them the attempt and its time.
"""

import re
import socketserver
import threading
from functools import partial

import dnslib
import pytest

from corepy.testing import Upstream, make_request, set_up
from corepy.testing import serve as serve_with_timers
from corepy.testing.tls import CERTIFICATE, TLSServer
from corepy.testing.upstream import free_port
from corepy_forward.handler import Forward

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

NO_TLS = "tls: first record does not look like a TLS handshake"


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


ATTEMPT = r" \(attempt 1 of 1, \d+\.\d{3}s(, replies to another question dropped: 1)?\): "


@pytest.mark.parametrize(
    ("behave", "options", "begin", "end"),
    [
        (silent, "", "read udp {to}", "i/o timeout"),
        (silent, "force_tcp", "read tcp {to}", "i/o timeout"),
        (garbage, "", "read udp {to}", "i/o timeout"),
        (wrong_question, "", "read udp {to}", "i/o timeout"),
        (wrong_question, "force_tcp", "read tcp {to}", "reply to another question"),
        (truncated, "force_tcp", "read tcp {to}", "malformed reply"),
        (truncated, "", "read tcp {to}", "malformed reply"),
        (closes, "force_tcp", "read tcp {to}", "EOF|read: connection reset by peer"),
    ],
)
def test_fault_of_one_upstream(behave, options, begin, end, caplog):
    patience = "200ms" if end == "i/o timeout" else "2s"  # the others take their time
    with Upstream(behave) as upstream:
        options += f"\nread_timeout {patience}\nmax_connect_attempts 1"
        with serve_with_timers(
            f".:0 {{\nerrors\nforward . {upstream.to} {{\n{options}\n}}\n}}"
        ) as server:
            assert server.ask("example.org").header.rcode == 2
    begin = re.escape(begin.format(to=upstream.to))
    assert re.search(f" A: {begin}{ATTEMPT}(?:{end})$", reason(caplog))


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ("", r"A: read udp {to} \(attempt 1 of 2, [^)]*\): read: connection refused; "),
        ("", r"; read udp {to} \(attempt 2 of 2, [^)]*\): read: connection refused$"),
        ("force_tcp", r"; dial tcp {to} \(attempt 2 of 2, .*\): connect: connection refused$"),
        ("source_address 192.0.2.1", r"; dial udp .*: connect: cannot assign requested address$"),
        ("source_address ::1", r"; dial udp .*\): connect: address family for .*$"),
    ],
)
def test_nobody_listens(options, pattern, caplog):
    to = f"127.0.0.1:{free_port()}"
    options += "\nmax_connect_attempts 2"
    with serve(f".:0 {{\nerrors\nforward . {to} {{\n{options}\n}}\n}}") as server:
        assert server.ask("example.org").header.rcode == 2
    assert re.search(pattern.format(to=re.escape(to)), reason(caplog))


def test_no_time_is_left(caplog):
    """While no upstream is well the budget ends before the first reply is due."""
    with Upstream(silent) as upstream:
        options = "max_fails 1\nhealth_check 10s"
        with serve_with_timers(
            f".:0 {{\nerrors\nforward . {upstream.to} {{\n{options}\n}}\n}}"
        ) as server:
            (forward,) = server.plugins(Forward)
            server.call(lambda: [forward.pool.upstreams[0].unhealthy() for _ in range(2)])
            assert server.ask("example.org").header.rcode == 2
    to = re.escape(upstream.to)
    assert re.search(rf"read udp {to} \(gave up after [\d.]+s\): i/o timeout$", reason(caplog))


@pytest.mark.parametrize(
    ("options", "end"),
    [
        (
            "",
            r"\): tls: failed to verify certificate .*: x509: certificate signed by unknown au.*$",
        ),
        ("tls {ca}\ntls_servername b.example", r"\): tls: failed to verify .*: x509: .*b\.ex.*$"),
    ],
)
def test_certificates(options, end, tmp_path, caplog):
    ca = tmp_path / "ca.pem"
    ca.write_text(CERTIFICATE)
    with TLSServer(lambda stream: stream.recv(1)) as upstream:
        lines = options.format(ca=ca) + "\nmax_connect_attempts 1"
        to = f"127.0.0.1:{upstream.port}"
        with serve(f".:0 {{\nerrors\nforward . tls://{to} {{\n{lines}\n}}\n}}") as server:
            assert server.ask("example.org").header.rcode == 2
    assert re.search(rf" A: dial tcp {to} \(over tcp-tls, attempt 1 of 1, .*{end}", reason(caplog))


class PlainServer(socketserver.StreamRequestHandler):
    """Speaks no TLS."""

    def handle(self):
        self.wfile.write(b"220 mail.example ESMTP\r\n")


def test_plain_text_where_tls_is_expected(caplog):
    with socketserver.TCPServer(("127.0.0.1", 0), PlainServer) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        to = f"127.0.0.1:{other.server_address[1]}"
        text = f".:0 {{\nerrors\nforward . tls://{to} {{\nmax_connect_attempts 1\n}}\n}}"
        with serve(text) as server:
            assert server.ask("example.org").header.rcode == 2
        other.shutdown()
    assert re.search(rf" A: dial tcp {to} \(over tcp-tls, .*\): {NO_TLS}$", reason(caplog))


@pytest.mark.parametrize(
    "pattern", [".* i/o timeout$", "^read udp .* i/o timeout$", " i/o timeout$", "read udp .*: i/o"]
)
def test_the_patterns_of_the_manuals_match(pattern, caplog):
    """Of *errors*, here and in CoreDNS."""
    with Upstream(silent) as upstream:
        to = f"forward . {upstream.to} {{\nread_timeout 50ms\nmax_connect_attempts 3\n}}"
        errors = f'errors {{\nconsolidate 1h "{pattern}" warning\n}}'
        with serve_with_timers(f".:0 {{\n{errors}\n{to}\n}}") as server:
            for name in ("a", "b"):
                assert server.ask(f"{name}.example.org").header.rcode == 2
    lines = [r.getMessage() for r in caplog.records if r.name.endswith(".errors")]
    assert lines == [f"2 errors like '{pattern}' occurred in last 1h0m0s"]


def test_every_upstream_is_named(caplog):
    with Upstream(silent) as one, Upstream(silent) as two:
        options = "read_timeout 200ms\nmax_connect_attempts 2\npolicy sequential"
        text = f".:0 {{\nerrors\nforward . {one.to} {{\n{options}\n}}\n}}".replace(
            one.to, f"{one.to} {two.to}"
        )
        with serve_with_timers(text) as server:
            assert server.ask("example.org").header.rcode == 2
    line = reason(caplog)
    assert f"A: read udp {one.to} (attempt 1 of 2" in line
    assert f"; read udp {two.to} (attempt 2 of 2" in line


def test_all_down_with_failfast(caplog):
    with Upstream(silent) as dead:
        options = "failfast_all_unhealthy_upstreams\nmax_fails 1\nhealth_check 10s"
        with serve(f".:0 {{\nerrors\nforward . {dead.to} {{\n{options}\n}}\n}}") as server:
            (forward,) = server.plugins(Forward)
            pool = forward.pool
            server.call(lambda: [pool.upstreams[0].unhealthy() for _ in range(2)])
            assert server.ask("example.org").header.rcode == 2
    assert reason(caplog).endswith(": no healthy proxies")


def test_refusals_are_explained_to_clients_and_logged_once_a_second():
    """A flood must not become a flood of lines in the log."""
    (forward,) = set_up("forward . 192.0.2.1 {\nmax_concurrent 2\n}").handlers
    errors = []
    for received in (100.0, 100.1, 100.9, 101.0, 101.5):
        request = make_request("example.org", edns=1232)
        request.received = received
        reply = forward._clients.reject(request)
        assert reply.rcode == 2
        assert reply.is_momentary
        assert b"too many queries wait for an upstream" in reply.options
        errors.append(reply.error)
    said = (
        "{} queries refused since the last line like this one:"
        " concurrent queries exceeded maximum 2"
    )
    assert errors == [said.format(1), None, None, said.format(3), None]
