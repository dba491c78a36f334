"""The options of the ACME form of *tls*, and the check of those of all server blocks."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text

if TYPE_CHECKING:
    from pathlib import Path

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
LABEL: Final = "_acme-challenge"
_WILDCARD: Final = "*."
_HOST: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
"""A host name (RFC 1123 section 2.1); a part of it becomes that of file names."""


@dataclass(frozen=True)
class AcmeSettings:
    """The options of one directive."""

    domains: tuple[str, ...]
    """The names of the certificate, in lower case and without final dot; some begin with "*.".

    They are sorted, so that their order in the Corefile does not matter.
    """

    storage: Path
    """The folder for accounts, certificates and challenges; absolute."""

    email: str = ""
    ca: str = LETS_ENCRYPT
    """The URL of the directory (RFC 8555 section 7.1.1)."""

    ca_root: Path | None = None
    """A file with further certificates of authorities, for the connection to the CA."""

    resolver: tuple[str, int] | None = None
    """IP address and port of the name server that resolves the name of the CA."""

    @property
    def identity(self) -> bytes:
        """A digest of all that determines the certificate, the same in all processes."""
        return hashlib.sha256(repr((self.ca, self.domains)).encode()).digest()

    @property
    def challenge_names(self) -> frozenset[bytes]:
        """The names that the CA asks for, in wire form."""
        return frozenset(map(challenge_name, self.domains))

    def covers(self, server_name: str) -> bool:
        """Return whether the certificate is valid for a name that a client asks for (SNI)."""
        name = server_name.lower().removesuffix(".")
        _, _, parent = name.partition(".")
        return name in self.domains or (_WILDCARD + parent) in self.domains


def challenge_name(domain: str) -> bytes:
    """Return the wire name at which the CA looks for the proof (RFC 8555 section 8.4)."""
    return from_text(f"{LABEL}.{domain.removeprefix(_WILDCARD)}.")


def read_domain(text: str) -> str:
    """Return a domain in the form of `AcmeSettings.domains`; raises ValueError."""
    domain = text.lower().removesuffix(".")
    host = domain.removeprefix(_WILDCARD)
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        challenge_name(host)
    except (InvalidName, ValueError):
        host = ""
    if not _HOST.fullmatch(host) or _is_address(host):
        raise ValueError(f"invalid ACME domain {text!r}")
    return _WILDCARD + host if domain.startswith(_WILDCARD) else host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class AcmeConfigs:
    """The settings of all server blocks of a Corefile."""

    def __init__(self) -> None:
        """Start without settings."""
        self.found: list[AcmeSettings] = []

    def add(self, settings: AcmeSettings) -> None:
        """Add settings; raise ValueError if another certificate with other options has a domain."""
        for other in self.found:
            common = set(other.domains) & set(settings.domains)
            if common and other != settings:
                raise ValueError(
                    f"ACME domain {min(common)!r} is configured with conflicting options"
                )
        self.found.append(settings)
