"""The messages between the leader and its followers.

`PREPARE`, `ACTIVATE`, `FINALIZE` and `ROLLBACK` are the steps of `corepy.server.server.Server`. The
first `PREPARE` of a process may carry the descriptor of a snapshot of the leader's state.
`CHECK` checks that the event loop runs and returns readiness, `REPORT` returns the metrics,
`COMMAND` forwards an operator's command, and `STOP` makes the follower drain and exit. A follower
sends two messages itself: `RELOAD`, and `CONNECT`, whose body is a name at which a plugin of the
leader listens, with one end of a socket pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.server.build.generation import Plan
    from corepy.server.listen.endpoint import Listen
    from corepy.server.workers.metrics_report import Family

PREPARE: Final = "prepare"
ACTIVATE: Final = "activate"
FINALIZE: Final = "finalize"
ROLLBACK: Final = "rollback"
CHECK: Final = "check"
REPORT: Final = "report"
COMMAND: Final = "command"
STOP: Final = "stop"
RELOAD: Final = "reload"
CONNECT: Final = "connect"

CHANNEL_FD: Final = 3
"""The descriptor of the channel in a follower."""


class Preparation(NamedTuple):
    """The body of `PREPARE`."""

    plan: Plan
    size: int
    """Processes of the server, including the leader."""

    sockets: Mapping[Listen, int]
    """The number of shards at which each address is served."""


class ActivatedAddress(NamedTuple):
    """Part of `ACTIVATE`: an address to answer at.

    If its sockets are new, a descriptor for each socket of its transport accompanies it.
    """

    listen: Listen
    port: int
    is_new: bool


class CheckReply(NamedTuple):
    """The reply to `CHECK`."""

    is_ready: bool


class Activation(NamedTuple):
    """The body of `ACTIVATE`: all addresses of this process."""

    addresses: Sequence[ActivatedAddress]


class Command(NamedTuple):
    """The body of `COMMAND`; the hook of that name documents the fields."""

    name: str
    argument: Any


class StopReply(NamedTuple):
    """The reply to `STOP`, sent when everything is drained."""

    report: list[Family]
