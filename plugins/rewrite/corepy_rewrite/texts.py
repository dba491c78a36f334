"""The normal form of names in rules."""

from __future__ import annotations


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
