r"""Zone names as a Corefile writes them: names, networks, ports, schemes.

CoreDNS: plugin/normalize.go, plugin/pkg/{cidr,parse}, and IsDomainName of its DNS library. What is
accepted here decides what CoreDNS's Corefiles mean, so every oddity is kept: "a,b" is one name, and
so is "http://a".
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, NamedTuple

from corepy.corefile.numbers import parse_integer, parse_unsigned

if TYPE_CHECKING:
    from collections.abc import Sequence

TRANSPORTS = ("tls", "dns", "quic", "grpc", "https3", "https", "unix")
"""The schemes that a key may begin with (plugin/pkg/transport)."""

_MAX_TEXT = 255  # bytes of a zone as it is written
_MAX_NAME = 256  # octets that IsDomainName allows a name
_MAX_LABEL = 63


class HostPort(NamedTuple):
    """What a key or an argument names, without its scheme."""

    zones: list[str]
    """As written; several, and fully qualified, for a network."""

    port: int | None


def split_transport(key: str) -> tuple[str, str]:
    """Return the scheme of `key`, "dns" if it has none, and what follows it."""
    scheme, mark, rest = key.partition("://")
    return (scheme, rest) if mark and scheme in TRANSPORTS else ("dns", key)


def split_host_port(text: str) -> HostPort:
    """Return the zones and the port that `text` (without scheme) names.

    A network such as 10.0.0.0/15 becomes its reverse zones. The port is any number, its range is
    not looked at. Raises `ValueError` with what is wrong (plugin/normalize.go: SplitHostPort).
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
    if not is_domain_name(text):
        raise ValueError(f"zone is not a valid domain name: {text}")
    if "/" not in text or _parse_cidr(text) is None:
        return HostPort([text], port)
    return HostPort(reverse_zones(text), port)


def reverse_zones(cidr: str) -> list[str]:
    """Return the reverse zones of a network, several if it does not end where a label does.

    An IPv4 label is 8 bits, an IPv6 label 4. Raises `ValueError` for what is no network
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
    r"""Whether `name` could be one: labels of at most 63 octets, 255 in all, `\.` and `\DDD` known.

    Any octet may be in a label. The empty name is none.
    """
    text = fqdn(name).encode("utf-8", "replace")
    if not name or (text[:1] == b"." and len(text) > 1):
        return False
    used, after_escape, position = 0, False, 0
    label = 0
    while position < len(text):
        octet = text[position]
        if octet == 0x2E:
            if (label == 0 and len(text) > 1) or label > _MAX_LABEL:
                return False
            used += 1 + label
            if used > _MAX_NAME:
                return False
            label, after_escape = 0, False
        else:
            after_escape = octet == 0x5C and not after_escape
            if octet == 0x5C:
                if used + 1 > _MAX_NAME:
                    return False
                digits = text[position + 1 : position + 4]
                position += 3 if len(digits) == 3 and digits.isdigit() else 1
            label += 1
        position += 1
    return not after_escape


def fqdn(name: str) -> str:
    """Return `name` with the dot of the root at its end, if it is not there unescaped."""
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
    """Return the zones that a directive's arguments name, or the block's if there are none.

    Normalised. An argument that is no zone is left out; a zone of the block that is none stays as
    it is (plugin/normalize.go: OriginsFromArgsOrServerBlock).
    """
    if not args:
        return [next(iter(_normalized(zone)), zone) for zone in server_zones]
    return [zone for arg in args for zone in _normalized(arg)]


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    return _parse_address(text) is not None


def _normalized(text: str) -> list[str]:
    try:
        zones = split_host_port(split_transport(text)[1]).zones
    except ValueError:
        return []
    return [normalize_zone(zone) for zone in zones]


def _lower(char: str) -> str:
    """Lower one character as Go does: to one character, whatever stands beside it."""
    if "\ud800" <= char <= "\udfff":  # not UTF-8, from the environment
        return "\ufffd"
    return char.lower()[0]


def _parse_cidr(text: str) -> tuple[bytes, int] | None:
    """Return address and prefix length of a network, as Go's net.ParseCIDR reads it, or None."""
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
    """Return the labels of a prefix, the last first, each with its dot."""
    mask, form = (1 << label_bits) - 1, "x" if label_bits == 4 else "d"
    return "".join(f"{prefix >> (label_bits * index) & mask:{form}}." for index in range(labels))
