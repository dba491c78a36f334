"""What the leader of a server's processes asks of the others, and how it is said.

`PREPARE`, `SWITCH`, `SETTLE` and `UNDO` are the steps of `corepy.server.server.Server`; `LOOK` asks
whether the event loop still turns, `REPORT` what was counted, `COMMAND` passes on an operator's
command, and `STOP` asks to drain and end. A follower may ask as well: `RELOAD`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.plugin.report import Family
    from corepy.server.endpoint import Listen
    from corepy.server.generation import Plan

PREPARE: Final = "prepare"
SWITCH: Final = "switch"
SETTLE: Final = "settle"
UNDO: Final = "undo"
LOOK: Final = "look"
REPORT: Final = "report"
COMMAND: Final = "command"
STOP: Final = "stop"
RELOAD: Final = "reload"

CHANNEL_FD: Final = 3
"""Where a follower finds its end of the channel."""


class Preparation(NamedTuple):
    """With `PREPARE`."""

    plan: Plan
    size: int
    """Processes of the server, the leader included."""

    sockets: Mapping[Listen, int]
    """At how many places each address is served."""


class Place(NamedTuple):
    """With `SWITCH`: an address to answer at; two descriptors come along if its sockets are new."""

    listen: Listen
    port: int
    is_new: bool


class State(NamedTuple):
    """Answers `LOOK`."""

    is_ready: bool


class Order(NamedTuple):
    """With `SWITCH`: all addresses of this process."""

    places: Sequence[Place]


class Command(NamedTuple):
    """With `COMMAND`; the hook of that name says more."""

    name: str
    argument: Any


class Farewell(NamedTuple):
    """Answers `STOP`, when everything is drained."""

    report: list[Family]
