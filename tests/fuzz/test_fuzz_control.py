"""Bytes at the control socket: one line of JSON or nothing, and the next command is obeyed."""

from __future__ import annotations

import atexit
import json
import os
import socket
import tempfile
from functools import cache
from pathlib import Path

import pytest

from corepy.plugin import control_client
from corepy.testing import serve
from corepy.testing.fuzzing import Source, briefly

VALUES: tuple[object, ...] = (
    "explain", "cache", "purge", "", "x" * 300, None, True, -1, 10**30, 1e308, [], {}, [[[]]],
    {"name": "a.example."}, {"name": "\\999."}, {"name": "a", "type": "TYPE70000"}, {"name": 1},
    {"name": "a", "times": 10**9}, {"name": "a", "edns": -1}, {"name": "a", "client": "fe80::1%x"},
    {"name": "a", "at": "["}, {"name": "a.", "protocol": "tls"}, {"name": "x" * 300}, {"name": "\ud800"},
    {"name": "a", "class_": "CLASS99999"}, {"what": "name", "name": "a"}, {"purge": "a."},
)  # fmt: skip


@cache
def path() -> Path:
    """The socket of a server that lasts as long as the process."""
    folder = tempfile.TemporaryDirectory()
    before = os.environ.get("RUNTIME_DIRECTORY")
    os.environ["RUNTIME_DIRECTORY"] = folder.name
    try:
        running = serve(".:0 {\ncache\nwhoami\n}\n", control=True)
        running.__enter__()
    finally:
        os.environ.pop("RUNTIME_DIRECTORY")
        if before is not None:
            os.environ["RUNTIME_DIRECTORY"] = before
    atexit.register(folder.cleanup)
    atexit.register(running.__exit__, None, None, None)
    return next(Path(folder.name).glob(control_client.PATTERN))


def exchange(pieces: list[bytes]) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path()))
        answer = b""
        try:
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        try:
            while more := sock.recv(65536):
                answer += more
        except ConnectionResetError:
            pass
    return answer


def build(source: Source) -> bytes:
    question = {"command": source.pick(VALUES)}
    if source.one_in(2):
        question["argument"] = source.pick(VALUES)
    if source.one_in(8):
        question[source.take(4).hex()] = source.pick(VALUES)
    line = json.dumps(question if not source.one_in(8) else source.pick(VALUES)).encode()
    if source.one_in(6):
        line = line[: source.number(0, len(line))] + source.take(5)
    return line + (b"\n" if not source.one_in(6) else b"") + source.take(source.number(0, 5))


def check(data: bytes) -> None:
    source = Source(data)
    stream = source.take(source.left) if source.one_in(8) else build(source)
    at = source.number(0, len(stream))
    check_answer(exchange([stream[:at], stream[at:]]))
    good = json.loads(exchange([b'{"command": "explain", "argument": {"name": "a.example."}}\n']))
    assert good["value"]["reply"]["rcode"] == "NOERROR"


def check_answer(answer: bytes) -> None:
    if answer:
        assert answer.count(b"\n") == 1
        said = json.loads(answer)
        assert len(said.keys() & {"value", "error"}) == 1
        assert "Error:" not in said.get("error", ""), said  # the name of an exception is no message


SEEDS = {
    "depth": b"\7" + b'{"command":' + b"[" * 5000,
    "a name that is none": b'\7{"command": "explain", "argument": {"name": "\\\\999."}}\n',
    "a lone surrogate": b'\7{"command": "explain", "argument": {"name": "\\ud800"}}\n',
}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_line() -> None:
    briefly(check, 60)
