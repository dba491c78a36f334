"""Letters of a name in upper or lower case at random: one more thing that a forger has to guess.

An upstream that sends the name back as it was asked shows by it that it has seen the query
(draft-vixie-dnsext-dns0x20). Most do; those that do not are found out over TCP.
"""

from __future__ import annotations

import os
import re
from typing import Final

UNTRIED: Final = 900.0
"""Seconds for which an upstream that changed the case is asked in lower case."""

_CASE: Final = 0x20
_letter = re.compile(rb"[a-z]")


def with_random_case(body: bytes, question: bytes) -> bytes:
    """Return a query with its name in random case; lengths of labels are below all letters."""
    start, name = 10, question[:-4]
    mixed = bytearray(body)
    bits = int.from_bytes(os.urandom(32), "big")
    for found in _letter.finditer(name):
        if bits >> found.start() & 1:
            mixed[start + found.start()] ^= _CASE
    return bytes(mixed)


def is_kept(wire: bytes, body: bytes, question: bytes) -> bool:
    """Whether a reply has the question as the query `body` has it."""
    return wire[12 : 12 + len(question)] == body[10 : 10 + len(question)]
