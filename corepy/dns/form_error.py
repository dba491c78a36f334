"""The only exception that this package raises for malformed bytes.

All parsers turn every failure (a short message, a bad label, an invalid pointer) into `FormError`,
so that a caller needs one `except`, and a hostile packet can never raise an IndexError.
"""

from __future__ import annotations


class FormError(ValueError):
    """The bytes are not a DNS message; answer a client with FORMERR, and drop other messages."""
