"""Randomizes the letter case of names, which a forger then has to guess as well.

An upstream that copies the name in the same case proves that it has received the query
(draft-vixie-dnsext-dns0x20). Most upstreams do; the others are detected by a query over TCP.
"""

from __future__ import annotations

import os
import re
from typing import Final

UNTRIED: Final = 900.0
"""Seconds for which names are sent in lower case to an upstream that changed the case."""

_CASE: Final = 0x20
_letter = re.compile(rb"[a-z]")


def with_random_case(body: bytes, question: bytes) -> bytes:
    """Return a query with its name in random case.

    Label lengths are not affected: they are at most 63, less than the code of any letter.
    """
    start, name = 10, question[:-4]
    mixed = bytearray(body)
    bits = int.from_bytes(os.urandom(32), "big")
    for found in _letter.finditer(name):
        if bits >> found.start() & 1:
            mixed[start + found.start()] ^= _CASE
    return bytes(mixed)


def is_kept(wire: bytes, body: bytes, question: bytes) -> bool:
    """Whether the question of a reply is the same as in the query `body`, including case."""
    return wire[12 : 12 + len(question)] == body[10 : 10 + len(question)]
