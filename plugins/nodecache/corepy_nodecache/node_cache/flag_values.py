"""Reads the values of node-cache's flags, by kind; each reader raises `ValueError`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

from corepy.plugin import parse_boolean, parse_duration, parse_unsigned
from corepy_nodecache.model import LAST_PORT, canonical_ip

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["string", "bool", "addresses", "interface", "interval", "port"]

WILDCARDS: Final = ("0.0.0.0", "::")
"""Accepted as -localip where neither interface nor rules are set up for them."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_INTERFACE: Final = re.compile(r"(?!\.{1,2}$)[\w.@+-]{1,15}", re.ASCII)
_LEAST_INTERVAL: Final = 1.0
_SEPARATOR: Final = re.compile(r"[\s;|]")
"""Separators of addresses that users try in place of a comma."""


def _string(text: str) -> str:
    """Return `text`, which becomes a part of the Corefile: a line end would begin a directive."""
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    return text


def _bool(text: str) -> bool:
    value = parse_boolean(text)
    if value is None:
        raise ValueError("neither true nor false")
    return value


def _addresses(text: str) -> tuple[str, ...]:
    """Read addresses separated by commas; node-cache refuses both families together."""
    found = []
    for word in text.split(","):
        address = word.strip()
        try:
            found.append(address if address in WILDCARDS else canonical_ip(address))
        except ValueError:
            hint = "; separate addresses by commas" if _SEPARATOR.search(address) else ""
            raise ValueError(f"{address!r} is not an IP address to serve{hint}") from None
    return tuple(dict.fromkeys(found))


def _interface(text: str) -> str:
    if not _INTERFACE.fullmatch(text):
        raise ValueError("not the name of an interface: 1 to 15 of letters, digits and . _ - + @")
    return text


def _interval(text: str) -> float:
    """Read an interval in seconds.

    node-cache multiplies the duration by a second, so that its users write nanoseconds to get
    seconds: `60ns` is a minute there, and `60s` is 147 years. So nanoseconds count as seconds.
    """
    if re.fullmatch("[0-9]{1,9}(ns)?", text):
        seconds = float(text.removesuffix("ns"))
    else:
        seconds = parse_duration(text)
    if seconds < _LEAST_INTERVAL:
        raise ValueError("must be at least 1s")
    return seconds


def _port(text: str) -> int:
    port = parse_unsigned(text, LAST_PORT)
    if port is None:
        raise ValueError("not a port (0 to 65535)")
    return port


READERS: Final[dict[Kind, Callable[[str], Any]]] = {
    "string": _string,
    "bool": _bool,
    "addresses": _addresses,
    "interface": _interface,
    "interval": _interval,
    "port": _port,
}
