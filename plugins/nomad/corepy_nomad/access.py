"""Where Nomad is, and the credentials for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corepy.http.http_client import HTTPTarget


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """An address of Nomad: a URL, or a socket of the Unix domain."""

    target: HTTPTarget
    socket_path: str | None = None

    def __str__(self) -> str:
        if self.socket_path is not None:
            return f"unix://{self.socket_path}"
        return self.target.url.removesuffix("/")

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"  # without the password of the URL


@dataclass(frozen=True, slots=True)
class Access:
    """The credentials and parameters of all requests."""

    token: str = field(default="", repr=False)
    authorization: str = field(default="", repr=False)
    """The value of the header Authorization."""

    region: str = ""
    filter: str = ""

    @property
    def secrets(self) -> list[str]:
        """The texts that no message may contain."""
        return [it for it in (self.token, self.authorization.rpartition(" ")[2]) if it]
