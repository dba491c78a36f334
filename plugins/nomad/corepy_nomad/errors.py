"""The errors that Nomad answers, with their remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin.errors import printable_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_nomad.access import Access

LONGEST_EXCERPT: Final = 160
"""Characters of an error of Nomad that are shown."""

_TOO_MANY: Final = 429
_NO_PERMISSION: Final = "Permission denied"


class NomadError(OSError):
    """Nomad has answered with an error."""

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def is_about_request(self) -> bool:
        """Whether another address of the cluster would give the same answer.

        Other errors below 500 come from a proxy, or from another program at the address.
        """
        return self.status in (400, 403)

    @property
    def lacks_permission(self) -> bool:
        """Whether Nomad knows the token, which only lacks a right."""
        return self.status == 403 and _NO_PERMISSION in str(self)


def explained(status: int, content: bytes, access: Access) -> str:
    """Return the error of a response, and its remedy."""
    text = _excerpt(content, access.secrets)
    remedy = _remedy(status, text, access)
    shown = f"HTTP status {status}" + (f": {text}" if text else "")
    return f"{shown}; {remedy}" if remedy else shown


def _remedy(status: int, text: str, access: Access) -> str:
    if 300 <= status < 400:
        return "redirects are not followed: correct the address"
    if status == 401:
        return "set NOMAD_HTTP_AUTH, or correct it"
    if status == 403 and not access.token:
        return "set the token, or NOMAD_TOKEN"
    if status == 403:
        right = "the token needs the right read-job in the namespace"
        return right if _NO_PERMISSION in text else "correct the token"
    if status == 400 and access.filter:
        return "correct the filter"
    if status == 404:
        return "Nomad has this endpoint since version 1.3"
    return "raise http_max_conns_per_client of Nomad" if status == _TOO_MANY else ""


def _excerpt(content: bytes, secrets: Sequence[str]) -> str:
    """Return the beginning of an error as one line of printable characters, without secrets."""
    text = content.decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, "***")
    return printable_line(text, LONGEST_EXCERPT)
