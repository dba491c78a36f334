"""The parts of a rule: trigger, action and source, and their numbers in a table.

A key in a table is a name in wire form, or begins with a byte that no name begins with.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class Action(IntEnum):
    """The effect of a rule."""

    PASSTHRU = 0
    """The query and its reply are exempt from all further rules."""

    NXDOMAIN = 1
    NODATA = 2
    DROP = 3
    TCP_ONLY = 4
    LOCAL_DATA = 5
    REFUSED = 6
    ADDRESS = 7
    LISTED = 8
    """That of the option `action`."""

    @property
    def word(self) -> str:
        """The action in logs and metrics."""
        return self.name.lower().replace("_", "-")


NAME: Final = 0x10
"""A rule applies to the name of its key."""

BELOW: Final = 0x20
"""A rule applies to the names below that of its key."""

CLIENT_IP: Final = 0xC0
RESPONSE_IP: Final = 0xC1
NSDNAME: Final = 0xC2
"""First bytes of the keys of other triggers than QNAME."""

MOST_KEY_BYTES: Final = 255


class SourceKind(IntEnum):
    """Kinds of sources, each with the reader of its files."""

    ALLOW = 0
    LIST = 1
    RPZ = 2
    TRANSFERRED_RPZ = 3
    """A file in memory with records in wire form; its path is the number of a descriptor."""


class SourceFile(NamedTuple):
    """A file with rules. The first source with a rule that applies decides."""

    kind: SourceKind
    path: str
    zone: str = ""
    """The zone of an RPZ; "" if the file names it."""

    name: str = ""
    """How the file is called in messages; "" if by its path."""

    content: object = None
    """The owner of a file in memory, which exists as long as this object."""

    @property
    def label(self) -> str:
        """The file in messages and metrics."""
        return self.name or self.path


class Rule(NamedTuple):
    """A rule that was found in a table."""

    source: int
    """The number of its source. The lowest one decides."""

    action: Action
    line: int
    """The line of the file."""

    data: int = 0
    """The position of its records in the table."""

    prefix: int = 0
    """The prefix length of an IP trigger; 96 more for IPv4, as if mapped to IPv6."""


class LocalRecord(NamedTuple):
    """A record of local data; its owner is the name that is asked for."""

    rtype: int
    ttl: int
    rdata: bytes


Mask = tuple[int, int]
"""First byte of a key, and prefix length of an IP trigger."""


def network_key(kind: int, address: bytes, prefix: int) -> bytes:
    """Return the key of a network, such as a response IP address; host bits are ignored."""
    bits = len(address) * 8
    number = int.from_bytes(address, "big") >> (bits - prefix) << (bits - prefix)
    return bytes((kind, prefix)) + number.to_bytes(len(address), "big")
