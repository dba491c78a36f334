"""Parses zones in a Corefile: names, networks, ports, schemes.

CoreDNS: plugin/normalize.go, plugin/pkg/{cidr,parse}, and IsDomainName of its DNS library. Existing
Corefiles depend on their oddities, so these are kept: "a,b" is one name, and so is "http://a".
"""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, NamedTuple

from corepy.corefile.numbers import parse_integer, parse_unsigned

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

DEFAULT_SCHEME = "dns"
"""The scheme of keys that have none."""

SCHEMES: Mapping[str, int | None] = {
    DEFAULT_SCHEME: None,
    "tls": 853,
    "quic": 853,
    "grpc": 443,
    "https": 443,
    "https3": 443,
    "unix": 0,
}
"""The schemes that a key may begin with, and their default ports (plugin/pkg/transport).

None means that the default port is an option of the command.
"""

_MAX_TEXT = 255  # bytes of a zone as written
_MAX_NAME = 255  # octets of a name in a message (RFC 1035 section 2.3.4)
_MAX_LABEL = 63
_PLACEHOLDER = re.compile(r"(?:^|\.)__[A-Z0-9_]+__(?:\.|$)")  # node-cache's __PILLAR__DNS__DOMAIN__
_MAX_SHOWN = 64  # characters of a name that a message shows


class HostPort(NamedTuple):
    """The zones and the port of a key or an argument, without its scheme."""

    zones: list[str]
    """The zone as written; for a network its reverse zones, fully qualified."""

    port: int | None


def split_transport(key: str, schemes: Container[str] = SCHEMES) -> tuple[str, str]:
    """Return the scheme of `key`, "dns" by default, and the rest."""
    scheme, mark, rest = key.partition("://")
    return (scheme, rest) if mark and scheme in schemes else (DEFAULT_SCHEME, key)


def split_host_port(text: str) -> HostPort:
    """Return the zones and the port in `text`, which has no scheme.

    A network such as 10.0.0.0/15 becomes its reverse zones. The range of the port is not checked.
    Raises `ValueError` with the reason if `text` is invalid (plugin/normalize.go: SplitHostPort).
    """
    if not text or text.endswith(":"):
        raise ValueError(f"expecting data after last colon: {text!r}")
    port, colon = None, text.rfind(":")
    if colon != -1:
        port = parse_integer(text[colon + 1 :])
        if port is not None:
            text = text[:colon]
    length = len(text.encode("utf-8", "replace"))
    if length > _MAX_TEXT:
        raise ValueError(f"specified zone is too long: {length} > {_MAX_TEXT}")
    problem = name_problem(text)
    if problem is not None:
        raise ValueError(_no_domain_name(text, problem))
    if "/" not in text or _parse_cidr(text) is None:
        return HostPort([text], port)
    return HostPort(reverse_zones(text), port)


def zones_of(text: str) -> list[str]:
    """Return the normalized zones in a directive's argument; raises `ValueError`."""
    return normalized(split_host_port(split_transport(text)[1]).zones)


def normalized(names: Sequence[str]) -> list[str]:
    """Return the names fully qualified and in lower case; raises `ValueError` for invalid ones.

    Lower case may take more octets, so a name of maximum length can become too long.
    """
    for name in names:
        if _PLACEHOLDER.search(name):
            raise ValueError(f"zone '{name}' contains a placeholder that was not replaced")
    found = [normalize_zone(name) for name in names]
    for name in found:
        problem = name_problem(name)
        if problem is not None:
            raise ValueError(_no_domain_name(name, problem))
    return found


def reverse_zones(cidr: str) -> list[str]:
    """Return the reverse zones of a network; several if its prefix ends inside a label.

    An IPv4 label is 8 bits, an IPv6 label 4. Raises `ValueError` for an invalid network
    (plugin/pkg/cidr).
    """
    network = _parse_cidr(cidr)
    if network is None or cidr[0] == ":" or (cidr[0] == "0" and ":" in cidr):
        raise ValueError(f"invalid CIDR {cidr}")
    address, ones = network
    bits = 8 * len(address)
    label_bits, suffix = (8, "in-addr.arpa.") if bits == 32 else (4, "ip6.arpa.")
    labels = -(-ones // label_bits)
    first = int.from_bytes(address, "big") >> (bits - ones) << (labels * label_bits - ones)
    count = 1 << (labels * label_bits - ones)
    return [_reverse(first + index, labels, label_bits) + suffix for index in range(count)]


def is_domain_name(name: str) -> bool:
    """Return whether `name` is a valid domain name; see `name_problem`."""
    return name_problem(name) is None


def name_problem(name: str) -> str | None:
    r"""Return why `name` is not a domain name, or None (RFC 1035 sections 2.3.4 and 5.1).

    A label may contain any octet, also as `\.` or `\DDD`. Every name accepted here is accepted by
    `corepy.dns.names.from_text`. CoreDNS's IsDomainName also accepts names of 256 octets and
    `\999`, which no query can contain.
    """
    if name == ".":
        return None
    if not name:
        return "it is empty"
    text = name.encode("utf-8", "replace")
    try:
        labels = _label_lengths(text) if b"\\" in text else list(map(len, text.split(b".")))
    except ValueError as error:
        return str(error)
    if not labels[-1]:
        labels.pop()  # the root label, after the last dot
    if not all(labels):
        return "it has an empty label"
    if max(labels) > _MAX_LABEL:
        return f"it has a label of {max(labels)} octets, more than {_MAX_LABEL}"
    octets = sum(labels) + len(labels) + 1
    if octets > _MAX_NAME:
        return f"it has {octets} octets in wire format, more than {_MAX_NAME}"
    return None


def _label_lengths(text: bytes) -> list[int]:
    """Return the length in octets of each label of a name with escapes; raises `ValueError`."""
    lengths, position = [0], 0
    while position < len(text):
        octet = text[position]
        if octet == 0x2E:
            lengths.append(0)
        else:
            position += _escaped(text, position) if octet == 0x5C else 0
            lengths[-1] += 1
        position += 1
    return lengths


def _escaped(text: bytes, position: int) -> int:
    """Return how many characters the backslash at `position` escapes; raises `ValueError`."""
    digits = text[position + 1 : position + 4]
    if not digits:
        raise ValueError("it ends in a lone backslash")
    if not digits[:1].isdigit():
        return 1
    if len(digits) < 3 or not digits.isdigit() or int(digits) > 255:
        escape = f"\\{digits.decode('utf-8', 'replace')}"
        raise ValueError(f"{escape} is not an escape: use three digits, from \\000 to \\255")
    return 3


def fqdn(name: str) -> str:
    """Return `name` with a final dot; an escaped final dot does not count."""
    if name.endswith("."):
        before = name[:-1]
        if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            return name
    return name + "."


def normalize_zone(name: str) -> str:
    """Return `name` fully qualified and in lower case (plugin/normalize.go: Name.Normalize)."""
    name = fqdn(name)
    return name.lower() if name.isascii() else "".join(map(_lower, name))


def zones_from_args(args: Sequence[str], server_zones: Sequence[str]) -> list[str]:
    """Return the normalized zones in a directive's arguments, by default those of the block.

    Invalid arguments are ignored; an invalid zone of the block is returned unchanged
    (plugin/normalize.go: OriginsFromArgsOrServerBlock).
    """
    if not args:
        return [next(iter(_normalized(zone)), zone) for zone in server_zones]
    return [zone for arg in args for zone in _normalized(arg)]


def is_address(text: str) -> bool:
    """Return whether `text` is an IPv4 or IPv6 address."""
    return _parse_address(text) is not None


def _no_domain_name(text: str, problem: str) -> str:
    shown = text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."
    return f"zone '{shown}' is not a valid domain name: {problem}"


def _normalized(text: str) -> list[str]:
    try:
        return zones_of(text)
    except ValueError:
        return []


def _lower(char: str) -> str:
    """Return one character in lower case as Go does: one character, regardless of its context."""
    if "\ud800" <= char <= "\udfff":  # a byte from the environment that is not UTF-8
        return "\ufffd"
    return char.lower()[0]


def _parse_cidr(text: str) -> tuple[bytes, int] | None:
    """Return address and prefix length of a network (Go: net.ParseCIDR), or None."""
    host, slash, mask = text.partition("/")
    address = _parse_address(host)
    if not slash or address is None:
        return None
    ones = parse_unsigned(mask, 8 * len(address))
    return None if ones is None else (address, ones)


def _parse_address(text: str) -> bytes | None:
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None


def _reverse(prefix: int, labels: int, label_bits: int) -> str:
    """Return the labels of a prefix in reverse order, each with its dot."""
    mask, form = (1 << label_bits) - 1, "x" if label_bits == 4 else "d"
    return "".join(f"{prefix >> (label_bits * index) & mask:{form}}." for index in range(labels))
