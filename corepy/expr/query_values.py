"""The values that the functions of a query can have, for warnings about comparisons with others.

Each function here is a `Function.impossible`, and gets an operator and a constant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from corepy.corefile import suggest
from corepy.dns import constants as c
from corepy.dns.address import canonical
from corepy.dns.context import NETWORKS
from corepy.expr.expr_environment import Impossible
from corepy.expr.incidr import read_network

_NAMES: Final = "names are in lower case, with a dot at the end"
_ENDS: Final = ("==", "endsWith")
_MOST_PORT: Final = 65535

_GROUP: Final = re.compile(r"\((?:\?:)?[^()\\[\]]*\)")
_LITERAL_PATTERN: Final = re.compile(r"\^?(?:[A-Za-z0-9_-]|\\?\.)*\$?")
_ENDS_WITHOUT_DOT: Final = re.compile(
    r"(?:[^\\|]|\\[][.*+?(){}^$dswbDSWB-])*(?:[A-Za-z0-9_-]|\\[dw])\$", re.DOTALL
)
"""A pattern without alternatives whose last character, behind a letter or digit, is `$`."""


def _no_name(operator: str, text: str) -> Impossible | None:
    """Return why no name fits a text or pattern."""
    if operator == "matches":
        return _no_match(text)
    if not text.isascii():
        return Impossible(
            "names are ASCII", "write it as clients query it, such as xn--mnchen-3ya.de"
        )
    written = text.lower()
    if operator in _ENDS and not text.endswith(".") and (text or operator == "=="):
        written += "."
    return None if written == text else Impossible(_NAMES, f"write {written!r}")


def _no_match(pattern: str) -> Impossible | None:
    if _LITERAL_PATTERN.fullmatch(pattern) and pattern != pattern.lower():
        return Impossible(_NAMES, f"write {pattern.lower()!r}")
    # A group is a character here that is no letter, as its end is not known.
    if _ENDS_WITHOUT_DOT.fullmatch(_GROUP.sub("\0", pattern)):
        return Impossible(_NAMES, "write [.]$ for the end of a name")
    return None


def _no_mnemonic(
    table: Mapping[str, int],
    number_of: Callable[[str], int],
    name_of: Callable[[int], str],
    operator: str,
    text: str,
) -> Impossible | None:
    """Return why no mnemonic of a type or class is a text."""
    if operator != "==" or text in table:
        return None
    try:
        written = name_of(number_of(text))
    except ValueError:
        near = suggest(text.upper(), list(table))
        return Impossible("it is not known", f"did you mean {near!r}?" if near else None)
    return None if written == text else _written(written)


def _written(text: str) -> Impossible:
    return Impossible(f"the function returns {text!r}", f"write {text!r}")


def _no_network(operator: str, text: str) -> Impossible | None:
    """Return why a text is no protocol of a socket."""
    if operator != "==" or text in NETWORKS:
        return None
    known = " or ".join(map(repr, NETWORKS))
    hint = f"write {text.lower()!r}" if text.lower() in NETWORKS else None
    return Impossible(f"the protocol of a socket is {known}", hint)


def _no_address(function: str, operator: str, text: str) -> Impossible | None:
    """Return why `function` does not return a text; without an IP address it returns ""."""
    written = canonical(text)
    if operator != "==" or not text or written == text:
        return None
    if written is not None:
        return _written(written)
    return Impossible("it is not an IP address", _address_hint(function, text))


def _address_hint(function: str, text: str) -> str | None:
    try:
        read_network(text)
    except ValueError:
        inner = canonical(text.strip("[]"))
        return f"write {inner!r}" if inner is not None else None
    return f"for a network, write incidr({function}(), {text!r})"


def _no_port(operator: str, text: str) -> Impossible | None:
    """Return why a text is not the port of a socket."""
    if operator != "==":
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(_MOST_PORT))
    if is_number and int(text) <= _MOST_PORT and str(int(text)) == text:
        return None
    return Impossible(f"a port is a number up to {_MOST_PORT}")


IMPOSSIBLE: Final[Mapping[str, Callable[[str, str], Impossible | None]]] = {
    "class": partial(_no_mnemonic, c.CLASSES, c.class_number, c.class_name),
    "client_ip": partial(_no_address, "client_ip"),
    "name": _no_name,
    "port": _no_port,
    "proto": _no_network,
    "server_ip": partial(_no_address, "server_ip"),
    "server_port": _no_port,
    "type": partial(_no_mnemonic, c.TYPES, c.type_number, c.type_name),
}
"""By the name of the function."""
