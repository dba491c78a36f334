"""A TLS server for tests, with a certificate that is valid for a hundred years."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    Talk = Callable[[ssl.SSLSocket], object]

SERVER_NAME = "dns.example"
"""The only name in the certificate."""

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
"""Self-signed: a client that is to trust the server uses it as the CA certificate."""

KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgro1+1pMSuvDNK4yx
Qe+/7VGBT5QoD3mTFHpkS3Ta9uChRANCAATuhMTD3jeRwF7TLYkl2TGRyXYf/eSY
ph8lR0QLVT8Em0A4Q4DOgN6X6PGPcunoK/Uw3WWRXte6rChQNoFXjzlN
-----END PRIVATE KEY-----
"""

ENCRYPTED_KEY = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhdXRBEpdSjaQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEH6JKNWV4LsOUUPYFyqJhksEgZDN
LplYTPY/m3iYoSPBeIA7/XXaQpw9o0OPPZUv7PUHGoBY2C/5zZwkbDF+aeCx0z9n
mrH3fH0OlTAyXkIUS1lWLx6ssNyrml9SXYd7Yzhjeee1I6HEHT0sM2MURBLR7HJu
Nni4hksnjGUXBHdT4+lNB4cTmyaAzArgK5f6pEkROOghEMtileQhYx1SD0YH+3s=
-----END ENCRYPTED PRIVATE KEY-----
"""
"""The key with the password "corepy"."""


def server_context(protocols: Sequence[str] = ()) -> ssl.SSLContext:
    """Return the context of a server with the certificate, and ALPN for `protocols`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(CERTIFICATE + KEY)
        pem.flush()
        context.load_cert_chain(pem.name)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class TLSServer:
    """Accepts connections on loopback until the `with` block ends; each gets its own thread."""

    def __init__(self, talk: Talk, protocols: Sequence[str] = ()) -> None:
        """Take the function that serves a connection; it may raise OSError. `protocols`: ALPN."""
        self._talk = talk
        self._context = server_context(protocols)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        """Number of successful handshakes."""
        self._streams: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        """Shut down all connections."""
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                stream, _ = self._listener.accept()
                self._streams.append(stream)
                thread = threading.Thread(target=self._serve, args=(stream,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            plain,
            self._context.wrap_socket(plain, server_side=True) as stream,
        ):
            self._streams.append(stream)  # `wrap_socket` took the descriptor of `plain`
            self.connections += 1
            self._talk(stream)
