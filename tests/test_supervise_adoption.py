"""A supervisor that is killed: its worker serves on, and the next supervisor adopts it."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from corepy.net.inherited import Manager
from corepy.supervise.adoption import workers_of
from corepy.testing import Load, ask, free_port, run_command
from corepy.testing.command import wait_until


class Host:
    """A folder for sockets, a Corefile, and the supervisors that are started with it."""

    def __init__(self, folder):
        self.port = free_port()
        self.conf = folder / "Corefile"
        self.runtime = folder / "run"
        self.runtime.mkdir()
        self.write("whoami")

    def write(self, *lines):
        body = "\n ".join(lines)
        self.conf.write_text(f".:{self.port} {{\n bind 127.0.0.1\n {body}\n}}\n")

    @contextmanager
    def supervisor(self, *flags):
        env = {"RUNTIME_DIRECTORY": str(self.runtime)}
        flags = ("-conf", str(self.conf), "-supervise", *flags)
        with run_command(None, *flags, env=env, cwd=self.conf.parent, wait=False) as command:
            try:
                yield command
            finally:
                # One that ends by itself ends its workers; what is left may be another one's.
                if command.process.poll() not in (None, 0):
                    self.end_orphans()

    def end_orphans(self):
        for path in self.runtime.glob("supervisor-*"):
            for pid in workers_of(str(path)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @contextmanager
    def orphan(self, *flags):
        """Leave the worker of a supervisor that was killed; its ID."""
        with self.supervisor(*flags) as command:
            command.wait_for(" serves")
            (worker,) = children(command.process.pid)
            command.process.kill()
            command.process.wait()
            try:
                yield worker
            finally:
                self.end_orphans()

    def answers(self):
        return ask(("127.0.0.1", self.port), "example.org.").header.rcode == 0


@pytest.fixture
def host():
    """A host in a folder whose path is short enough for sockets, unlike that of `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        yield Host(Path(folder))


def children(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def is_alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_worker_serves_on_and_is_adopted_without_a_loss(host):
    with host.orphan() as worker:
        assert host.answers()
        with host.supervisor() as command:
            with Load(("127.0.0.1", host.port), rate=200) as load:
                command.wait_for(f"worker {worker} has no supervisor: adopting it")
                command.wait_for(f"worker {worker} serves")
            assert load.outcome.unanswered == 0
            assert host.answers()
            assert children(command.process.pid) == []
            assert command.stop() == 0
            assert not is_alive(worker)
    assert list(host.runtime.glob("supervisor-*")) == []


def test_an_adopted_worker_is_supervised_as_any_other(host):
    """Replaced when it is killed, with its sockets kept; replaced for an upgrade."""
    with host.orphan() as worker, host.supervisor() as command:
        command.wait_for(f"worker {worker} serves")
        with Load(("127.0.0.1", host.port), rate=200) as load:
            os.kill(worker, signal.SIGKILL)
            command.wait_for(f"worker {worker} ended by itself")
            command.wait_for(" serves", times=2)
        assert load.outcome.unanswered <= 64
        command.send_signal(signal.SIGUSR2)
        command.wait_for(", stopping ")
        assert host.answers()
        assert command.stop() == 0


def test_an_adopted_worker_that_is_stopped_is_replaced(host):
    with host.orphan() as worker, host.supervisor() as command:
        command.wait_for(f"worker {worker} serves")
        os.kill(worker, signal.SIGSTOP)
        command.wait_for(" serves", times=2)
        wait_until(lambda: not is_alive(worker))
        assert host.answers()
        assert command.stop() == 0


def test_an_orphan_that_does_not_react_is_replaced(host):
    with host.orphan() as worker:
        os.kill(worker, signal.SIGSTOP)
        with host.supervisor() as command:
            command.wait_for(f"worker {worker} is not ready in time: killing it")
            command.wait_for(" serves")
            assert host.answers()
            assert not is_alive(worker)
            assert command.stop() == 0


def test_an_orphan_of_another_command_line_is_replaced_once_it_is_adopted(host):
    with host.orphan() as worker, host.supervisor("-log-format", "json") as command:
        command.wait_for(f"worker {worker} serves")
        command.wait_for(f"stopping {worker}")
        wait_until(lambda: not is_alive(worker))
        assert host.answers()
        assert command.stop() == 0


def test_a_supervisor_that_is_killed_again_and_again(host):
    with host.orphan() as worker, contextlib.ExitStack() as stack:
        for _ in range(3):
            command = stack.enter_context(host.supervisor())
            command.wait_for(f"worker {worker} serves")
            command.process.kill()
            command.process.wait()
            assert host.answers()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orphan_ends_as_it_is_told(host, number, tmp_path):
    path = tmp_path / "pid"
    with host.orphan("-pidfile", str(path)) as worker:
        wait_until(path.exists)
        assert path.read_text() == f"{worker}\n"
        os.kill(worker, number)
        wait_until(lambda: not is_alive(worker))
        assert not path.exists()


def test_an_orphan_reloads(host):
    with host.orphan() as worker:
        host.write("template ANY ANY {\n rcode REFUSED\n }")
        os.kill(worker, signal.SIGUSR1)
        wait_until(lambda: not host.answers())
        with host.supervisor() as command:
            command.wait_for(f"worker {worker} serves")
            assert not host.answers()
            assert command.stop() == 0


def test_followers_stay_with_an_orphan(host):
    host.write("whoami", "multisocket 2")
    with host.orphan() as worker:
        wait_until(lambda: len(children(worker)) == 1)
        followers = children(worker)
        with host.supervisor() as command:
            command.wait_for(f"worker {worker} serves")
            assert children(worker) == followers
            assert command.stop() == 0
        assert not is_alive(followers[0])


def test_a_second_supervisor_takes_nothing_from_one_that_runs(host):
    with host.supervisor() as first:
        first.wait_for(" serves")
        (worker,) = children(first.process.pid)
        with host.supervisor() as second:
            second.wait_for(" serves")
            assert second.stop() == 0
        assert not any("adopting" in line for line in second.lines)
        # A probe may reach the second server, which on a busy machine may be slow to respond.
        was_replaced = any("starting another" in line for line in first.lines)
        assert was_replaced or children(first.process.pid) == [worker]
        assert host.answers()
        assert first.stop() == 0


def test_without_a_folder_the_worker_ends_with_its_supervisor(host):
    """Nobody could find it."""
    with run_command(
        None,
        *("-conf", str(host.conf), "-supervise"),
        env={"RUNTIME_DIRECTORY": "/run/nowhere", "XDG_RUNTIME_DIR": ""},
        prefix=["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o ro none /run; exec "$0" "$@"'],
        wait=False,
    ) as command:
        command.wait_for(" serves")
        (worker,) = children(command.process.pid)
        command.process.kill()
        wait_until(lambda: not is_alive(worker))


def test_a_manager_that_reads_nothing_holds_up_nobody(tmp_path):
    """A supervisor that is stopped: its queue is full after a few messages."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.bind(path)
        manager = Manager({"NOTIFY_SOCKET": path})
        assert manager.is_there
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            for _ in range(5000):
                manager.keep([sock])
        inbox.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while inbox.recv(4096):
                pass
        manager.tell("READY=1")
        assert inbox.recv(4096) == b"READY=1"
    assert not manager.is_there
    manager.tell("READY=1")


def test_a_process_of_another_user_is_no_worker(tmp_path, monkeypatch):
    """Any user can start processes with this environment: each held up the start for 5 seconds."""
    path = str(tmp_path / "supervisor-00000000.sock")
    with subprocess.Popen(["sleep", "60"], env={"NOTIFY_SOCKET": path, "PATH": os.defpath}) as own:
        try:
            wait_until(lambda: workers_of(path) == [own.pid])
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
            assert workers_of(path) == []
        finally:
            own.kill()
