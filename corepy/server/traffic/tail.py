"""The command `tail`: a client opens a watcher, polls it, and stops it.

The argument to open one is {"filter": {...}}; the result is {"id": ID}. Then {"id": ID, "wait":
SECONDS} returns the events since the last poll, as soon as there are any, and {"id": ID, "stop":
true} ends it. The watchers of all processes of a server have the same ID.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin.errors import CommandError
from corepy.server.traffic.watchers import LONGEST_WAIT, Filter, Watchers

if TYPE_CHECKING:
    from corepy.server.server import Server

TAIL: Final = "tail"
_USAGE: Final = (
    'tail takes {"filter": OBJECT}, {"id": ID, "wait": SECONDS} or {"id": ID, "stop": true}'
)


async def tail(server: Server, argument: Any) -> dict[str, Any]:
    """Carry out the command in all processes; raises `CommandError`."""
    if isinstance(argument, dict) and argument.keys() == {"filter"}:
        Filter.of(argument["filter"])
        name = os.urandom(8).hex()
        await _everywhere(server, {"id": name, **argument})
        return {"id": name}
    if not isinstance(argument, dict) or not isinstance(argument.get("id"), str):
        raise CommandError(_USAGE)
    if argument.keys() <= {"id", "wait"}:
        return await _poll(server, argument["id"], _wait(argument))
    if argument.keys() == {"id", "stop"} and argument["stop"] is True:
        await _everywhere(server, argument)
        return {}
    raise CommandError(_USAGE)


async def _poll(server: Server, name: str, wait: float) -> dict[str, Any]:
    """Return the events of all processes; one that was started meanwhile begins to watch."""
    watcher = server.traffic.watchers.active.get(name)
    if watcher is None:
        raise CommandError("this watcher does not exist, or was not polled for too long")
    argument = {"id": name, "wait": wait, "filter": watcher.argument}
    return _merged(await _everywhere(server, argument))


def _wait(argument: dict[str, Any]) -> float:
    wait = argument.get("wait", 0)
    is_number = isinstance(wait, int | float) and not isinstance(wait, bool)
    if not is_number or not 0 <= wait <= LONGEST_WAIT:
        raise CommandError(f"wait of tail must be a number of seconds from 0 to {LONGEST_WAIT:g}")
    return float(wait)


async def _everywhere(server: Server, argument: dict[str, Any]) -> list[dict[str, Any]]:
    here = tail_here(server.traffic.watchers, argument)
    own, others = await asyncio.gather(here, server.ask_followers(TAIL, argument))
    return [own, *others]


async def tail_here(watchers: Watchers, argument: dict[str, Any]) -> dict[str, Any]:
    """Carry out the command in this process."""
    name: str = argument["id"]
    if "stop" in argument:
        watchers.remove(name)
        return {}
    if name not in watchers.active:
        watchers.add(name, argument["filter"])
    return await watchers.poll(name, argument["wait"]) if "wait" in argument else {}


def _merged(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of the processes as one, with the events in the order of their times."""
    events = sorted((each for one in found for each in one["events"]), key=lambda it: it["time"])
    left_out = [one["left_out"] for one in found]
    return {
        "events": events,
        "left_out": {key: sum(each[key] for each in left_out) for key in left_out[0]},
        "seen": sum(one["seen"] for one in found),
    }
