"""Formats numbers as Go's client library does in the text format (strconv.FormatFloat 'g', -1).

Bucket bounds are labels: if one node runs CoreDNS and another corepy, `le="100"` and `le="100.0"`
would be two series.
"""

from __future__ import annotations

import math
import re
from typing import Final

_PLAIN: Final = 1e6
"""Go uses an exponent from this value on, Python from 1e16 on."""

_SAMPLE: Final = re.compile(rb"^([^#\n].*) (\S+)$", re.MULTILINE)


def go_number(value: float) -> str:
    """Return the shortest text for a number, such as "100", "0.00025" or "1.5e+06"."""
    value = float(value)
    size = abs(value)
    if size < _PLAIN:
        return str(int(value)) if value == int(value) else repr(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(size)
    if "e" not in text:
        whole, _, rest = text.partition(".")
        digits = (whole + rest).rstrip("0")
        mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
        text = f"{mantissa}e+{len(whole) - 1:02}"
    return f"-{text}" if value < 0 else text


def with_go_numbers(text: bytes) -> bytes:
    """Return lines of the text format with each sample's value in Go's notation."""
    return _SAMPLE.sub(_with_go_number, text)


def _with_go_number(line: re.Match[bytes]) -> bytes:
    return b"%b %b" % (line[1], go_number(float(line[2])).encode())
