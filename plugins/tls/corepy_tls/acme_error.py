"""`AcmeError`, apart from the client so that the server does not import its modules."""

from __future__ import annotations


class AcmeError(Exception):
    """An order failed, such as because the CA refuses a request; the message is the reason."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        """`retry_after` are the seconds that the CA asks to wait, 0 if it does not."""
        super().__init__(message)
        self.retry_after = retry_after
