"""The messages between the leader and its followers.

`PREPARE`, `SWITCH`, `SETTLE` and `UNDO` are the steps of `corepy.server.server.Server`. `LOOK`
checks that the event loop runs and returns readiness, `REPORT` returns the metrics, `COMMAND`
forwards an operator's command, and `STOP` makes the follower drain and exit. A follower sends one
message itself: `RELOAD`.
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
"""The descriptor of the channel in a follower."""


class Preparation(NamedTuple):
    """The body of `PREPARE`."""

    plan: Plan
    size: int
    """Processes of the server, including the leader."""

    sockets: Mapping[Listen, int]
    """The number of places at which each address is served."""


class Place(NamedTuple):
    """Part of `SWITCH`: an address to answer at.

    If its sockets are new, two descriptors accompany it.
    """

    listen: Listen
    port: int
    is_new: bool


class State(NamedTuple):
    """The reply to `LOOK`."""

    is_ready: bool


class Order(NamedTuple):
    """The body of `SWITCH`: all addresses of this process."""

    places: Sequence[Place]


class Command(NamedTuple):
    """The body of `COMMAND`; the hook of that name documents the fields."""

    name: str
    argument: Any


class Farewell(NamedTuple):
    """The reply to `STOP`, sent when everything is drained."""

    report: list[Family]
