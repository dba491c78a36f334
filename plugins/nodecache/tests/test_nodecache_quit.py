"""SIGQUIT to node-cache ends the process, whatever becomes of the rules and the interface."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from corepy_nodecache.node_cache import sync
from corepy_nodecache.node_cache.corefile_maker import CorefileMaker
from corepy_nodecache.node_cache.flags import Options
from corepy_nodecache.node_cache.sync import Sync

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Exited(BaseException):
    """Takes the place of the end of the process."""


def leave(code: int) -> NoReturn:
    raise Exited(code)


async def hangs() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise LookupError("a mistake")


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (hangs, "rules and interface are still there after 0 s: "),
        (fails, "rules and interface may still be there: "),
    ],
)
def test_a_removal_that_does_not_end_or_fails(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    remove: Callable[[], Awaitable[None]],
    message: str,
) -> None:
    monkeypatch.setattr(sync, "QUIT_TIMEOUT", 0)
    monkeypatch.setattr(sync, "remove_everything", remove)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Exited) as caught:
        asyncio.run(Sync(CorefileMaker(Options(), {}))._tear_down())
    assert caught.value.args == (0,)
    assert caplog.messages[-1] == message + sync.REMEDY
