"""The failures of an order, apart from the client, whose modules the server does not import."""

from __future__ import annotations

from corepy.plugin.errors import describe


class AcmeError(Exception):
    """An order failed, such as because the CA refuses a request; the message is the reason."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        """`retry_after` are the seconds that the CA asks to wait, 0 if it does not."""
        super().__init__(message)
        self.retry_after = retry_after


def describe_failure(error: Exception) -> str:
    """Return the reason of a failed attempt."""
    return str(error) or describe(error)
