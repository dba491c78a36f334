"""The token and the certificates for requests to the API, read again when their files change.

Kubernetes replaces the token of a service account about once an hour, and client certificates are
renewed as well. A token is read again every minute, and after the API has refused it; certificates
are compared at each new connection.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.plugin import in_thread
from corepy.plugin.reading import file_version, read_file

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from corepy.plugin.reading import FileVersion
    from corepy_kubernetes.api_config import Access

TOKEN_AGE: Final = 60.0
"""Seconds after which a token file is read again."""

LARGEST: Final = 1 << 20
"""Bytes of a file."""


class Authorization:
    """The header Authorization of requests."""

    def __init__(self, access: Access) -> None:
        self._file = access.token_file
        self._value = f"Bearer {access.token}" if access.token else access.basic
        self._read = -TOKEN_AGE

    async def headers(self) -> Sequence[tuple[str, str]]:
        """Return the header for the next request.

        A token stays in use while its file cannot be read, until the API refuses it. Raises OSError
        without any token.
        """
        if self._file is not None and time.monotonic() - self._read >= TOKEN_AGE:
            try:
                await self.renew()
            except OSError:
                if not self._value:
                    raise
        return [("Authorization", self._value)] if self._value else []

    async def renew(self) -> None:
        """Read the token file, if there is one; raises OSError."""
        if self._file is None:
            return
        path = self._file
        content, _ = await in_thread(lambda: read_file(path, LARGEST))
        token = content.decode("ascii", "replace").strip()
        if not token or not token.isprintable() or not token.isascii():
            raise OSError(f"{path} has no token")
        self._value = f"Bearer {token}"
        self._read = time.monotonic()


class ClientTLS:
    """The TLS context of connections to the API."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._context: ssl.SSLContext | None = None
        self._versions: list[FileVersion | None] = []
        self._lock = asyncio.Lock()

    async def context(self) -> ssl.SSLContext:
        """Return the context; raises OSError if a file cannot be used."""
        async with self._lock:
            context: ssl.SSLContext = await in_thread(self._current)
            self._context = context
        return context

    def _current(self) -> ssl.SSLContext:
        versions = [file_version(path) for path in self._access.files]
        if self._context is not None and versions == self._versions:
            return self._context
        made = make_context(self._access)
        self._versions = versions
        return made


def make_context(access: Access) -> ssl.SSLContext:
    """Return a context with the certificates of an access; raises OSError with the file's name."""
    import ssl

    authority = access.authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if access.is_insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif authority is None:
        context.load_default_certs()
    else:
        _load_authority(context, authority)
    if access.certificate is not None and access.key is not None:
        _load_certificate(context, access.certificate, access.key)
    return context


def _load_authority(context: ssl.SSLContext, authority: Path | bytes) -> None:
    import ssl

    try:
        if isinstance(authority, Path):
            read_file(authority, LARGEST)  # OpenSSL would block on a FIFO
            context.load_verify_locations(cafile=authority)
        else:
            context.load_verify_locations(cadata=authority.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        raise OSError(f"{_title(authority)} has no certificate: {_reason(error)}") from None
    except OSError as error:
        raise OSError(f"{_title(authority)}: {error.strerror}") from None


def _load_certificate(
    context: ssl.SSLContext, certificate: Path | bytes, key: Path | bytes
) -> None:
    import ssl

    try:
        with _AsFile(certificate) as certificate_path, _AsFile(key) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OSError(f"{_title(key)}: not the key of {_title(certificate)}") from None
        titles = f"{_title(certificate)} and {_title(key)}"
        raise OSError(f"{titles} are no certificate and its key: {_reason(error)}") from None
    except OSError as error:
        place = error.filename or f"{_title(certificate)} and {_title(key)}"
        raise OSError(f"{place}: {error.strerror or error}") from None


def _no_password() -> str:
    """Without it, OpenSSL would ask at the terminal."""
    raise OSError("the key is encrypted; write it without a password")


def _title(part: Path | bytes) -> str:
    return str(part) if isinstance(part, Path) else "the data in the kubeconfig"


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)


class _AsFile:
    """A path for PEM data, which OpenSSL reads only from files: that of a file in memory."""

    def __init__(self, part: Path | bytes) -> None:
        self._part = part
        self._descriptor: int | None = None

    def __enter__(self) -> str:
        if isinstance(self._part, Path):
            read_file(self._part, LARGEST)  # OpenSSL would block on a FIFO, and not name the file
            return str(self._part)
        self._descriptor = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
        os.write(self._descriptor, self._part)
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
