"""The files of the option `tls`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corepy.plugin import in_thread
from corepy.plugin.reading import read_file

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """A client certificate, its key, and a CA certificate, all in PEM; each may be missing."""

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    async def create_context(self) -> ssl.SSLContext:
        """Return a context for a new connection, from the present content of the files.

        Raises `OSError`. Without an authority, the system's ones are trusted.
        """
        context: ssl.SSLContext = await in_thread(self.load)
        return context

    def load(self) -> ssl.SSLContext:
        """Return a context, as `create_context`, with the file at fault in the error."""
        import ssl

        # Not ssl.create_default_context: it writes the keys of all connections to the file in the
        # variable SSLKEYLOGFILE.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for path in (self.certificate, self.key, self.authority):
            if path is not None:
                read_file(path)  # OpenSSL would block on a FIFO, and not name the file
        try:
            if self.authority is not None:
                context.load_verify_locations(self.authority)
            else:
                context.load_default_certs()
        except ssl.SSLError:
            raise OSError(f"no certificate in PEM form in {self.authority}") from None
        try:
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password="")  # never ask for it
        except ssl.SSLError:
            files = f"{self.certificate} and {self.key}"
            raise OSError(f"{files} are not a certificate and its unencrypted key") from None
        return context
