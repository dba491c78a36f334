"""The TLS context for connections to Nomad, from the settings of Nomad's clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from corepy.plugin import in_thread
from corepy.plugin.tls_client import TLSFiles, client_context

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """The files and options for https addresses."""

    files: TLSFiles = field(default_factory=TLSFiles)
    authorities: Path | None = None
    """A folder of certificates in PEM form, used if `files` has no authorities."""

    server_name: str = ""
    """The name in Nomad's certificate, by default the host of the address."""

    skips_verification: bool = False


def make_context(settings: TLSSettings) -> ssl.SSLContext:
    """Return a context for a new connection, from the present content of the files.

    Raises OSError or ValueError with the name of the file at fault.
    """
    import ssl

    context = client_context(settings.files, ())
    if settings.authorities is not None and settings.files.ca is None:
        for path in sorted(settings.authorities.iterdir()):
            if path.is_file():
                try:
                    context.load_verify_locations(path)
                except ssl.SSLError:
                    raise ValueError(f"no certificate in PEM form in {path}") from None
    if settings.skips_verification:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def create_context(settings: TLSSettings) -> ssl.SSLContext:
    """Return a context for a new connection; raises `OSError`."""
    try:
        context: ssl.SSLContext = await in_thread(partial(make_context, settings))
    except ValueError as error:
        raise OSError(str(error)) from None
    return context
