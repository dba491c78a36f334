"""How lines reach standard output: together, in order, and without waiting for the reader."""

import asyncio
import fcntl
import io
import json
import os
import resource
import sys
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from corepy.net.outlet import LIMIT, LONGEST_LINE, LineStream, Outlet
from corepy.plugin.log import OutputHandler
from corepy.plugin.output import LineWriter, as_json

PIECE = 4096
T = TypeVar("T")


class Pipe:
    """Standard output is a pipe; in packet mode, where a read returns what one write wrote."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
        os.set_blocking(self.read_end, False)
        self.stdout = os.fdopen(self.write_end, "w")

    def packet(self) -> bytes:
        try:
            return os.read(self.read_end, 65536)
        except BlockingIOError:
            return b""

    def everything(self) -> bytes:
        return b"".join(iter(self.packet, b""))

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine with this as sys.stdout, which pytest sets anew for each phase."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", self.stdout)
            return asyncio.run(main)

    def close_read_end(self) -> None:
        os.close(self.read_end)
        self.read_end = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.stdout.close()
    if pipe.read_end >= 0:
        os.close(pipe.read_end)


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_one_write_a_turn(pipe: Pipe) -> None:
    async def run() -> None:
        writer = LineWriter()
        for line in ("one", "two", "thr\u00e9\u00e9"):
            writer.write(line)
        assert pipe.packet() == b""
        await turn()
        assert pipe.packet().decode() == "one\ntwo\nthr\u00e9\u00e9\n"
        assert pipe.packet() == b""
        writer.write("four")
        await turn()
        assert pipe.packet() == b"four\n"

    pipe.run(run())


def test_pieces_end_with_a_line(pipe: Pipe) -> None:
    async def run() -> None:
        writer = LineWriter()
        for number in range(300):
            writer.write(f"{number:99}")
        writer.write("x" * 10_000)
        await turn()

    pipe.run(run())
    packets = list(iter(pipe.packet, b""))
    assert all(len(packet) <= PIECE for packet in packets)
    lines = b"".join(packets).decode().splitlines()
    assert [int(line) for line in lines[:-1]] == list(range(300))
    assert lines[-1] == "x" * 10_000
    assert sum(packet.endswith(b"\n") for packet in packets) >= len(packets) - 2


def test_a_reader_that_stalls(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, PIECE)

    async def run() -> bytes:
        writer = LineWriter()
        for number in range(40):
            for _ in range(1000):
                writer.write(f"{number:99}")
            await turn()  # would never end if a write waited
        assert writer._outlet._kept <= LIMIT + 100_000
        read = drain(writer)
        writer.write("last")
        return read + drain(writer)

    def drain(writer: LineWriter) -> bytes:
        read = b""
        while not writer._outlet.is_empty or writer._lines:
            writer.flush()
            read += pipe.everything()
        return read

    *lines, lost, last = pipe.run(run()).decode().splitlines()
    assert [int(line) for line in lines] == sorted(int(line) for line in lines)
    assert (
        lost == f"[WARNING] {40_000 - len(lines)} lines of output lost because they were not read"
    )
    assert last == "last"
    assert LIMIT <= len(lines) * 100 <= LIMIT + 100_000 + PIECE


def test_tries_again_by_itself(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, PIECE)

    async def run() -> None:
        writer = LineWriter()
        for _ in range(3):
            writer.write("x" * (PIECE - 1))
            await turn()
        read = 0
        while read < 3 * PIECE:
            read += len(pipe.everything())
            await asyncio.sleep(0.01)

    pipe.run(asyncio.wait_for(run(), 60))


def test_waits_at_the_end_if_told(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, PIECE)

    async def run() -> None:
        writer = LineWriter()
        for _ in range(4):
            writer.write("x" * (PIECE - 1))
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(None, read_all, 4 * PIECE)
        await loop.run_in_executor(None, writer.flush, 20.0)
        await reading

    def read_all(size: int) -> None:
        os.set_blocking(pipe.read_end, True)
        while size > 0:
            size -= len(os.read(pipe.read_end, PIECE))

    pipe.run(run())


def test_a_reader_that_is_gone(pipe: Pipe) -> None:
    async def run() -> None:
        writer = LineWriter()
        pipe.close_read_end()
        writer.write("lost")
        await turn()
        assert writer._outlet.is_empty
        assert writer._outlet._kept == 0

    pipe.run(run())


def test_non_blocking_output(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, PIECE)
    os.set_blocking(pipe.write_end, False)

    async def run() -> None:
        writer = LineWriter()
        for _ in range(3):
            writer.write("x" * 2999)
        await turn()
        read = 0
        while read < 9000:
            read += len(pipe.everything())
            writer.flush()

    pipe.run(run())


@pytest.mark.parametrize("closed", [False, True])
def test_output_in_memory(monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)

    async def run() -> None:
        writer = LineWriter()
        writer.write("lone \udc80")
        if closed:
            stream.close()
        await turn()
        assert writer._outlet.is_empty

    asyncio.run(run())
    assert closed or stream.getvalue() == "lone \\udc80\n"


def test_no_output_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    async def run() -> None:
        writer = LineWriter()
        writer.write("lost")
        await turn()
        assert writer._outlet.is_empty

    asyncio.run(run())


def test_a_loop_that_ended_early_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    writer = LineWriter()
    loop = asyncio.new_event_loop()
    loop.call_soon(writer.write, "one")
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()

    async def run() -> None:
        writer.write("two")
        await turn()

    asyncio.run(run())
    assert stream.getvalue() == "one\ntwo\n"


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("[INFO] plugin/reload: done", {"level": "info", "plugin": "reload", "message": "done"}),
        ("[ERROR] SIGUSR1: no\n  caret", {"level": "error", "message": "SIGUSR1: no\n  caret"}),
        (".:53 on 127.0.0.1", {"level": "info", "message": ".:53 on 127.0.0.1"}),
        ('[INFO] a "b" \\c \u2028', {"level": "info", "message": 'a "b" \\c \u2028'}),
    ],
)
def test_lines_as_json(line, fields):
    text = as_json(line)
    assert "\n" not in text
    got = json.loads(text)
    assert isinstance(got.pop("time"), float)
    assert got == fields


def test_a_disk_that_has_room_again_gets_a_line_that_counts_those_that_were_lost(
    tmp_path, monkeypatch
):
    """And half a line that it had taken ends before that one."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    outlet = Outlet()
    path = tmp_path / "log"
    with path.open("wb") as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, limit[1]))
        try:
            for line in ("first", "second", "third"):
                outlet.put([line])
                outlet.write(file.fileno())
                assert outlet.is_empty
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        outlet.put(["fourth"])
        outlet.write(file.fileno())
    assert path.read_text().splitlines() == [
        "first",
        "se",
        "[WARNING] 2 lines of output lost because they were not read",
        "fourth",
    ]


def test_a_thread_that_writes_for_a_reader_that_stalls_keeps_the_loop_from_nothing(
    pipe: Pipe,
) -> None:
    """Neither the writer's lock nor the one that logging has for a handler is held meanwhile."""
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, PIECE)
    handler, writer = OutputHandler(), LineWriter()

    async def run() -> None:
        writer.write("x" * (PIECE - 1))
        writer.write("waits for the reader")
        await turn()
        loop = asyncio.get_running_loop()
        waiting = loop.run_in_executor(None, writer.flush, 60.0)
        writer.write("from the loop")
        await turn()
        assert not waiting.done()
        read = b""
        while not waiting.done():
            read += pipe.everything()
            await asyncio.sleep(0.01)
        assert (read + pipe.everything()).endswith(b"from the loop\n")

    pipe.run(run())
    assert handler.lock is None


def test_a_thread_does_not_wait_for_the_reader(pipe: Pipe) -> None:
    fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, PIECE)

    async def run() -> None:
        writer = LineWriter()
        writer.write("x" * (PIECE - 1))
        await turn()  # the pipe is full
        await asyncio.to_thread(writer.write, "of a thread")
        assert not writer._outlet.is_empty
        read = b""
        while b"of a thread\n" not in read:
            read += pipe.everything()
            await asyncio.sleep(0.01)

    pipe.run(asyncio.wait_for(run(), 60))


def test_a_line_written_in_the_midst_of_a_write_is_written_after_it(pipe: Pipe) -> None:
    """A finalizer may log at any time; the lock of the writer must not wait for itself."""
    writer = LineWriter()

    class Stream:
        def fileno(self) -> int:
            if not writer._lines and b"second" not in pipe_lines:
                pipe_lines.append(b"second")
                writer.write("second")
            return pipe.write_end

    pipe_lines: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", Stream())
        writer.write("first")
    assert pipe.everything() == b"first\nsecond\n"


def test_print_and_tracebacks_become_lines() -> None:
    lines: list[str] = []
    stream = LineStream(lines.append, 1)
    print("one", "two", file=stream)
    print("begun", end="", file=stream)
    assert lines == ["one two"]
    print(" and ended\nthree", file=stream)
    stream.buffer.write(b"bytes \xff\n")
    print("not ended", end="", file=stream, flush=True)
    assert lines == ["one two", "begun and ended", "three", "bytes \\xff", "not ended"]
    stream.write("x" * (LONGEST_LINE + 1))
    assert len(lines[-1]) == LONGEST_LINE + 1
    assert (stream.fileno(), stream.writable(), stream.isatty()) == (1, True, False)
