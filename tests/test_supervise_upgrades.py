"""A worker beside the current one: what is asked for while it starts, and what it leaves behind."""

import os
import re
import signal
import socket
from pathlib import Path

import pytest

from corepy.testing import ask, free_port, query, run_command
from corepy.testing.command import wait_until

GATE = """
import os, time
while "NOTIFY_SOCKET" in os.environ and os.path.exists({gate!r}):
    time.sleep(0.01)
"""


class Host:
    """A supervisor whose workers wait at their start for as long as there is a gate."""

    def __init__(self, folder):
        self.port = free_port()
        self.gate = folder / "gate"
        (folder / "run").mkdir()
        (folder / "sitecustomize.py").write_text(GATE.format(gate=str(self.gate)))
        self._env = {"RUNTIME_DIRECTORY": str(folder / "run"), "PYTHONPATH": str(folder)}
        self._running = run_command(self.text(self.port), "-supervise", env=self._env)

    def __enter__(self):
        self.command = self._running.__enter__()
        self.command.wait_for(" serves")
        return self

    def __exit__(self, *of_error):
        self._running.__exit__(*of_error)

    def successor(self):
        """Return the supervisor that is started after the first was killed."""
        conf = str(self.command.conf)
        return run_command(None, "-conf", conf, "-supervise", env=self._env, wait=False)

    def text(self, *ports):
        return "".join(f".:{port} {{\n bind 127.0.0.1\n whoami\n}}\n" for port in ports)

    def workers(self):
        pid = self.command.process.pid
        return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def start_standby(self):
        """Let a worker start, and wait at the gate, because the current one was stopped."""
        (worker,) = self.workers()
        self.gate.touch()
        os.kill(worker, signal.SIGSTOP)
        self.command.wait_for("does not respond: starting another")
        os.kill(worker, signal.SIGCONT)
        return worker

    def answers(self):
        return ask(("127.0.0.1", self.port), "example.org.").header.rcode == 0


@pytest.fixture
def host(tmp_path):
    with Host(tmp_path) as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_an_upgrade_that_is_asked_for_while_a_worker_starts_follows(host, number):
    """Once, however often it was asked for: the worker that starts may have read the old code."""
    host.gate.touch()
    host.command.send_signal(signal.SIGUSR2)
    wait_until(lambda: len(host.workers()) == 2)
    for _ in range(2):
        host.command.send_signal(number)
    host.command.wait_for("upgrading once worker")
    host.gate.unlink()
    host.command.wait_for("starting a new worker to take over", times=2)
    host.command.wait_for(" serves", times=3)
    wait_until(lambda: len(host.workers()) == 1)
    assert host.answers()
    assert host.command.output.count("starting a new worker to take over") == 2


def test_an_upgrade_that_is_asked_for_while_a_standby_starts_follows(host):
    worker = host.start_standby()
    host.command.send_signal(signal.SIGHUP)
    host.command.wait_for("upgrading once worker")
    host.gate.unlink()
    host.command.wait_for("starting a new worker to take over")
    wait_until(lambda: worker not in host.workers() and len(host.workers()) == 1)
    assert host.answers()


def test_an_upgrade_that_is_asked_for_while_a_worker_fails_to_start_is_tried(host):
    good = host.command.conf.read_text()
    (worker,) = host.workers()
    host.gate.touch()
    host.command.conf.write_text("nonsense {\n")
    host.command.send_signal(signal.SIGUSR2)
    wait_until(lambda: len(host.workers()) == 2)
    (new,) = set(host.workers()) - {worker}
    host.command.send_signal(signal.SIGUSR2)
    host.command.wait_for("upgrading once worker")
    os.kill(new, signal.SIGKILL)
    host.command.wait_for("the old one stays in use")
    host.command.conf.write_text(good)
    host.gate.unlink()
    host.command.wait_for(f"stopping {worker}")
    assert host.answers()


def test_a_worker_that_recovers_goes_on(host):
    worker = host.start_standby()
    host.gate.unlink()
    host.command.wait_for(f"worker {worker} responds again")
    wait_until(lambda: host.workers() == [worker])
    assert host.answers()


def test_a_burst_that_waits_for_a_worker_is_answered_whole(host):
    """More than wait at a socket of a worker that runs, for which it would be a flood."""
    number, (worker,) = 2500, host.workers()
    host.gate.touch()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in host.workers())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        client.settimeout(60)
        client.connect(("127.0.0.1", host.port))
        for at in range(number):
            client.send(at.to_bytes(2, "big") + query(f"{at}.example.org.")[2:])
        host.gate.unlink()
        found = {client.recv(512)[:2] for _ in range(number)}
    assert len(found) == number


def test_a_standby_that_is_not_needed_leaves_no_socket(host):
    """It has read another Corefile than the current worker, which does not answer at its port.

    The supervisor would ask there, and kill the current worker for the silence.
    """
    other = free_port()
    worker = host.start_standby()
    host.command.conf.write_text(host.text(host.port, other))
    host.gate.unlink()
    host.command.wait_for(f"worker {worker} responds again")
    wait_until(lambda: host.workers() == [worker])

    def is_closed():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", other)) != 0

    wait_until(is_closed)
    assert host.answers()


def test_a_standby_that_is_not_needed_takes_no_socket(host):
    """Its Corefile has no use for one that the current worker reads; that stays in safe keeping."""
    other = free_port()
    host.command.conf.write_text(host.text(host.port, other))
    host.command.send_signal(signal.SIGUSR1)
    host.command.wait_for("Reloading complete")
    worker = host.start_standby()
    host.command.conf.write_text(host.text(host.port))
    host.gate.unlink()
    host.command.wait_for(f"worker {worker} responds again")
    wait_until(lambda: host.workers() == [worker])
    os.kill(worker, signal.SIGKILL)
    host.gate.touch()
    wait_until(lambda: worker not in host.workers())
    with socket.create_connection(("127.0.0.1", other), timeout=60):
        pass  # a queue waits there for the next worker
    host.gate.unlink()
    host.command.wait_for(" serves", times=2)


def test_a_standby_is_not_needed_if_the_worker_reloads(host):
    worker = host.start_standby()
    os.kill(worker, signal.SIGUSR1)
    host.command.wait_for("the Corefile changed: worker ")
    host.gate.unlink()
    wait_until(lambda: host.workers() == [worker])
    assert host.answers()


def test_an_orphan_that_was_just_starting_hands_all_its_sockets_over(host):
    """When it is asked for them it cannot react yet, and later it tells what is new only.

    Without the others the next supervisor could not keep the queues for another worker.
    """
    host.gate.touch()
    host.command.send_signal(signal.SIGUSR2)
    wait_until(lambda: len(host.workers()) == 2)
    host.command.process.kill()
    host.command.process.wait()
    with host.successor() as command:
        command.wait_for("adopting it")
        host.gate.unlink()
        command.wait_for(" serves")
        worker = int(re.search(r"worker (\d+) serves", command.output)[1])
        host.gate.touch()
        os.kill(worker, signal.SIGKILL)
        command.wait_for(f"worker {worker} ended")
        with socket.create_connection(("127.0.0.1", host.port), timeout=60):
            pass  # the queue is kept
        host.gate.unlink()
        assert host.answers()
        assert command.stop() == 0
