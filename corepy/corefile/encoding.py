"""Detects content that cannot be a Corefile: text in another encoding than UTF-8, or binary data.

Decoded as UTF-8, such content would yield meaningless words, and many errors about them.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple

from corepy.corefile.diagnostics import CorefileError, Diagnostic
from corepy.corefile.lexer import BOM, decode, source_of
from corepy.corefile.model import Token

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark is a prefix of this one
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_ENOUGH = 4096
"""Bytes examined to guess the encoding of a text without a byte order mark."""


class Problem(NamedTuple):
    """The reason why content cannot be a Corefile, with a hint for the user."""

    message: str
    hint: str
    at: int = 0
    """Offset of the first wrong byte."""


def problem_of(content: bytes) -> Problem | None:
    """Return the reason why `content` cannot be a Corefile; None if it may be one."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _encoded(encoding)
    at = content.find(0)
    if at < 0:
        return None
    if _looks_like_utf16(content[:_ENOUGH]):
        return _encoded("UTF-16")
    return Problem("the file contains a NUL byte", "a Corefile is a text file: check the path", at)


def refuse_other_content(name: str, content: str | bytes) -> None:
    """Raise `CorefileError` if `content`, read from the file `name`, cannot be a Corefile."""
    problem = problem_of(content) if isinstance(content, bytes) else None
    if problem is None or isinstance(content, str):
        return
    begin = content.rfind(b"\n", 0, problem.at) + 1
    line = content.count(b"\n", 0, begin) + 1
    column = len(decode(content[begin : problem.at]).removeprefix(BOM)) + 1
    token = Token("", "", source_of(name, content), line, column, 1)
    raise CorefileError(Diagnostic(f"not a Corefile: {problem.message}", token, problem.hint))


def _encoded(encoding: str) -> Problem:
    hint = f"convert it, for example: iconv -f {encoding} -t UTF-8 OLD > NEW"
    return Problem(f"the file is encoded in {encoding}, not in UTF-8", hint)


def _looks_like_utf16(content: bytes) -> bool:
    """Return whether nearly every second byte is NUL, as in ASCII text encoded as UTF-16."""
    nuls = content[::2].count(0), content[1::2].count(0)
    return max(nuls) > 0.8 * (len(content) // 2) and min(nuls) < 0.2 * (len(content) // 2)
