"""Tells which queries may be processed although they may be replays (RFC 9250 section 4.5)."""

from __future__ import annotations

from corepy.dns.constants import HEADER_SIZE, OPCODE_QUERY, TRANSFERS
from corepy.dns.form_error import FormError
from corepy.dns.wire import read_name


def is_replayable(message: bytes) -> bool:
    """Return whether a received message is a query whose repetition has no effect.

    That excludes updates, notifications, and messages that cannot be read. It also excludes zone
    transfers: a replay would make the server send a whole zone again.
    """
    if len(message) < HEADER_SIZE or (message[2] & 0x78) >> 3 != OPCODE_QUERY:
        return False
    try:
        end = read_name(message, HEADER_SIZE)[1]
    except FormError:
        return False
    return int.from_bytes(message[end : end + 2], "big") not in TRANSFERS
