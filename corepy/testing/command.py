"""Runs the real `corepy` command as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corepy.testing.client import Address, ask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import dnslib

_LISTENING = re.compile(r"^\S+:(\d+)(?: on (\S+))?$")
START_TIMEOUT = 60.0


class Command:
    """A running `corepy` process, made by `run_command`; `lines` collects its output."""

    def __init__(self, process: subprocess.Popen[str], conf: Path) -> None:
        self.process = process
        self.conf = conf
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._is_whole = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._is_whole = True
            self._news.notify_all()

    @property
    def output(self) -> str:
        """The output so far."""
        return "\n".join(self.lines)

    def wait_for(self, text: str, timeout: float = START_TIMEOUT, times: int = 1) -> None:
        """Wait until `times` lines with `text` were printed.

        Raises TimeoutError with the output after `timeout` seconds, or at its end: all of what a
        process has printed is read, also after the process has ended.
        """
        with self._news:
            self._news.wait_for(lambda: self._count(text) >= times or self._is_whole, timeout)
        if self._count(text) < times:
            raise TimeoutError(f"no {text!r} in:\n{self.output}")

    def _count(self, text: str) -> int:
        return sum(text in line for line in self.lines)

    @property
    def addresses(self) -> list[Address]:
        """The addresses that it listens on, read from the banner."""
        found = (_LISTENING.match(line) for line in self.lines)
        return [(match[2] or "127.0.0.1", int(match[1])) for match in found if match]

    @property
    def address(self) -> Address:
        """The first of `addresses`."""
        return self.addresses[0]

    def ask(self, name: str, qtype: str = "A", **options: Any) -> dnslib.DNSRecord:
        """Send a query to the first address; see `corepy.testing.ask`."""
        return ask(self.address, name, qtype, **options)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout: float = START_TIMEOUT) -> int:
        """Send a signal, wait for the end of the process, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def end(self) -> None:
        """Stop the process if it runs; if it does not stop, kill it and raise TimeoutExpired."""
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            left = _children(self.process.pid)
            self.process.kill()
            self.process.wait()
            for pid in left:  # the workers of a killed supervisor continue to serve
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
        finally:
            self._reader.join(START_TIMEOUT)
            # Closing would wait for the reader as long as another process can write to the pipe.
            assert not self._reader.is_alive(), "a process that was started still runs"
            assert self.process.stdout is not None
            self.process.stdout.close()


@contextmanager
def run_command(
    text: str | None,
    *flags: str,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    wait: bool = True,
) -> Iterator[Command]:
    """Run `corepy -conf FILE FLAGS` until the `with` block ends.

    `text` is written to FILE; if it is None, the -conf flag is omitted. `prefix` is put before the
    command (`ip netns exec NAME`); `stdin` is the standard input. With `wait`, the block begins
    after the banner was printed. Zones without a port get port 0, so the kernel chooses one.
    """
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "Corefile")
        if text is not None:
            conf.write_text(text)
            flags = ("-conf", str(conf), *flags)
        words = [*prefix, sys.executable, "-m", "corepy", "-p", "0", *flags]
        cwd = cwd or Path(folder)
        with run_program(words, conf, env=env, cwd=cwd, stdin=stdin, wait=wait) as command:
            yield command


@contextmanager
def run_program(
    words: Sequence[str],
    conf: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    wait: bool = True,
) -> Iterator[Command]:
    """Run a program that serves as `corepy` does until the `with` block ends.

    `words` are the program and its arguments, and `conf` is its Corefile, which need not exist. The
    other parameters are those of `run_command`.
    """
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        cwd=cwd,
    )
    command = Command(process, conf)
    if process.stdin is not None:
        process.stdin.write(stdin or "")
        process.stdin.close()
    try:
        if wait:
            command.wait_for("corepy-")
        yield command
    finally:
        command.end()


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def wait_until(condition: object, timeout: float = 60.0) -> None:
    """Wait until `condition()` is true; raises TimeoutError after `timeout` seconds."""
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come true")
        time.sleep(0.005)
