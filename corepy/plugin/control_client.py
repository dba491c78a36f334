"""Client of the control sockets of local servers, for commands such as `corepy cache purge`.

Every server process listens on a Unix socket with mode 0600 (see `corepy.server.control_socket`).
One connection carries one request and one response, each a JSON object on one line:

    {"command": "cache/purge", "argument": {"name": "example.org."}}
    {"value": ...}    or    {"error": "the problem, for the operator"}

An error also has `"unknown": true` if no plugin of the server implements the command.

The client is blocking and does not use asyncio. Plugins implement commands with the hook `command`.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any, Final

from corepy.net.runtime import runtime_folders

PATTERN: Final = "control-*.sock"
"""File names of the sockets; the star is the process ID and a unique suffix."""

LONGEST_QUESTION: Final = 64 * 1024
LONGEST_ANSWER: Final = 4 * 1024 * 1024
PATIENCE: Final = 30.0
"""Maximum seconds for a server to execute a command."""

_GRACE: Final = 5.0  # additional seconds that a client waits
_STARTING: Final = 10.0  # maximum seconds between creating a socket and listening on it


class ControlError(Exception):
    """A command failed; the message is for the operator."""


class ServerGoneError(ControlError):
    """The server of a socket is gone."""


class NotKnownError(ControlError):
    """No plugin of the server implements the command."""


def folders() -> list[Path]:
    """Return the folders for control sockets, in the order in which they are tried."""
    return [Path(name) for name in runtime_folders()]


def sockets() -> list[Path]:
    """Return the sockets of running servers; remove those of servers that have crashed."""
    return [path for folder in folders() for path in sorted(folder.glob(PATTERN)) if _lives(path)]


def process_of(path: Path) -> int:
    """Return the process ID in the name of a socket."""
    return int(path.name.split("-")[1])


def ask(path: Path, command: str, argument: Any = None) -> Any:
    """Return the response of the server at `path` to `command`; raises `ControlError`.

    `argument` and the response are JSON values.
    """
    import json  # imported lazily: servers import this module, too, and rarely need it

    question = json.dumps({"command": command, "argument": argument}).encode() + b"\n"
    if len(question) > LONGEST_QUESTION:
        raise ControlError("the request is too long")
    try:
        line = _exchange(path, question)
    except (ConnectionError, FileNotFoundError) as error:
        raise ServerGoneError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}") from None
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not answer.keys() & {"value", "error"}:
        raise ControlError(f"{path}: no response")
    if answer.get("unknown"):
        raise NotKnownError(str(answer["error"]))
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer["value"]


def ask_all(command: str, argument: Any = None) -> list[tuple[Path, Any]]:
    """Return each running server's response, with its socket; raises `ControlError`.

    Servers that stop at this moment, and servers without the command, are left out.
    """
    answers = []
    for path in sockets():
        try:
            answers.append((path, ask(path, command, argument)))
        except (ServerGoneError, NotKnownError):
            continue
    return answers


def _exchange(path: Path, question: bytes) -> bytes:
    deadline = time.monotonic() + PATIENCE + _GRACE
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE + _GRACE)
        sock.connect(str(path))
        sock.sendall(question)
        answer = bytearray()
        while not answer.endswith(b"\n") and len(answer) <= LONGEST_ANSWER:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
            piece = sock.recv(65536)
            if not piece:
                break
            answer += piece
    return bytes(answer)


def _lives(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except BlockingIOError:
            return True  # the backlog is full of other clients
        except ConnectionRefusedError:
            _remove_if_old(path)
            return False
        except OSError:
            return False  # owned by another user
    return True


def _remove_if_old(path: Path) -> None:
    """Remove a dead socket, unless it is so new that its owner may not listen yet."""
    try:
        # time of day: the age of a socket, for an operator's command
        if time.time() - path.stat().st_mtime > _STARTING:
            path.unlink()
    except OSError:
        pass  # removed by another process, or owned by another user
