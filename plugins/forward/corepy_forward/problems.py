"""What went wrong with a socket, in words."""

from __future__ import annotations


def explain(error: Exception) -> str:
    """Return the problem in lower case without numbers; of a certificate, what is wrong with it."""
    message = getattr(error, "verify_message", None)
    if message:
        return f"certificate verify failed: {message}"
    strerror = getattr(error, "strerror", None)
    return (strerror or str(error) or type(error).__name__).lower()
