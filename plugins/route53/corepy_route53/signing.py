"""AWS Signature Version 4: signs requests with the keys of an account.

AWS General Reference, "Create a signed AWS API request".
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"


class Credentials(NamedTuple):
    """The keys of an account or a role."""

    access_key: str
    secret_key: str
    token: str = ""
    """The session token of temporary keys."""

    expires: float | None = None
    """Unix time at which temporary keys expire."""

    source: str = ""
    """Where they are from, for messages."""

    def __repr__(self) -> str:
        return f"<Credentials from {self.source}>"


class Scope(NamedTuple):
    """The region and the service that a signature is valid for."""

    region: str
    service: str


class SignedRequest(NamedTuple):
    """A request before it is signed."""

    method: str
    path: str
    """As it is sent, with percent-encoding."""

    query: str = ""
    """As `query_text` returns it."""

    headers: Sequence[tuple[str, str]] = ()
    """The headers that are signed besides those of the signature; `Host` must be one of them."""

    body: bytes = b""


def query_text(parameters: Iterable[tuple[str, str]]) -> str:
    """Return the query of a URL in canonical form: encoded, and sorted."""
    pairs = sorted((_encoded(name), _encoded(value)) for name, value in parameters)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encoded(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def sign(
    request: SignedRequest, credentials: Credentials, scope: Scope, now: float
) -> list[tuple[str, str]]:
    """Return the headers to add to a request: date, session token and signature.

    `now` is the Unix time; AWS accepts a difference of five minutes.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    added = [("X-Amz-Date", stamp)]
    if credentials.token:
        added.append(("X-Amz-Security-Token", credentials.token))
    headers = _canonical_headers([*request.headers, *added])
    signed = ";".join(name for name, _ in headers)
    canonical = "\n".join(
        (
            request.method,
            quote(request.path, safe=f"/{_UNRESERVED}"),  # once more, as for all services but S3
            request.query,
            *(f"{name}:{value}" for name, value in headers),
            "",
            signed,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    place = f"{stamp[:8]}/{scope.region}/{scope.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join((ALGORITHM, stamp, place, digest))
    key = _signing_key(credentials.secret_key, stamp[:8], scope)
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    proof = f"Credential={credentials.access_key}/{place}, SignedHeaders={signed}"
    return [*added, ("Authorization", f"{ALGORITHM} {proof}, Signature={signature}")]


def _signing_key(secret: str, day: str, scope: Scope) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _canonical_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers by name in lower case, sorted, with the values of equal names joined."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(" ".join(value.split()))
    return [(name, ",".join(values[name])) for name in sorted(values)]
