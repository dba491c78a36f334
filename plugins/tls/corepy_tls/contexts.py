"""Creates the server side's `ssl.SSLContext` from certificates and keys in memory."""

from __future__ import annotations

import os
import ssl
import tempfile
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class AuthoritiesError(ValueError):
    """The certificates of the authorities are unusable, not that of the server."""


class ClientAuth(Enum):
    """The demands on the certificates of clients, by their words in the Corefile."""

    NONE = "nocert"
    OPTIONAL = "verify_if_given"
    REQUIRED = "require_and_verify"


_MODES = {
    ClientAuth.NONE: ssl.CERT_NONE,
    ClientAuth.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRED: ssl.CERT_REQUIRED,
}


class Material(NamedTuple):
    """The contents of the files, in PEM form."""

    chain: bytes
    key: bytes
    authorities: bytes | None = None
    """The authorities of the clients' certificates; None for those of the system."""


def create_context(
    material: Material, client_auth: ClientAuth, key_log: Path | None = None
) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and later.

    Raises ValueError for content that is unusable, with the reason, and OSError for a file of the
    key log that cannot be opened.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 1  # as Go; each costs a tenth of a handshake
    context.verify_mode = _MODES[client_auth]
    _load_certificate(context, material)
    _load_authorities(context, material.authorities, client_auth)
    if key_log is not None:
        create_private(key_log)
        context.keylog_filename = str(key_log)
    return context


def create_private(path: Path) -> None:
    """Create a file that only its owner can read, if it does not exist; raises OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))


def _load_certificate(context: ssl.SSLContext, material: Material) -> None:
    try:
        with _path_of(material.chain) as chain, _path_of(material.key) as key:
            context.load_cert_chain(chain, key, _refuse_password)
    except ssl.SSLError as error:
        raise ValueError(_reason(error)) from None


def _refuse_password() -> str:
    """Raise ValueError for an encrypted key; OpenSSL would ask for the password at the terminal."""
    raise ValueError("the key is encrypted; corepy cannot decrypt it")


def _load_authorities(
    context: ssl.SSLContext, authorities: bytes | None, client_auth: ClientAuth
) -> None:
    if authorities is None:
        if client_auth is not ClientAuth.NONE:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        raise AuthoritiesError(_reason(error)) from None


def _reason(error: ssl.SSLError | ValueError) -> str:
    """Return the reason of an error of OpenSSL, such as "key values mismatch"."""
    reason = getattr(error, "reason", "") or str(error).partition(" (_ssl.c")[0]
    return reason.replace("_", " ").replace("[SSL] PEM lib", "invalid PEM").lower()


@contextmanager
def _path_of(content: bytes) -> Iterator[str]:
    """Return the path of a file with `content` within the context.

    OpenSSL's functions for certificate chains read files only. The contents of the operator's files
    have been read before, so that checks and contexts see the same contents, and OpenSSL never
    waits for a FIFO. The file is in memory, and without /proc on disk, for its owner only.
    """
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as memory:
        memory.write(content)
        memory.flush()
        path = f"/proc/self/fd/{descriptor}"
        if os.path.exists(path):
            yield path
            return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name
