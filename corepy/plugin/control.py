"""Commanding the servers that run here: where their control sockets lie, and how one asks.

Every server process listens at a local socket of mode 0600 (see `corepy.server.control`). One
connection carries one question and one answer, each a JSON object on one line:

    {"command": "cache/purge", "argument": {"name": "example.org."}}
    {"value": ...}    or    {"error": "what is wrong, for the operator"}

An error has `"unknown": true` beside it where no plugin of the server knows the command.

This is the client's side, for commands such as `corepy cache purge`: blocking, and free of asyncio.
Plugins answer with the hook `command`.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any, Final

from corepy.net.runtime import runtime_folders

PATTERN: Final = "control-*.sock"
"""Names of the sockets; the star is the process ID and something that no other process has."""

LONGEST_QUESTION: Final = 64 * 1024
LONGEST_ANSWER: Final = 4 * 1024 * 1024
PATIENCE: Final = 30.0
"""Seconds that a server may take to carry out a command."""

_GRACE: Final = 5.0  # seconds more that a client waits
_STARTING: Final = 10.0  # seconds from a socket's making within which its owner listens


class ControlError(Exception):
    """A command that was not carried out, in words for the operator."""


class ServerGoneError(ControlError):
    """Nobody listens at a socket any more."""


class NotKnownError(ControlError):
    """A command that no plugin of the server knows."""


def folders() -> list[Path]:
    """Return where a socket may lie, in the order in which they are tried."""
    return [Path(name) for name in runtime_folders()]


def sockets() -> list[Path]:
    """Return the sockets of running servers; those of servers that died are removed."""
    return [path for folder in folders() for path in sorted(folder.glob(PATTERN)) if _lives(path)]


def process_of(path: Path) -> int:
    """Return the process ID that the name of a socket tells."""
    return int(path.name.split("-")[1])


def ask(path: Path, command: str, argument: Any = None) -> Any:
    """Return what the server at `path` answers to `command`; raises `ControlError`.

    `argument` and the answer are what JSON can say.
    """
    import json  # servers import this module as well, and most are never asked

    question = json.dumps({"command": command, "argument": argument}).encode() + b"\n"
    if len(question) > LONGEST_QUESTION:
        raise ControlError("the question is too long")
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
        raise ControlError(f"{path}: no answer")
    if answer.get("unknown"):
        raise NotKnownError(str(answer["error"]))
    if "error" in answer:
        raise ControlError(str(answer["error"]))
    return answer["value"]


def ask_all(command: str, argument: Any = None) -> list[tuple[Path, Any]]:
    """Return what each running server answers, with its socket; raises `ControlError`.

    One that stops at this moment is left out, as is one whose plugins do not know the command.
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
            return True  # many others ask at this moment
        except ConnectionRefusedError:
            _remove_if_old(path)
            return False
        except OSError:
            return False  # another user's
    return True


def _remove_if_old(path: Path) -> None:
    """Remove a socket that nobody listens to any more; not one whose owner does not listen yet."""
    try:
        if time.time() - path.stat().st_mtime > _STARTING:
            path.unlink()
    except OSError:
        pass  # somebody else was faster, or may
