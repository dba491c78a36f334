"""Creates TLS contexts for upstreams (CoreDNS: plugin/pkg/tls/tls.go).

The module is imported only if a Corefile uses TLS, because the ssl module is large.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from corepy.plugin.reading import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from corepy_forward.settings import TLSFiles


_PROTOCOLS = {"tls": ["dot"], "https": ["h2"]}
"""ALPN protocols by transport (the registration for RFC 7858; RFC 8484 section 5.2)."""


def make_context(files: TLSFiles, transport: str) -> ssl.SSLContext:
    """Return a client context for TLS 1.2 or later that verifies names and certificates.

    Raises OSError or ValueError with the name of a missing or invalid file.
    """
    # Not ssl.create_default_context: it writes the keys of all connections to the file in the
    # environment variable SSLKEYLOGFILE, fails if that cannot be opened, and each version of
    # Python makes it stricter about the certificates of private authorities.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, _readable(files.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS[transport])
    if files.cert is not None and files.key is not None:
        cert, key = _readable(files.cert), _readable(files.key)
        try:
            context.load_cert_chain(cert, key)
        except ssl.SSLError as error:
            reason = _reason(error)
            raise ValueError(f"could not load TLS cert {cert} with key {key}: {reason}") from None
    return context


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"no certificate in PEM form in {path}: {_reason(error)}") from None


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _readable(path: Path) -> str:
    """Return the path as text if the file is readable; raises OSError.

    The check comes before OpenSSL opens the file, which would block for a FIFO.
    """
    read_file(path)
    return str(path)
