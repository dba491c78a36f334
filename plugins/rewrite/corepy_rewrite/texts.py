"""Names and patterns as they are written in rules."""

from __future__ import annotations

import re
from typing import Final

_END_WITHOUT_DOT: Final = re.compile(r"(?:(?<!\\)(?<!\\[pP])[A-Za-z0-9_-]|\\[dw])\$$")


def normal(text: str) -> str:
    """Return a name in lower case and with the final dot (CoreDNS: plugin.Name.Normalize)."""
    text = text.lower()
    return text if _is_absolute(text) else f"{text}."


def _is_absolute(text: str) -> bool:
    """Return whether a name ends with a dot that no backslash escapes (miekg/dns: IsFqdn)."""
    if not text.endswith("."):
        return False
    before = text[:-1]
    backslashes = len(before) - len(before.rstrip("\\"))
    return backslashes % 2 == 0


def matches_no_end(pattern: str) -> bool:
    """Return whether a pattern ends with `$` behind a letter or digit, where names have a dot."""
    return _END_WITHOUT_DOT.search(pattern) is not None
