"""The settings of one *dnstap* directive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corepy.net.sockets import Address

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES: Final = 10_000
"""Messages that wait for a collector per unit of QUEUE."""

MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where collectors are: the address to connect to, or to listen on."""

    scheme: str
    """"unix", "tcp" or "tls"."""

    host: str
    """The path of a "unix" socket; a host name or an IP address, or "" to listen at all."""

    port: int = 0

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.host}"
        return f"{self.scheme}://{Address(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """The files of a TLS listener."""

    certificate: Path
    key: Path
    authorities: Path | None = None
    """The certificates that verify those of collectors; None without verification."""


@dataclass(slots=True)
class Settings:
    """One directive; the setup changes them, nothing else."""

    endpoint: Endpoint
    listens: bool = False
    """Whether collectors connect to the endpoint, in place of this server."""

    full: bool = False
    """Whether the DNS messages are included."""

    write_buffer: int = 1
    """MiB of the kernel's buffer of a TCP connection."""

    queue: int = 1
    """Multiple of `MESSAGES`."""

    identity: bytes = b""
    version: bytes = b""
    extra: str = ""
    """The format of the field `extra`; empty to leave it out."""

    skip_verify: bool = False
    tls: TLSFiles | None = None
