"""Lists a handler's changes to a question on the way down, and to a reply on the way up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.message import Request
from corepy.dns.text import SECTIONS, Record, flag_names, option_texts, records_of, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply

_SHOWN = 4
"""Records of a section that are listed when records are added or removed."""


@dataclass(frozen=True, slots=True)
class QuestionState:
    """A query as it was at one moment."""

    name: str
    type: str
    class_: str
    flags: int
    edns: tuple[int, bool, bytes] | None
    """UDP size, DO and options."""

    @classmethod
    def of(cls, request: Request) -> QuestionState:
        """Return the current state of `request`."""
        edns = request.edns
        seen = None if edns is None else (edns.udp_size, edns.do, edns.options)
        return cls(request.qname, request.type, request.class_, request.flags, seen)

    @property
    def text(self) -> str:
        """The question as text, such as "example.org. A"."""
        class_ = "" if self.class_ == "IN" else f"{self.class_} "
        return f"{self.name} {class_}{self.type}"


def question_changes(before: QuestionState, after: QuestionState) -> list[str]:
    """Return the changes between two states of a question, one line each."""
    changes = []
    for what, old, new in (
        ("name", before.name, after.name),
        ("type", before.type, after.type),
        ("class", before.class_, after.class_),
    ):
        if old != new:
            changes.append(f"{what} {old} -> {new}")
    changes += _flag_changes(before.flags, after.flags)
    if before.edns != after.edns:
        changes += _edns_changes(before.edns, after.edns)
    return changes


def _edns_changes(
    before: tuple[int, bool, bytes] | None, after: tuple[int, bool, bytes] | None
) -> list[str]:
    if before is None:
        assert after is not None
        return [f"EDNS added, size {after[0]}", *_edns_changes((after[0], False, b""), after)]
    if after is None:
        return ["EDNS removed"]
    changes = []
    if before[0] != after[0]:
        changes.append(f"EDNS size {before[0]} -> {after[0]}")
    if before[1] != after[1]:
        changes.append("DO set" if after[1] else "DO cleared")
    return changes + _option_changes(before[2], after[2])


def _option_changes(before: bytes, after: bytes) -> list[str]:
    old, new = _options(before), _options(after)
    gone = [f"EDNS option removed: {text}" for text in old if text not in new]
    return gone + [f"EDNS option added: {text}" for text in new if text not in old]


def _options(options: bytes) -> list[str]:
    try:
        return option_texts(options)
    except FormError as error:
        return [f"unreadable ({error}): {options.hex()}"]


def _flag_changes(before: int, after: int) -> list[str]:
    old, new = flag_names(before), flag_names(after)
    cleared = [f"{name.upper()} cleared" for name in old if name not in new]
    return cleared + [f"{name.upper()} set" for name in new if name not in old]


@dataclass(frozen=True, slots=True)
class ReplyState:
    """A reply as it was at one moment."""

    wire: bytes
    rcode: int
    options: bytes
    error: str | None
    deadline: float | None
    is_dropped: bool
    is_series: bool

    @classmethod
    def of(cls, reply: Reply) -> ReplyState:
        """Return the current state of `reply`."""
        wire, dropped = bytes(reply.wire), bool(reply.is_dropped)
        is_series = reply.series is not None
        return cls(
            wire, reply.rcode, reply.options, reply.error, reply.deadline, dropped, is_series
        )

    @property
    def flags(self) -> int:
        """The second word of the header."""
        return int.from_bytes(self.wire[2:4], "big")

    def records(self) -> dict[str, list[Record]] | None:
        """Return the first records of each section; None if the message cannot be parsed."""
        try:
            return records_of(shortened(self.wire))
        except FormError:
            return None

    def summary(self) -> str:
        """Return the rcode and the number of answers, such as "NOERROR, 2 records"."""
        if self.is_dropped:
            return "no reply"
        if self.is_series:
            return "a series of messages"
        records = self.records()
        if records is None:
            return f"{c.rcode_name(self.rcode)}, but the message cannot be read"
        number = int.from_bytes(self.wire[6:8], "big")
        counted = f"{number} record{'' if number == 1 else 's'}" if number else "no records"
        return f"{c.rcode_name(self.rcode)}, {counted}"


def answer_changes(before: ReplyState, after: ReplyState, now: float) -> list[str]:
    """Return the changes between two states of a reply, one line each.

    `now` is the current monotonic time; the remaining time of a deadline is counted from it.
    """
    changes = []
    if before.is_dropped != after.is_dropped:
        changes.append("dropped" if after.is_dropped else "sent, although dropped below")
    if before.rcode != after.rcode:
        changes.append(f"rcode {c.rcode_name(before.rcode)} -> {c.rcode_name(after.rcode)}")
    changes += _flag_changes(before.flags, after.flags)
    changes += _record_changes(before, after)
    changes += _option_changes(before.options, after.options)
    if before.error and not after.error:
        changes.append("error removed")
    if before.deadline != after.deadline:
        changes.append(_deadline(after.deadline, now))
    return changes


def _deadline(deadline: float | None, now: float) -> str:
    if deadline is None:
        return "excluded from the packet cache"
    return f"allowed in the packet cache for {max(0.0, deadline - now):.0f} s"


def _record_changes(before: ReplyState, after: ReplyState) -> list[str]:
    if before.wire[12:] == after.wire[12:]:
        return []
    old, new = before.records(), after.records()
    if old is None or new is None:
        return [] if old is new else ["the message cannot be read" if new is None else "readable"]
    changes = _ttl_changes(old, new)
    for section in SECTIONS:
        changes += _section_changes(section, old[section], new[section])
    return changes


def _ttl_changes(old: dict[str, list[Record]], new: dict[str, list[Record]]) -> list[str]:
    """Return the TTL changes of the records that are in both messages."""
    known = {(it.name, it.class_, it.type, it.data): it.ttl for all_ in old.values() for it in all_}
    pairs = dict.fromkeys(
        (known[key], it.ttl)
        for all_ in new.values()
        for it in all_
        if (key := (it.name, it.class_, it.type, it.data)) in known and known[key] != it.ttl
    )
    return [f"TTL {was} -> {is_}" for was, is_ in pairs]


def _section_changes(section: str, old: Sequence[Record], new: Sequence[Record]) -> list[str]:
    before = [it._replace(ttl=0) for it in old]
    after = [it._replace(ttl=0) for it in new]
    gone = [it for it, timeless in zip(old, before, strict=True) if timeless not in after]
    come = [it for it, timeless in zip(new, after, strict=True) if timeless not in before]
    changes = _listed(f"{section}: removed", gone) + _listed(f"{section}: added", come)
    if not changes and before != after:
        changes.append(f"{section}: order changed")
    return changes


def _listed(what: str, records: Sequence[Record]) -> list[str]:
    lines = [f"{what} {' '.join(map(str, it))}" for it in records[:_SHOWN]]
    left = len(records) - _SHOWN
    return [*lines, f"{what} {left} more"] if left > 0 else lines
