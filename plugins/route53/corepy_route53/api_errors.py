"""The errors of Route 53, with the next step of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.zone.polled_api import PollError, ZoneMissing, hint_of_status
from corepy_route53.xml_reader import read_xml

if TYPE_CHECKING:
    from corepy.zone.polled_api import PolledZone
    from corepy_route53.requesting import Response
    from corepy_route53.signing import Credentials

GREATEST_DIFFERENCE: Final = 240.0
"""Seconds between two clocks from which a refused signature is explained by them; AWS accepts 300.
"""

_LONGEST_MESSAGE: Final = 300

_THROTTLED: Final = frozenset(
    (
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled"),
        *("TooManyRequestsException", "RequestLimitExceeded", "SlowDown", "LimitExceeded"),
        *("PriorRequestNotComplete", "RequestThrottledException"),
    )
)
_SIGNATURE: Final = frozenset(
    (
        *("SignatureDoesNotMatch", "InvalidSignatureException", "RequestExpired"),
        *("RequestTimeTooSkewed", "RequestInTheFuture", "AuthFailure"),
    )
)
_UNKNOWN_KEY: Final = frozenset(
    ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId")
)
_EXPIRED: Final = frozenset(("ExpiredToken", "ExpiredTokenException"))
_DENIED: Final = frozenset(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"))


class APIError(PollError):
    """An error in a response of the API."""

    may_pass: bool = False
    """Whether the same request may succeed in a moment."""

    is_about_keys: bool = False
    """Whether other credentials may be accepted."""


def error_of(
    response: Response, zone: PolledZone, credentials: Credentials, ahead: float
) -> PollError:
    """Return the error in a response.

    `ahead` is the seconds by which the clock of this host is ahead of that of the API. The texts of
    errors about signatures are not shown: they contain the request with its session token.
    """
    code, message = _code_and_message(response)
    if code == "NoSuchHostedZone":
        return ZoneMissing(
            f"Route 53 has no hosted zone with this ID in the account of {credentials.source}"
        )
    error = APIError(
        _explained(code, message, response.status, zone, credentials, ahead),
        retry_after=response.retry_after,
    )
    error.may_pass = response.status >= 500 or response.status == 429 or code in _THROTTLED
    error.is_about_keys = code in _UNKNOWN_KEY | _EXPIRED | _SIGNATURE
    return error


def _explained(
    code: str,
    message: str,
    status: int,
    zone: PolledZone,
    credentials: Credentials,
    ahead: float,
) -> str:
    if code in _SIGNATURE:
        return _explained_signature(code, credentials, ahead)
    if code in _UNKNOWN_KEY:
        return f"{code}: the access key ID of {credentials.source} is unknown to AWS"
    if code in _EXPIRED:
        return f"{code}: the session token of {credentials.source} has expired"
    if code in _DENIED:
        return (
            f"{code}: {message or 'no reason given'}; allow route53:ListResourceRecordSets on"
            f" arn:aws:route53:::hostedzone/{zone.id} to {credentials.source}"
        )
    if code in _THROTTLED:
        return f"{code}: {hint_of_status(429)}"
    parts = (f"HTTP status {status}", code, message or hint_of_status(status))
    return ": ".join(part for part in parts if part)


def _explained_signature(code: str, credentials: Credentials, ahead: float) -> str:
    if abs(ahead) > GREATEST_DIFFERENCE:
        direction = "ahead of" if ahead > 0 else "behind"
        return (
            f"{code}: the clock of this host is {abs(ahead) / 60:.0f} minutes {direction} that of"
            " AWS, which refuses such requests; set the clock"
        )
    return (
        f"{code}: the secret access key of {credentials.source} does not belong to its access key"
        " ID, or the session token is not that of the keys"
    )


def _code_and_message(response: Response) -> tuple[str, str]:
    """Return the code and the beginning of the message, "" where there are none."""
    try:
        root = read_xml(response.body)
    except ValueError:
        return "", ""
    found = root.child("Errors") or root  # as EC2 and some stand-ins for AWS
    found = found.child("Error") or found
    message = " ".join(found.text_of("Message").split())
    shown = "".join(each if each.isprintable() else "?" for each in message[:_LONGEST_MESSAGE])
    code = found.text_of("Code")[:60]
    return (code if code.isascii() and code.isprintable() else ""), shown
