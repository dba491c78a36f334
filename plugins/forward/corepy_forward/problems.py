"""What went wrong with a socket, in words."""

from __future__ import annotations

import errno
import os


def explain(error: Exception) -> str:
    """Return the problem in lower case without numbers; of a certificate, what is wrong with it."""
    message = getattr(error, "verify_message", None)
    if message:
        return f"certificate verify failed: {message}"
    number: int = getattr(error, "errno", None) or 0
    if number in errno.errorcode and not hasattr(error, "reason"):  # errors of TLS have a reason
        return os.strerror(number).lower()  # asyncio has words of its own
    return (str(error) or type(error).__name__).lower()
