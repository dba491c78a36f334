"""Upstreams that are asked over TLS."""

import concurrent.futures
import os
from functools import partial

import dnslib
import pytest

from corepy.testing import refusal, set_up
from corepy.testing import serve as serve_with_timers
from corepy.testing.client import read_frame
from corepy.testing.tls import CERTIFICATE, TLSServer

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine


@pytest.fixture
def certificate(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text(CERTIFICATE)
    return path


class TLSUpstream(TLSServer):
    """Answers every question."""

    def __init__(self):
        self.names = []
        super().__init__(self._answer)
        self.to = f"tls://127.0.0.1:{self.port}"

    def _answer(self, stream):
        while True:
            query = dnslib.DNSRecord.parse(read_frame(stream))
            self.names.append(str(query.q.qname))
            reply = query.reply()
            reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 A 192.0.2.8"))
            wire = bytes(reply.pack())
            stream.sendall(len(wire).to_bytes(2, "big") + wire)


def corefile(upstream, *options):
    lines = "\n".join(options)
    return f".:0 {{\nforward . {upstream} {{\n{lines}\n}}\n}}"


def test_queries_share_a_verified_connection(certificate):
    with TLSUpstream() as upstream:
        text = corefile(upstream.to, f"tls {certificate}", "tls_servername dns.example")
        with serve(text) as server, concurrent.futures.ThreadPoolExecutor(10) as pool:
            names = [f"n{i}.example" for i in range(30)]
            assert all(reply.rr for reply in pool.map(server.ask, names))
        assert upstream.connections == 1
        assert "n0.example." in upstream.names


def test_name_may_stand_in_the_address(certificate):
    with TLSUpstream() as upstream:
        host, _, port = upstream.to.rpartition(":")
        with serve(corefile(f"{host}%dns.example:{port}", f"tls {certificate}")) as server:
            assert server.ask("www.example").rr


@pytest.mark.parametrize("options", [["tls_servername other.example"], []])
def test_wrong_name_or_unknown_authority_is_servfail(certificate, options, caplog):
    with TLSUpstream() as upstream:
        lines = [f"tls {certificate}", *options] if options else ["tls_servername dns.example"]
        with serve(corefile(upstream.to, *lines)) as server:
            reply = server.ask("www.example", edns=1232)
            assert reply.header.rcode == 2
            assert reply.ar[0].rdata[0].data[:2] == b"\0\x17"  # network error
        assert upstream.names == []


FILES = {
    "missing": (lambda path: None, "No such file or directory"),
    "folder": (lambda path: path.mkdir(), "Is a directory"),
    "FIFO": (os.mkfifo, "not a regular file but a FIFO"),
    "empty": (lambda path: path.touch(), "{path}"),
    "no PEM": (lambda path: path.write_bytes(bytes(range(256))), "{path}"),
    "cut off": (lambda path: path.write_text(CERTIFICATE[:300]), "{path}"),
    "something else": (lambda path: path.write_text("nameserver 192.0.2.1\n"), "{path}"),
    "huge": (
        lambda path: os.truncate(path, 1 << 30) if path.touch() is None else None,
        "larger than",
    ),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("line", ["tls {path}", "tls {path} {path}", "tls {good} {path} {good}"])
def test_files_that_cannot_be_used(tmp_path, certificate, case, line):
    """Each is a mistake in the Corefile, at the line, and names the file."""
    path = tmp_path / "odd.pem"
    make, message = FILES[case]
    make(path)
    text = line.format(path=path, good=certificate)
    refused = refusal(f"forward . tls://192.0.2.1 192.0.2.2 {{\n{text}\n}}")
    assert refused.message.startswith("tls: ")
    assert message.format(path=path) in refused.message
    assert str(path) in refused.message
    assert "_ssl.c" not in refused.message


@pytest.mark.parametrize(
    "text", [CERTIFICATE.replace("\n", "\r\n"), "some words\n" + CERTIFICATE * 3]
)
def test_files_that_are_odd_but_good(tmp_path, text):
    path = tmp_path / "ca.pem"
    path.write_text(text, newline="")
    assert set_up(f"forward . tls://192.0.2.1 {{\ntls {path}\n}}").handlers
