"""Convert a rule to and from the kernel's `struct ipt_entry` / `struct ip6t_entry`.

python-iptables could do this with the extensions of libxtables. Those print to the C stdout, which
python-iptables captures with dup2 on descriptor 1 (`IPTCModule._get_saved_buf`): in a threaded
server that swallows log lines. Our rules need three matches and two targets, so this module
builds them itself, and libiptc passes them to the kernel. The layouts are from
linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h, netfilter/x_tables.h, xt_tcpudp.h,
xt_comment.h and xt_CT.h, with native byte order and an 8-byte alignment (64-bit machines).
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy_nodecache.model import COMMENTS, FilterRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy_nodecache.model import Family

_PROTOCOLS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_PROTOCOL_NAMES: Final = {int(number): name for name, number in _PROTOCOLS.items()}
_EXTENSION: Final = struct.Struct("=H29sB")  # size, name, revision: a match's or a target's header
_COMMENT_BYTES: Final = 256  # XT_MAX_COMMENT_LEN
_NOTRACK: Final = 1  # XT_CT_NOTRACK
_NOTRACK_ALIAS: Final = 2  # XT_CT_NOTRACK_ALIAS: iptables-save shows "-j NOTRACK"
_PORTS: Final = struct.Struct("=4H")
_ANY_PORT: Final = (0, 0xFFFF)
_IP6T_F_PROTO: Final = 1


class _Layout(NamedTuple):
    """The positions of the fields in one family's entry, in bytes."""

    family: int
    address: int  # length of an address
    protocol: int  # offset of the protocol number
    flags: int  # offset of the flag byte; the inverted flags follow
    plain: int  # the flags of an entry with a protocol and nothing else
    offsets: int  # offset of target_offset and next_offset
    size: int  # of the entry without matches and target


_LAYOUTS: Final[dict[Family, _Layout]] = {
    4: _Layout(socket.AF_INET, 4, 80, 82, 0, 88, 112),
    6: _Layout(socket.AF_INET6, 16, 128, 131, _IP6T_F_PROTO, 140, 168),
}


def encode(rule: FilterRule) -> bytes:
    """Return the entry for `rule`; libiptc replaces the name ACCEPT by its verdict."""
    layout = _LAYOUTS[rule.family]
    comment = rule.comment.encode().ljust(_COMMENT_BYTES, b"\0")
    matches = _extension(rule.protocol, _ports(rule)) + _extension("comment", comment)
    target = _target(rule.target)
    entry = bytearray(layout.size)
    for place, ip in enumerate((rule.source, rule.destination)):
        if ip:
            start, width = place * layout.address, layout.address
            entry[start : start + width] = socket.inet_pton(layout.family, ip)
            entry[start + 2 * width : start + 3 * width] = b"\xff" * width
    struct.pack_into("=H", entry, layout.protocol, _PROTOCOLS[rule.protocol])
    entry[layout.flags] = layout.plain
    target_offset = layout.size + len(matches)
    struct.pack_into("=2H", entry, layout.offsets, target_offset, target_offset + len(target))
    return bytes(entry) + matches + target


def _extension(name: str, data: bytes, revision: int = 0) -> bytes:
    size = (_EXTENSION.size + len(data) + 7) & ~7
    return (_EXTENSION.pack(size, name.encode(), revision) + data).ljust(size, b"\0")


def _ports(rule: FilterRule) -> bytes:
    """Return the data of the match for the ports."""
    ports = _PORTS.pack(*_port_range(rule.source_port), *_port_range(rule.destination_port))
    tail = b"\0" * 4 if rule.protocol == "tcp" else b"\0"  # TCP option, TCP flags, inverted fields
    return ports + tail


def _port_range(port: int) -> tuple[int, int]:
    return (port, port) if port else _ANY_PORT


def _target(name: str) -> bytes:
    if name == "NOTRACK":
        data = struct.pack("=H", _NOTRACK | _NOTRACK_ALIAS).ljust(72, b"\0")  # xt_ct_target_info_v1
        return _extension("CT", data, revision=2)
    return _extension(name, b"\0" * 8)


def decode(family: Family, table: str, chain: str, entry: bytes, target: str) -> FilterRule | None:
    """Return the rule in `entry`, or None if it has another comment or another structure.

    `target` is the name that libiptc returns. For a verdict or a chain the entry itself contains
    only a number.
    """
    layout = _LAYOUTS[family]
    target_offset, end = struct.unpack_from("=2H", entry, layout.offsets)
    matches = dict(_extensions(entry, layout.size, target_offset))
    comment = _comment(matches)
    (protocol_number,) = struct.unpack_from("=H", entry, layout.protocol)
    protocol = _PROTOCOL_NAMES.get(protocol_number, "")
    ports = matches.pop(protocol, None)
    if comment is None or ports is None or matches.keys() - {"comment"}:
        return None
    if not _is_plain(entry, layout):
        return None
    _, target_data = next(_extensions(entry, target_offset, end))
    source, destination = (_ip_at(entry, layout, place) for place in (0, 1))
    (first, _, second, _), name = _PORTS.unpack_from(ports), _target_name(target, target_data)
    rule = FilterRule(
        family, table, chain, protocol, source, destination, first, second, name, comment
    )
    return rule if ports.startswith(_ports(rule)) else None


def _comment(matches: dict[str, bytes]) -> str | None:
    """Return the comment, empty if there is none, or None for one of another program."""
    if "comment" not in matches:
        return ""
    text = matches["comment"].split(b"\0", 1)[0].decode(errors="replace")
    return text if text in COMMENTS else None


def _is_plain(entry: bytes, layout: _Layout) -> bool:
    """Whether the entry has no interface, no network, no fragments and no inverted field."""
    width = layout.address
    masks = (entry[start : start + width] for start in (2 * width, 3 * width))
    return (
        not any(entry[4 * width : layout.protocol])
        and entry[layout.flags] == layout.plain
        and not entry[layout.flags + 1]
        and all(mask in (b"\0" * width, b"\xff" * width) for mask in masks)
    )


def named(entry: bytes, family: Family, target: str) -> bytes:
    """Return `entry` with the name of its target, which libiptc needs to delete it."""
    (target_offset,) = struct.unpack_from("=H", entry, _LAYOUTS[family].offsets)
    size, name, revision = _EXTENSION.unpack_from(entry, target_offset)
    header = _EXTENSION.pack(size, target.encode().ljust(len(name), b"\0"), revision)
    return entry[:target_offset] + header + entry[target_offset + _EXTENSION.size :]


def _extensions(entry: bytes, start: int, end: int) -> Iterator[tuple[str, bytes]]:
    while start < end:
        size, name, _ = _EXTENSION.unpack_from(entry, start)
        # The kernel pads names with uninitialized memory.
        yield (
            name.split(b"\0", 1)[0].decode("latin-1"),
            entry[start + _EXTENSION.size : start + size],
        )
        start += max(size, _EXTENSION.size)


def _ip_at(entry: bytes, layout: _Layout, place: int) -> str:
    start, width = place * layout.address, layout.address
    if not any(entry[start + 2 * width : start + 3 * width]):
        return ""
    return socket.inet_ntop(layout.family, entry[start : start + width])


def _target_name(name: str, data: bytes) -> str:
    is_notrack = name == "CT" and struct.unpack_from("=H", data)[0] & _NOTRACK
    return "NOTRACK" if is_notrack else name
