"""Standard output and standard error that cannot be written, for every form in which the server runs.

Nobody reads what is printed here, so the tests look at the processes and at the answers.
"""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from corepy.testing import ask, free_port
from corepy.testing.command import wait_until

MODES = {
    "server": ([], ""),
    "followers": ([], "multisocket 2"),
    "supervisor": (["-supervise"], ""),
    "supervisor-followers": (["-supervise"], "multisocket 2"),
}


def fill(descriptor):
    """Write until a further byte would have to wait."""
    own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with contextlib.suppress(BlockingIOError):
        while os.write(own, b"x" * 999):
            pass
    with contextlib.suppress(BlockingIOError):
        while os.write(own, b"x"):
            pass
    os.close(own)


class Output:
    """What the process gets as standard output and error: `descriptor`, after `prefix`."""

    prefix: tuple[str, ...] = ()

    def __init__(self, name):
        self._reader = -1
        getattr(self, f"_{name}")()

    def _full_device(self):
        """Every write fails with ENOSPC."""
        self.descriptor = os.open("/dev/full", os.O_WRONLY)

    def _full_disk(self):
        """The file takes a page, and fails later."""
        self.descriptor = os.memfd_create("disk")
        self.prefix = ("bash", "-c", 'ulimit -f 4; exec "$0" "$@"')

    def _dead_reader(self):
        """The reader ends while the server runs."""
        self._reader, self.descriptor = os.pipe()

    def _full_pipe(self):
        """There is a reader, and it reads nothing."""
        self._reader, self.descriptor = os.pipe()
        fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, 4096)
        fill(self.descriptor)

    def _stopped_terminal(self):
        """As after Ctrl-S, or with a container's terminal that nobody is attached to."""
        self._reader, self.descriptor = pty.openpty()
        fill(self.descriptor)

    def _closed(self):
        """1>&- 2>&-."""
        self.descriptor = os.open(os.devnull, os.O_WRONLY)
        self.prefix = ("bash", "-c", 'exec "$0" "$@" 1>&- 2>&-')

    def end_reader(self, name):
        if name == "dead_reader":
            os.close(self._reader)
            self._reader = -1

    def close(self):
        for descriptor in (self.descriptor, self._reader):
            if descriptor >= 0:
                os.close(descriptor)


OUTPUTS = ["full_device", "full_disk", "dead_reader", "full_pipe", "stopped_terminal", "closed"]


@pytest.fixture
def output(request):
    output = Output(request.param)
    yield output
    output.close()


@contextmanager
def running(output, tmp_path, flags, line):
    port = free_port()
    conf = tmp_path / "Corefile"
    conf.write_text(f".:{port} {{\n bind 127.0.0.1\n {line}\n log\n errors\n whoami\n}}\n")
    command = [sys.executable, "-m", "corepy", "-conf", str(conf), *flags]
    process = subprocess.Popen(
        [*output.prefix, *command],
        stdin=subprocess.DEVNULL,
        stdout=output.descriptor,
        stderr=output.descriptor,
        start_new_session=True,
    )
    try:
        yield process, partial(answers, port)
    finally:
        left = children(process.pid) if process.poll() is None else []
        process.kill()
        process.wait()
        for pid in left:  # the worker of a supervisor that is killed serves on
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def answers(port, timeout=1.0):
    with contextlib.suppress(OSError, TimeoutError):
        return ask(("127.0.0.1", port), "example.org.", timeout=timeout).header.rcode == 0
    return False


def children(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("output", "name"), [(name, name) for name in OUTPUTS], indirect=["output"], ids=OUTPUTS
)
def test_serving_does_not_depend_on_the_output(output, name, mode, tmp_path):
    flags, line = MODES[mode]
    with running(output, tmp_path, flags, line) as (process, is_answered):
        wait_until(is_answered, 60)
        output.end_reader(name)
        for _ in range(100):  # each is a line of the log
            assert is_answered(60)
        process.send_signal(signal.SIGUSR1)
        for old in children(process.pid):
            os.kill(old, signal.SIGKILL)
            wait_until(lambda old=old: old not in children(process.pid), 60)
            wait_until(lambda: children(process.pid) != [], 60)
        wait_until(is_answered, 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def standard_descriptors(pid):
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]


@pytest.mark.parametrize("mode", MODES)
def test_closed_streams_are_no_sockets_in_any_process(mode, tmp_path):
    """The next socket would get the free number, and what is printed would go to a client."""
    output = Output("closed")
    output.prefix = ("bash", "-c", 'exec "$0" "$@" 0<&- 1>&- 2>&-')
    flags, line = MODES[mode]
    with running(output, tmp_path, flags, line) as (process, is_answered):
        wait_until(is_answered, 60)
        wait_until(lambda: bool(flags or line) <= bool(children(process.pid)), 60)
        pids = [process.pid, *children(process.pid)]
        pids += [grandchild for pid in pids[1:] for grandchild in children(pid)]
        for pid in pids:
            assert standard_descriptors(pid) == [os.devnull] * 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    output.close()
