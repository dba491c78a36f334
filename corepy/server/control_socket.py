"""The control socket of a process: a local socket that receives the operator's commands.

It belongs to the process, not to a generation, so a reload keeps it. Two processes on one host,
such as the old and the new worker of an upgrade, have one each. Its failures are logged and affect
nothing else: the server runs without it. `corepy.plugin.control_client` documents the path and the
protocol.
"""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from corepy.net.acceptor import Acceptor
from corepy.plugin import control_client
from corepy.plugin.control_client import LONGEST_ANSWER, LONGEST_QUESTION, PATIENCE, PATTERN
from corepy.plugin.errors import CommandError, UnknownCommandError
from corepy.plugin.log import server_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST: Final = 64
"""Concurrent connections; a further one is closed."""

_IDLE: Final = 5.0  # seconds that a client has to send its line
_CLOSING: Final = 2.0  # seconds that running commands get when the process stops
_ONLY_OWNER: Final = 0o177


class ControlSocket:
    """The control socket of one process; belongs to one event loop."""

    def __init__(self, run_command: Callable[[str, Any], Awaitable[Any]]) -> None:
        """`run_command` carries out a command with its argument, and returns plain data for JSON.

        An exception that it raises becomes an error reply with its text; any other than
        `CommandError` is logged as well.
        """
        self.path: Path | None = None
        self.connections: set[ControlConnection] = set()
        self._run_command = run_command
        self._acceptor: Acceptor | None = None

    def open(self) -> None:
        """Listen in the first usable runtime folder; log a warning without one."""
        refusals = []
        try:
            control_client.sockets()  # as a side effect, removes the sockets of killed processes
        except OSError as error:
            refusals.append(str(error))
        for folder in control_client.folders():
            try:
                sock, self.path = _bind(folder)
            except OSError as error:
                refusals.append(f"{folder}: {error.strerror or error}")
                continue
            self._acceptor = Acceptor(
                sock, lambda: ControlConnection(self), str(self.path), server_logger()
            )
            self._acceptor.start()
            return
        reasons = "; ".join(refusals) or "found no folder"
        server_logger().warning(
            "no control socket, so commands cannot reach this server: %s"
            " (set XDG_RUNTIME_DIR to a folder that this user may write to)",
            reasons,
        )

    async def close(self) -> None:
        """Stop listening, remove the socket, and wait briefly for running commands."""
        if self.path is not None:
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:
                server_logger().warning("cannot remove %s: %s", self.path, error.strerror)
        if self._acceptor is None:
            return
        self._acceptor.stop()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CLOSING
        while self._acceptor.is_opening or self.connections:
            for connection in list(self.connections):
                if loop.time() < deadline:
                    connection.close_if_idle()
                else:
                    connection.give_up()
            await asyncio.sleep(0.001)

    async def answer(self, line: bytes) -> bytes:
        """Carry out the command in one line and return the line of the reply."""
        try:
            command, argument = _parse(line)
            async with asyncio.timeout(PATIENCE):
                value = await self._run_command(command, argument)
            answer = _line({"value": value})
        except UnknownCommandError as error:
            return _line({"error": str(error), "unknown": True})
        except CommandError as error:
            return _line({"error": str(error)})
        except TimeoutError:
            return _line({"error": f"it took longer than {PATIENCE:g} s"})
        except Exception as error:
            server_logger().exception("a command on the control socket failed")
            return _line({"error": f"{type(error).__name__}: {error}"})
        if len(answer) > LONGEST_ANSWER:
            return _line({"error": "the response is too long"})
        return answer


class ControlConnection(asyncio.Protocol):
    """One connection to the control socket: one command line and its reply."""

    def __init__(self, owner: ControlSocket) -> None:
        self._owner = owner
        self._line = b""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timeout for the command line."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._owner.connections) >= MOST:
            transport.abort()
            return
        self._owner.connections.add(self)
        self._timer = self._loop.call_later(_IDLE, self.close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection; a running command continues."""
        if self._timer is not None:
            self._timer.cancel()
        self._owner.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Carry out the first complete line; close the connection if it is too long."""
        if self._task is not None:
            return
        self._line += data
        line, end, _ = self._line.partition(b"\n")
        if end:
            self._task = self._loop.create_task(self._owner.answer(line), name="corepy-control")
            self._task.add_done_callback(self._answer)
        elif len(line) > LONGEST_QUESTION:
            self._transport.close()

    def eof_received(self) -> bool:
        """Still answer a client that half-closed after its request."""
        return self._task is not None

    def _answer(self, task: asyncio.Task[bytes]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._transport.abort()
            return
        self._transport.write(task.result())
        self._transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(_IDLE, self._transport.abort)  # client may not read

    def close_if_idle(self) -> None:
        """Close unless a command is running; in that case `_answer` closes."""
        if self._task is None:
            self._transport.close()

    def give_up(self) -> None:
        """Cancel a running command and close."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()


def _parse(line: bytes) -> tuple[str, Any]:
    import json  # most servers never receive a command

    try:
        question = json.loads(line)
    except (ValueError, RecursionError):
        raise CommandError("not a line of JSON") from None
    if not isinstance(question, dict) or not isinstance(question.get("command"), str):
        raise CommandError('not an object with a "command"')
    return question["command"], question.get("argument")


def _line(answer: dict[str, Any]) -> bytes:
    import json

    return json.dumps(answer).encode() + b"\n"


def _bind(folder: Path) -> tuple[socket.socket, Path]:
    folder.mkdir(mode=0o755, exist_ok=True)
    # Containers that share the folder may have equal process IDs.
    path = folder / PATTERN.replace("*", f"{os.getpid()}-{os.urandom(4).hex()}")
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    before = os.umask(_ONLY_OWNER)
    try:
        sock.bind(str(path))
        sock.listen()
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock, path
