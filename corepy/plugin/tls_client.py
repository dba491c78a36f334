"""TLS contexts of clients, from the files of an option `tls` (CoreDNS: plugin/pkg/tls/tls.go)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corepy.plugin.reading import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The PEM files of an option; by default no client certificate, and the system's CAs."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @classmethod
    def from_paths(cls, paths: Sequence[Path]) -> TLSFiles:
        """Return the files of the arguments [CERT KEY] [CA], which are at most three."""
        if len(paths) == 1:
            return cls(ca=paths[0])
        return cls(*paths)

    @property
    def paths(self) -> list[Path]:
        """The files that are given."""
        return [path for path in (self.cert, self.key, self.ca) if path is not None]


def client_context(files: TLSFiles, protocols: Sequence[str]) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or later that verifies names and certificates.

    Raises OSError or ValueError with the name of a missing or invalid file, also for a key that is
    encrypted. `protocols` are for ALPN.
    """
    for path in files.paths:
        read_file(path)  # before OpenSSL opens it, which would block for a FIFO
    # Not ssl.create_default_context: it writes the keys of all connections to the file in the
    # environment variable SSLKEYLOGFILE, fails if that cannot be opened, and each version of
    # Python makes it stricter about the certificates of private authorities.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, files.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(protocols))
    if files.cert is not None and files.key is not None:
        _load_certificate(context, files.cert, files.key)
    return context


def system_context() -> ssl.SSLContext:
    """Return the context of a client without settings: it trusts the system's CAs."""
    return client_context(TLSFiles(), ())


def _load_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    def refuse_password() -> str:
        """Without it, OpenSSL would ask at the terminal, and the server would wait."""
        raise ValueError(f"the key {key} is encrypted; write it without a password")

    try:
        context.load_cert_chain(cert, key, refuse_password)
    except ssl.SSLError as error:
        reason = _reason(error)
        raise ValueError(f"could not load TLS cert {cert} with key {key}: {reason}") from None


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"no certificate in PEM form in {path}: {_reason(error)}") from None


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
