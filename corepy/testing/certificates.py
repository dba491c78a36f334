"""Certificate authorities for tests of TLS servers and clients, made with trustme."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

EXPIRED = datetime(2020, 1, 1, tzinfo=UTC)
"""The end of an expired certificate."""


class Files(NamedTuple):
    """The paths of a certificate in PEM form, of its key, and of the authority's certificate."""

    certificate: Path
    key: Path
    authority: Path


class Authority:
    """A certificate authority; each has a name and a key of its own."""

    def __init__(self) -> None:
        import trustme  # with cryptography: other tests do not need it

        self._authority = trustme.CA()

    def issue(
        self, folder: Path, *names: str, label: str = "server", expires: datetime | None = None
    ) -> Files:
        """Write a certificate for DNS names and IP addresses, and return the paths in `folder`.

        The files are LABEL.pem, LABEL.key and LABEL.ca.pem; those of that label are replaced.
        """
        issued = self._authority.issue_cert(*(names or ("localhost",)), not_after=expires)
        files = Files(*(folder / f"{label}{end}" for end in (".pem", ".key", ".ca.pem")))
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        contents = chain, issued.private_key_pem.bytes(), self._authority.cert_pem.bytes()
        for path, content in zip(files, contents, strict=True):
            path.write_bytes(content)
        return files

    def client_context(self, *protocols: str, files: Files | None = None) -> ssl.SSLContext:
        """Return a client's context that trusts the authority, with `protocols` for ALPN.

        `files` are those of the client's own certificate.
        """
        authority = self._authority.cert_pem.bytes().decode()
        context = ssl.create_default_context(cadata=authority)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        return context
