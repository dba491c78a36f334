"""Splits the bytes that a terminal sends into keys.

Cursor keys come as CSI or SS3 sequences, with or without parameters for modifiers (xterm's
ctlseqs, "PC-Style Function Keys"). Unknown sequences are dropped whole, so that no part of them
acts as a letter.
"""

from __future__ import annotations

import re
from typing import Final

ESCAPE: Final = "escape"

_SEQUENCE: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*([@-~])|O([@-~]))")
_START: Final = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?$")
_NUMBERED: Final = {b"1": "home", b"4": "end", b"5": "page up", b"6": "page down"}
_FINAL: Final = {
    b"A": "up",
    b"B": "down",
    b"C": "right",
    b"D": "left",
    b"F": "end",
    b"H": "home",
    b"Z": "left",
}
_CONTROL: Final = {b"\t": "right", b"\r": "enter", b"\n": "enter", b"\x0c": "redraw"}


def split_keys(data: bytes, *, is_over: bool) -> tuple[list[str], bytes]:
    """Return the keys in `data`, and the rest: the start of a sequence.

    `is_over` is whether no more bytes follow, so that an escape character is the key.
    """
    keys: list[str] = []
    while data:
        if data[:1] != b"\x1b":
            keys += _single(data[:1])
            data = data[1:]
            continue
        found = _SEQUENCE.match(data)
        if found is not None:
            keys += _of_sequence(found)
            data = data[found.end() :]
        elif _START.match(data) and not is_over:
            return keys, data
        else:
            keys.append(ESCAPE)
            data = data[1:] if not _START.match(data) else b""
    return keys, b""


def _single(char: bytes) -> list[str]:
    if char in _CONTROL:
        return [_CONTROL[char]]
    return [char.decode("ascii")] if b" " <= char <= b"~" else []


def _of_sequence(found: re.Match[bytes]) -> list[str]:
    final = found[1] or found[2]
    if final == b"~":
        number = found[0][2:-1].partition(b";")[0]
        return [_NUMBERED[number]] if number in _NUMBERED else []
    return [_FINAL[final]] if final in _FINAL else []
