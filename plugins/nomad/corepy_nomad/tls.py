"""The TLS context for connections to Nomad, from the settings of Nomad's clients."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from corepy.plugin import in_thread
from corepy.plugin.tls_client import TLSFiles, client_context

if TYPE_CHECKING:
    import ssl


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

    files, more = settings.files, list[Path]()
    if files.ca is None and settings.authorities is not None:
        first, *more = _files_in(settings.authorities)
        files = replace(files, ca=first)
    context = client_context(files, ())
    for path in more:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError:
            raise ValueError(f"no certificate in PEM form in {path}") from None
    if settings.skips_verification:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _files_in(folder: Path) -> list[Path]:
    """Return the files in a folder, at least one; raises OSError or ValueError."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file()]
    if not found:
        raise ValueError(f"no certificate in {folder}")
    return found


async def create_context(settings: TLSSettings) -> ssl.SSLContext:
    """Return a context for a new connection; raises `OSError`."""
    try:
        context: ssl.SSLContext = await in_thread(partial(make_context, settings))
    except ValueError as error:
        raise OSError(str(error)) from None
    return context
