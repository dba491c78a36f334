"""Reads response policy zones (draft-vixie-dnsop-dns-rpz): from records to rules.

The owner of a record has the trigger, relative to the zone, and its data the action.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns import constants as c
from corepy.dns.names import ROOT, from_text, is_subdomain, labels_of, lower
from corepy_blocklist.rule import (
    BELOW,
    CLIENT_IP,
    MOST_KEY_BYTES,
    NAME,
    NSDNAME,
    RESPONSE_IP,
    Action,
    LocalRecord,
    network_key,
)
from corepy_blocklist.zone_text import ZoneError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corepy.dns.presentation import Record
    from corepy_blocklist.zone_text import ZoneRecord

_ACTIONS: Final = {
    from_text("."): Action.NXDOMAIN,
    from_text("*."): Action.NODATA,
    from_text("rpz-passthru."): Action.PASSTHRU,
    from_text("rpz-drop."): Action.DROP,
    from_text("rpz-tcp-only."): Action.TCP_ONLY,
}
"""Actions by the target of a CNAME record."""

_WILDCARD: Final = b"\x01*"
_IP: Final = {b"\x06rpz-ip": RESPONSE_IP, b"\x0drpz-client-ip": CLIENT_IP}
_NSDNAME: Final = b"\x0brpz-nsdname"
_RESERVED: Final = b"rpz-"
_GROUPS: Final = 8
_IPV6_BITS: Final = 128

_IGNORED: Final = frozenset(
    (c.TYPE_SOA, c.TYPE_NS, c.TYPE_DNSKEY, c.TYPE_RRSIG, c.TYPE_NSEC, c.TYPE_NSEC3,
     c.TYPES["NSEC3PARAM"], c.TYPE_DS, c.TYPE_DNAME)
)  # fmt: skip
"""Types of records that have no effect, as in the draft (section 3)."""


class Trigger(NamedTuple):
    """The key of a rule in a table, and its scope."""

    key: bytes
    scope: int


class Policy(NamedTuple):
    """A rule of a zone."""

    line: int
    trigger: Trigger
    action: Action
    records: tuple[LocalRecord, ...] = ()


class ZoneReader:
    """Reads one zone; counts what it leaves out."""

    def __init__(self, zone: bytes) -> None:
        self._zone = zone
        self.serial: int | None = None
        """The serial of the SOA record."""
        self.unsupported: Counter[str] = Counter()
        self.first_line: dict[str, int] = {}
        """The line of the first record of each kind that is not supported."""

    def read(self, records: Iterable[ZoneRecord]) -> Iterator[Policy]:
        """Yield the rules of all records; raises ZoneError for a malformed one.

        Records with data of their own are yielded at the end, together for each owner.
        """
        local: dict[Trigger, tuple[int, list[LocalRecord]]] = {}
        for line, record in records:
            trigger = self._trigger_of(line, record)
            if trigger is None:
                continue
            action: Action | None = Action.LOCAL_DATA
            if record.rtype == c.TYPE_CNAME:
                action = self._action(lower(record.rdata), trigger, line)
            if action is Action.LOCAL_DATA:
                data = LocalRecord(record.rtype, record.ttl, record.rdata)
                local.setdefault(trigger, (line, []))[1].append(data)
            elif action is not None:
                yield Policy(line, trigger, action)
        for trigger, (line, kept) in local.items():
            alias = [it for it in kept if it.rtype == c.TYPE_CNAME][:1]
            yield Policy(line, trigger, Action.LOCAL_DATA, tuple(alias or kept))

    def _trigger_of(self, line: int, record: Record) -> Trigger | None:
        """Return the trigger of a record; None if it has no effect. Raises ZoneError."""
        if record.rtype == c.TYPE_SOA:
            self.serial = _serial(record.rdata)
        if record.rtype in _IGNORED or record.rclass != c.CLASS_IN:
            return None
        owner = lower(record.owner)
        if not is_subdomain(owner, self._zone):
            raise ZoneError(f"line {line}: the record is outside of the zone")
        labels = labels_of(owner[: len(owner) - len(self._zone)] + ROOT)
        return self._trigger(labels, line) if labels else None  # the apex has no trigger

    def _action(self, target: bytes, trigger: Trigger, line: int) -> Action | None:
        action = _ACTIONS.get(target)
        if action is not None:
            return action
        if target == trigger.key and trigger.scope == NAME:
            return Action.PASSTHRU  # the form of before 2012: an alias of itself
        if target[1 : 1 + len(_RESERVED)] == _RESERVED and labels_of(target)[1:] == []:
            self._leave_out(f"action {labels_of(target)[0].decode('latin-1')}", line)
            return None
        return Action.LOCAL_DATA

    def _leave_out(self, kind: str, line: int) -> None:
        self.unsupported[kind] += 1
        self.first_line.setdefault(kind, line)

    def _trigger(self, labels: list[bytes], line: int) -> Trigger | None:
        """Return the trigger of an owner; None if it is not supported. Raises ZoneError."""
        last = b"%c%b" % (len(labels[-1]), labels[-1])
        if last in _IP:
            try:
                return Trigger(_network(_IP[last], labels[:-1]), NAME)
            except ValueError as error:
                text = ".".join(label.decode("latin-1") for label in labels)
                raise ZoneError(f"line {line}: {text!r}: {error}") from None
        if last == _NSDNAME:
            name, scope = _name(labels[:-1])
            if len(name) < MOST_KEY_BYTES:
                return Trigger(bytes((NSDNAME,)) + name, scope)
        if labels[-1].startswith(_RESERVED):
            self._leave_out(f"trigger {labels[-1].decode('latin-1')}", line)
            return None
        return Trigger(*_name(labels))


def _name(labels: list[bytes]) -> tuple[bytes, int]:
    """Return a name and whether the rule applies to it or to those below."""
    scope = NAME
    if labels[:1] == [b"*"]:
        labels, scope = labels[1:], BELOW
    return b"".join(b"%c%b" % (len(label), label) for label in labels) + ROOT, scope


def _network(kind: int, labels: list[bytes]) -> bytes:
    """Return the key of `prefix.B4.B3.B2.B1` or `prefix.W8...W1`, with `zz` for zeros.

    Raises ValueError.
    """
    if not labels:
        raise ValueError("no address precedes it")
    length, *groups = (label.decode("latin-1") for label in labels)
    if not length.isascii() or not length.isdigit():
        raise ValueError("the prefix length is not a number")
    prefix = int(length)
    groups.reverse()
    if len(groups) == 4 and "zz" not in groups:
        address = bytes(map(_octet, groups))
    else:
        address = _ipv6(groups)
    bits = len(address) * 8
    if not 1 <= prefix <= bits:
        raise ValueError(f"the prefix length is not between 1 and {bits}")
    if int.from_bytes(address, "big") & (1 << (bits - prefix)) - 1:
        raise ValueError("the address has bits beyond the prefix length")
    return network_key(kind, address, prefix)


def _octet(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) < 256):
        raise ValueError("not an IPv4 address in reverse order")
    return int(text)


def _ipv6(groups: list[str]) -> bytes:
    if groups.count("zz") > 1 or ("zz" not in groups and len(groups) != _GROUPS):
        raise ValueError("not an address in reverse order")
    if "zz" in groups:
        at = groups.index("zz")
        groups[at : at + 1] = ["0"] * (_GROUPS + 1 - len(groups))
    if len(groups) != _GROUPS:
        raise ValueError("not an address in reverse order")
    return b"".join(int(group, 16).to_bytes(2, "big") for group in map(_hexadecimal, groups))


def _hexadecimal(text: str) -> str:
    if not 1 <= len(text) <= 4 or text.strip("0123456789abcdef"):
        raise ValueError("not an IPv6 address in reverse order")
    return text


def _serial(soa: bytes) -> int:
    return int.from_bytes(soa[-20:-16], "big")
