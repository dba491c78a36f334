"""Delivers signals as events of the supervisor's loop."""

from __future__ import annotations

import selectors
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType


def install_handlers(
    selector: selectors.BaseSelector, actions: Mapping[int, Callable[[], None]]
) -> tuple[socket.socket, socket.socket]:
    """Run the action of each signal in the loop; SIGCHLD only wakes the loop.

    The caller must keep the result for as long as signals are handled.
    """
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in (*actions, signal.SIGCHLD):
        signal.signal(number, _ignore)

    def on_signal(sock: socket.socket, _events: int) -> None:
        for number in sock.recv(64):
            if number in actions:
                actions[number]()

    selector.register(reader, selectors.EVENT_READ, on_signal)
    return reader, writer


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the signal wakes the loop, which runs the action."""
