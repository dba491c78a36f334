"""Upstreams that are asked over TLS, with a certificate made for a hundred years."""

import concurrent.futures
import socket
import ssl
import threading

import dnslib
import pytest

from corepy.testing import serve
from corepy.testing.client import read_frame

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUKZv6jop9R8ptG3cQwizL5KZvpjQwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLZG5zLmV4YW1wbGUwIBcNMjYxMTIzMDQxODA5WhgPMjEyNjEw
MzAwNDE4MDlaMBYxFDASBgNVBAMMC2Rucy5leGFtcGxlMFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAE7oTEw943kcBe0y2JJdkxkcl2H/3kmKYfJUdEC1U/BJtAOEOA
zoDel+jxj3Lp6Cv1MN1lkV7XuqwoUDaBV485TaNrMGkwHQYDVR0OBBYEFGXWmGMd
ntekPadq64xRH+i0ZlSSMB8GA1UdIwQYMBaAFGXWmGMdntekPadq64xRH+i0ZlSS
MA8GA1UdEwEB/wQFMAMBAf8wFgYDVR0RBA8wDYILZG5zLmV4YW1wbGUwCgYIKoZI
zj0EAwIDSAAwRQIgErNqaYK6deJO2blQxIztCp8U7cxZnVbwmRjtla6u9H0CIQC4
80TtH/quNUD5D7eQrKP3VDGu5Ttpy/o7UmzOfrUzbg==
-----END CERTIFICATE-----
"""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgro1+1pMSuvDNK4yx
Qe+/7VGBT5QoD3mTFHpkS3Ta9uChRANCAATuhMTD3jeRwF7TLYkl2TGRyXYf/eSY
ph8lR0QLVT8Em0A4Q4DOgN6X6PGPcunoK/Uw3WWRXte6rChQNoFXjzlN
-----END PRIVATE KEY-----
"""


@pytest.fixture
def certificate(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text(CERTIFICATE)
    return path


class TLSUpstream:
    """Answers every question over TLS, one connection at a time in a thread each."""

    def __init__(self, tmp_path):
        pem = tmp_path / "server.pem"
        pem.write_text(CERTIFICATE + KEY)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.to = f"tls://127.0.0.1:{self._listener.getsockname()[1]}"
        self.names = []
        self.connections = 0
        self._streams = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in self._streams:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(5)

    def _accept(self):
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            self._streams.append(stream)
            thread = threading.Thread(target=self._serve, args=(stream,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain):
        try:
            with plain, self._context.wrap_socket(plain, server_side=True) as stream:
                self.connections += 1
                while True:
                    query = dnslib.DNSRecord.parse(read_frame(stream))
                    self.names.append(str(query.q.qname))
                    reply = query.reply()
                    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 A 192.0.2.8"))
                    wire = bytes(reply.pack())
                    stream.sendall(len(wire).to_bytes(2, "big") + wire)
        except (OSError, ConnectionError):
            pass


def corefile(upstream, *options):
    lines = "\n".join(options)
    return f".:0 {{\nforward . {upstream} {{\n{lines}\n}}\n}}"


def test_queries_share_a_verified_connection(tmp_path, certificate):
    with TLSUpstream(tmp_path) as upstream:
        text = corefile(upstream.to, f"tls {certificate}", "tls_servername dns.example")
        with serve(text) as server, concurrent.futures.ThreadPoolExecutor(10) as pool:
            names = [f"n{i}.example" for i in range(30)]
            assert all(reply.rr for reply in pool.map(server.ask, names))
        assert upstream.connections == 1
        assert "n0.example." in upstream.names


def test_name_may_stand_in_the_address(tmp_path, certificate):
    with TLSUpstream(tmp_path) as upstream:
        host, _, port = upstream.to.rpartition(":")
        with serve(corefile(f"{host}%dns.example:{port}", f"tls {certificate}")) as server:
            assert server.ask("www.example").rr


@pytest.mark.parametrize("options", [["tls_servername other.example"], []])
def test_wrong_name_or_unknown_authority_is_servfail(tmp_path, certificate, options, caplog):
    with TLSUpstream(tmp_path) as upstream:
        lines = [f"tls {certificate}", *options] if options else ["tls_servername dns.example"]
        with serve(corefile(upstream.to, *lines)) as server:
            reply = server.ask("www.example", edns=1232)
            assert reply.header.rcode == 2
            assert reply.ar[0].rdata[0].data[:2] == b"\0\x17"  # network error
        assert upstream.names == []
