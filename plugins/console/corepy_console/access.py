"""Decides which requests are answered.

The page shows the names that clients look up, and its requests reach every plugin through
`explain`, so it must not be open to other sites that an operator's browser visits:

* The Host header must be an address of this machine or a configured name. Otherwise a site whose
  name an attacker points at 127.0.0.1 (DNS rebinding) would have the page's origin.
* Requests that a browser marks as made by another site (Fetch Metadata, W3C; Origin, RFC 6454) are
  refused.
* Requests that act need a header that a site of another origin cannot send without permission
  (Fetch, CORS preflight), for browsers and addresses without these marks.
* With a token, all but the static page needs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from corepy_console.token_file import is_token
from corepy_console.where import is_loopback

if TYPE_CHECKING:
    from corepy.http import HTTPRequest

MARK: Final = "x-corepy-console"
"""The header of requests of the page's script."""

OWN_SITE: Final = ("same-origin", "none")
"""Values of Sec-Fetch-Site; "none" is an address that the operator has entered."""

_HOST: Final = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]+)(?::\d*)?")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_BEARER: Final = "bearer "


def is_host(name: str) -> bool:
    """Return whether `name`, in lower case, can be the host of a URL."""
    return bool(_NAME.fullmatch(name)) or _is_address(name)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused request: the status, and the reason for the client."""

    status: HTTPStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one directive."""

    token: bytes | None = None
    """The digest of the token; None for no token."""

    hosts: frozenset[str] = frozenset()
    """Names in the Host header that are allowed besides addresses and localhost."""

    def refusal_of_page(self, request: HTTPRequest) -> Refusal | None:
        """Return why the static page is not sent; None if it is.

        It may be opened by a link on another site: it contains nothing, and cannot be framed.
        """
        is_navigation = (
            request.headers.get("sec-fetch-mode") == "navigate"
            and request.headers.get("sec-fetch-dest") == "document"
        )
        return self._refusal(request, may_be_linked=is_navigation)

    def refusal_of_data(self, request: HTTPRequest, *, acts: bool = False) -> Refusal | None:
        """Return why data are not sent; None if they are. `acts` is whether it does something."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        if self.token is not None and not is_token(_token_of(request), self.token):
            return Refusal(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")
        if acts and MARK not in request.headers:
            reason = f"the request needs the header {MARK}, with any value"
            return Refusal(HTTPStatus.FORBIDDEN, reason)
        return None

    def _refusal(self, request: HTTPRequest, *, may_be_linked: bool = False) -> Refusal | None:
        if request.method not in ("GET", "HEAD"):
            return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed")
        host = request.headers.get("host", "")
        if not self._is_own_host(host):
            reason = (
                "the Host header is neither an address nor a name of this server; allow a name"
                " with the option 'host' of console"
            )
            return Refusal(HTTPStatus.FORBIDDEN, reason)
        site = request.headers.get("sec-fetch-site")
        origin = request.headers.get("origin")
        is_own = site in (None, *OWN_SITE) and _is_same(origin, host)
        if is_own or (may_be_linked and origin is None):
            return None
        return Refusal(HTTPStatus.FORBIDDEN, "requests of other sites are refused")

    def _is_own_host(self, value: str) -> bool:
        host = _host_of(value)
        if host == "localhost" or host in self.hosts:
            return True
        # Without a token only this machine has access, by an address that no other can have.
        return is_loopback(host) if self.token is None else _is_address(host)


def _host_of(value: str) -> str:
    """Return the host of a Host header in lower case, without brackets; "" if it is invalid."""
    found = _HOST.fullmatch(value.strip().lower())
    return found[1].strip("[]").rstrip(".") if found else ""


def _is_same(origin: str | None, host: str) -> bool:
    """Return whether an Origin header is that of this page, or is missing."""
    if origin is None:
        return True
    scheme, separator, rest = origin.lower().partition("://")
    return bool(separator) and scheme in ("http", "https") and rest == host.strip().lower()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _token_of(request: HTTPRequest) -> str:
    value = request.headers.get("authorization", "")
    return value[len(_BEARER) :].strip() if value.lower().startswith(_BEARER) else ""
