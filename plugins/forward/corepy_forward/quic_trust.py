"""How upstreams over QUIC are verified: the certificates of an option `tls`, for aioquic."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from aioquic.quic.configuration import QuicConfiguration

from corepy.plugin.tls_client import client_context

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from corepy.plugin.tls_client import TLSFiles

IDLE_TIMEOUT = 30.0
"""Seconds without any packet after which a connection ends; `expire` usually comes first."""

MOST_DATA = 1 << 20
"""Bytes that an upstream may send ahead on a connection."""

MOST_STREAM_DATA = 1 << 17
"""Bytes that an upstream may send on a stream: a DNS message, its length, and HTTP/3's frames."""


class QUICTrust:
    """The authorities that upstreams are verified with, and the client certificate, if any."""

    def __init__(self, files: TLSFiles, protocol: str, *, verifies: bool = True) -> None:
        """Read the files; raises OSError and ValueError as `client_context`.

        `protocol` is for ALPN. Without `verifies`, any certificate is accepted.
        """
        client_context(files, [protocol])  # aioquic's messages about faulty files name none
        self._files = files
        self._protocol = protocol
        self._verifies = verifies
        self._cafile, self._capath = _authorities(files.ca)

    def configuration(self, server_name: str, **options: Any) -> QuicConfiguration:
        """Return the configuration of a connection to a server with this name or address."""
        configuration = QuicConfiguration(
            alpn_protocols=[self._protocol],
            server_name=server_name,
            idle_timeout=IDLE_TIMEOUT,
            max_data=MOST_DATA,
            max_stream_data=MOST_STREAM_DATA,
            verify_mode=ssl.CERT_REQUIRED if self._verifies else ssl.CERT_NONE,
            cafile=self._cafile,
            capath=self._capath,
            **options,
        )
        if self._files.cert is not None:
            configuration.load_cert_chain(self._files.cert, self._files.key)
        return configuration


def _authorities(ca: Path | None) -> tuple[str | None, str | None]:
    """Return the file, or else the folder, with the authorities; the system's by default.

    The folder is preferred, because the file is read at each handshake.
    """
    if ca is not None:
        return str(ca), None
    paths = ssl.get_default_verify_paths()
    return (None, paths.capath) if paths.capath else (paths.cafile, None)


TLSContext = ssl.SSLContext | QUICTrust
"""How the certificate of an upstream is verified, over TCP or over QUIC."""
