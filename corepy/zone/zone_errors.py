"""The exceptions of this package."""

from __future__ import annotations

from corepy.dns.constants import type_name
from corepy.dns.names import to_text


class ZoneError(ValueError):
    """The records cannot be a zone; the message has the reason."""


class RecordRefused(ZoneError):
    """A record contradicts the rest of the zone, or the rules for its type."""

    def __init__(self, problem: str, owner: bytes, rtype: int) -> None:
        super().__init__(f"{to_text(owner)} {type_name(rtype)}: {problem}")
        self.problem = problem
        self.owner = owner
        self.rtype = rtype


class OutOfZone(RecordRefused):
    """The owner of a record is not in the zone; such a record can be left out."""

    def __init__(self, owner: bytes, rtype: int, origin: bytes) -> None:
        super().__init__(f"the owner is not in the zone {to_text(origin)}", owner, rtype)
