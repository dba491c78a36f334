"""Upstreams that are asked over HTTPS, by a server made with the same HTTP/2 package."""

import base64
import concurrent.futures
import subprocess
import sys
from functools import partial

import dnslib
import h2.config
import h2.connection
import h2.events
import pytest

from corepy.testing import refusal
from corepy.testing import serve as serve_with_timers
from corepy.testing.tls import CERTIFICATE, TLSServer
from corepy_forward import metrics
from corepy_forward.handler import Forward

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine


class HTTPSUpstream(TLSServer):
    """Answers every question; `status` and `protocols` are what a faulty server has wrong."""

    def __init__(self, tmp_path, status="200", protocols=("h2",)):
        self.ca = tmp_path / "ca.pem"
        self.ca.write_text(CERTIFICATE)
        self._status = status
        self.requests, self.resets = [], []
        super().__init__(self._converse, protocols)

    def corefile(self, *options):
        lines = "\n".join([f"tls {self.ca}", "tls_servername dns.example", *options])
        return f".:0 {{\nforward . https://127.0.0.1:{self.port} {{\n{lines}\n}}\n}}"

    def _converse(self, stream):
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        http = h2.connection.H2Connection(config)
        http.initiate_connection()
        stream.sendall(http.data_to_send())
        headers, bodies = {}, {}
        while data := stream.recv(65536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    headers[event.stream_id] = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = event.data
                elif isinstance(event, h2.events.StreamReset):
                    self.resets.append((event.stream_id, event.error_code))
                elif isinstance(event, h2.events.WindowUpdated):
                    self._go_on(http)
                elif isinstance(event, h2.events.StreamEnded):
                    head = headers[event.stream_id]
                    self._answer(http, event.stream_id, head, bodies.get(event.stream_id))
            stream.sendall(http.data_to_send())

    def _body_of(self, query):
        reply = query.reply()
        reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 A 192.0.2.9"))
        return bytes(reply.pack())

    def _answer(self, http, number, headers, body):
        self.requests.append((headers[":method"], headers[":authority"]))
        if body is None:
            encoded = headers[":path"].removeprefix("/dns-query?dns=")
            body = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        assert body[:2] == b"\0\0"
        query = dnslib.DNSRecord.parse(body)
        headers = [(":status", self._status), ("content-type", "application/dns-message")]
        http.send_headers(number, headers)
        self._send(http, number, self._body_of(query))

    def _send(self, http, number, body):
        http.send_data(number, body, end_stream=True)

    def _go_on(self, http):
        """Take note that the client has read."""


class TooLarge(HTTPSUpstream):
    """Answers the first question with more than a message holds, and never ends that."""

    left = 0

    def _body_of(self, query):
        return bytes(65536) if len(self.requests) == 1 else super()._body_of(query)

    def _send(self, http, number, body):
        if len(self.requests) > 1:
            return super()._send(http, number, body)
        self.left = len(body)
        return self._go_on(http)

    def _go_on(self, http):
        """Send as much as the client's window allows."""
        while self.left and not self.resets:
            size = min(self.left, http.local_flow_control_window(1), http.max_outbound_frame_size)
            if not size:
                return
            http.send_data(1, bytes(size))
            self.left -= size


def test_a_reply_that_is_too_large_ends_its_stream_alone(tmp_path, caplog):
    with TooLarge(tmp_path) as upstream:
        text = upstream.corefile("max_connect_attempts 1", "max_fails 0")
        with serve(text.replace("forward", "errors\nforward", 1)) as server:
            assert server.ask("one.example").header.rcode == 2
            assert server.ask("two.example").rr
        assert (upstream.connections, upstream.resets) == (1, [(1, 8)])  # CANCEL
    assert "reply is too large" in "".join(record.getMessage() for record in caplog.records)


class AnotherQuestion(HTTPSUpstream):
    def _body_of(self, query):
        return super()._body_of(dnslib.DNSRecord.question("other.example"))


def test_a_reply_to_another_question_is_counted_and_ends_the_attempt(tmp_path, caplog):
    with AnotherQuestion(tmp_path) as upstream:
        text = upstream.corefile("max_connect_attempts 1", "max_fails 0")
        with serve(text.replace("forward", "errors\nforward", 1)) as server:
            (forward,) = server.plugins(Forward)
            dropped = metrics.DROPPED.labels(forward.pool.upstreams[0].address, "question")
            before = dropped.value
            assert server.ask("one.example").header.rcode == 2
            assert dropped.value == before + 1
    assert "another question" in "".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_queries_share_a_connection(tmp_path, method):
    with HTTPSUpstream(tmp_path) as upstream:
        text = upstream.corefile(f"doh_method {method}", "max_fails 0")
        with serve(text) as server, concurrent.futures.ThreadPoolExecutor(10) as pool:
            names = [f"n{i}.example" for i in range(30)]
            assert all(reply.rr for reply in pool.map(server.ask, names))
        assert upstream.connections == 1
        assert set(upstream.requests) == {(method, f"dns.example:{upstream.port}")}


def test_connection_that_ends_is_replaced(tmp_path):
    with HTTPSUpstream(tmp_path) as upstream, serve(upstream.corefile()) as server:
        assert server.ask("one.example").rr
        upstream.cut()
        assert server.ask("two.example").rr
        assert upstream.connections == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": "503"}, "): HTTP status 503"),
        ({"protocols": ["http/1.1"]}, "the server does not speak HTTP/2"),
    ],
)
def test_faults(tmp_path, fault, message, caplog):
    with HTTPSUpstream(tmp_path, **fault) as upstream:
        text = upstream.corefile("max_connect_attempts 1").replace("forward", "errors\nforward", 1)
        with serve(text) as server:
            assert server.ask("one.example").header.rcode == 2
    assert message in "".join(record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("to", "imported"), [("192.0.2.1 tls://192.0.2.2", False), ("https://192.0.2.1", True)]
)
def test_h2_is_imported_where_it_is_used(to, imported):
    """By the setup, so that no client waits for it."""
    program = (
        "import sys; from corepy.testing import set_up; set_up(sys.argv[1]);"
        "print(any(name.split('.')[0] == 'h2' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, f"forward . {to}"], capture_output=True)
    assert done.stdout.decode().strip() == str(imported), done.stderr


@pytest.mark.pure_form("a compiled module is executed once in a process")
def test_without_h2_the_mistake_is_at_its_word(monkeypatch):
    monkeypatch.delitem(sys.modules, "corepy_forward.doh", raising=False)
    monkeypatch.delitem(sys.modules, "corepy.net.http2_client", raising=False)
    monkeypatch.setitem(sys.modules, "h2", None)
    monkeypatch.delitem(sys.modules, "h2.config", raising=False)
    diagnostic = refusal("forward . https://192.0.2.1")
    assert "https:// needs " in diagnostic.message
    assert diagnostic.hint == "pip install h2"
