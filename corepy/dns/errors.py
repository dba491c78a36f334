"""The one exception that malformed bytes may raise in this package.

Whatever reads the wire turns every failure (a short message, a bad label, a pointer that goes
nowhere) into `FormError`, so that a caller needs one `except` and a hostile packet can never
surface as an IndexError.
"""

from __future__ import annotations


class FormError(ValueError):
    """Bytes that are no DNS message; answer FORMERR if they came from a client, else drop them."""
