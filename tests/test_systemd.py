"""Under systemd: its units are valid, and the command behaves as they promise. The test is the service manager."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from corepy.supervise.store import Store
from corepy.testing import Upstream, ask, query
from corepy.testing.command import wait_until

UNITS = Path(__file__).parent.parent / "deploy" / "systemd"


class Manager:
    """Keeps sockets and hears what its service tells, as systemd does."""

    def __init__(self):
        self.store = Store(lambda _: None, os.urandom(8).hex())
        self.told = []

    def listen(self):
        for told in self.store.receive(lambda _: True):
            self.told.append(told)
            if "FDSTOREREMOVE" in told.fields:
                self.store.remove(told.fields["FDNAME"])

    def wait_for(self, field, value="1", times=1):
        def heard():
            self.listen()
            return sum(told.fields.get(field) == value for told in self.told) >= times

        wait_until(heard)

    def fields(self, name):
        return [told.fields[name] for told in self.told if name in told.fields]

    @contextmanager
    def service(self, conf, sockets=None, pid="$$", **env):
        """Start the command with `sockets` (by name) from descriptor 3 on, as PID `pid`."""
        sockets = self.store.sockets if sockets is None else sockets
        numbers = [sock.fileno() for sock in sockets.values()]
        # First out of each other's way, then into place.
        moves = [f"{100 + at}<&{number}" for at, number in enumerate(numbers)]
        moves += [f"{number}<&-" for number in numbers]
        moves += [f"{3 + at}<&{100 + at} {100 + at}<&-" for at in range(len(numbers))]
        launcher = f'exec {" ".join(moves)}; exec env LISTEN_PID={pid} "$@"'
        with subprocess.Popen(
            ["bash", "-c", launcher, "-", sys.executable, "-m", "corepy", "-conf", str(conf)],
            pass_fds=numbers,
            stdout=subprocess.DEVNULL,
            env={
                **os.environ,
                "NOTIFY_SOCKET": self.store.path,
                "LISTEN_FDS": str(len(numbers)),
                "LISTEN_FDNAMES": ":".join(sockets),
                **env,
            },
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def close(self):
        for name in list(self.store.sockets):
            self.store.remove(name)
        self.store.inbox.close()


@pytest.fixture
def manager():
    running = Manager()
    yield running
    running.close()


@pytest.fixture
def port():
    with Upstream(lambda *_: None) as reserved:
        return reserved.address[1]


@pytest.fixture
def conf(tmp_path, port):
    path = tmp_path / "Corefile"
    path.write_text(f".:{port} {{\n bind 127.0.0.1\n whoami\n}}\n")
    return path


@pytest.fixture
def unit_sockets(port):
    """What a socket unit has opened."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
    ):
        for sock in (udp, tcp):
            sock.bind(("127.0.0.1", port))
        tcp.listen()
        yield {"corepy.socket": udp, "corepy.socket2": tcp}


def stop(process, number):
    process.send_signal(number)
    assert process.wait(60) == 0


def answers(port):
    return all(
        ask(("127.0.0.1", port), "example.org.", tcp=tcp).header.rcode == 0 for tcp in (False, True)
    )


def left_in_the_queue(port):
    """Ask while nobody reads; return a function that gets the answer."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(60)
    client.connect(("127.0.0.1", port))
    wire = query("example.org.")
    client.send(wire)

    def is_answered():
        with client:
            return client.recv(999)[:2] == wire[:2]

    return is_answered


def test_readiness_is_told_by_the_main_process_and_the_sockets_are_given_to_be_kept(
    manager, conf, port
):
    with manager.service(conf) as process:
        manager.wait_for("READY")
        assert answers(port)
        assert list(manager.store.sockets) == [f"udp-127.0.0.1-{port}", f"tcp-127.0.0.1-{port}"]
        assert {told.pid for told in manager.told} == {process.pid}
        assert manager.fields("FDPOLL") == ["0", "0"]


def test_a_restart_leaves_the_queue_to_the_next_process(manager, conf, port):
    with manager.service(conf) as process:
        manager.wait_for("READY")
        stop(process, signal.SIGTERM)
        manager.wait_for("STOPPING")
    assert len(manager.store.sockets) == 2
    is_answered = left_in_the_queue(port)
    with manager.service(conf):
        manager.wait_for("READY", times=2)
        assert is_answered()
        assert answers(port)
    assert len(manager.fields("FDSTORE")) == 2  # those of the first start


def test_the_sockets_of_every_process_are_kept_with_their_queues(manager, conf, port):
    """Also by a service with fewer processes: what it has no use for is given up, and nothing comes there."""
    conf.write_text(conf.read_text().replace("whoami", "whoami\n multisocket 3"))
    with manager.service(conf) as process:
        manager.wait_for("READY")
        names = [f"{kind}-127.0.0.1-{port}" for kind in ("udp", "tcp")]
        names += [f"{name}-{place}" for place in (1, 2) for name in names[:2]]
        assert set(manager.store.sockets) == set(names)
        stop(process, signal.SIGTERM)
    manager.listen()
    assert set(manager.store.sockets) == set(names)
    asked = [left_in_the_queue(port) for _ in range(12)]
    with manager.service(conf) as process:
        manager.wait_for("READY", times=2)
        assert all(is_answered() for is_answered in asked)
        conf.write_text(conf.read_text().replace("multisocket 3", "multisocket 2"))
        stop(process, signal.SIGTERM)
    with manager.service(conf):
        manager.wait_for("READY", times=3)
        manager.listen()
        assert set(manager.store.sockets) == set(names[:4])
        assert all(answers(port) for _ in range(12))


def test_a_stop_gives_the_sockets_up(manager, conf, port):
    with manager.service(conf) as process:
        manager.wait_for("READY")
        stop(process, signal.SIGINT)
        manager.wait_for("FDSTOREREMOVE", times=2)
    assert not manager.store.sockets


def test_after_a_crash_the_next_process_goes_on_with_the_sockets(manager, conf, port):
    with manager.service(conf) as process:
        manager.wait_for("READY")
        process.kill()
        process.wait()
    is_answered = left_in_the_queue(port)
    with manager.service(conf):
        assert is_answered()


def test_a_reload_is_told_with_its_time(manager, conf):
    with manager.service(conf) as process:
        manager.wait_for("READY")
        before = time.monotonic_ns() // 1000
        process.send_signal(signal.SIGUSR1)
        manager.wait_for("READY", times=2)
        (when,) = manager.fields("MONOTONIC_USEC")
        assert before <= int(when) <= time.monotonic_ns() // 1000
        order = [set(told.fields) & {"READY", "RELOADING"} for told in manager.told]
        assert [one for one in order if one] == [{"READY"}, {"RELOADING"}, {"READY"}]


def test_a_reload_gives_up_the_address_that_goes(manager, conf, port):
    with manager.service(conf) as process:
        manager.wait_for("READY")
        conf.write_text(conf.read_text().replace("127.0.0.1", "127.0.0.2"))
        process.send_signal(signal.SIGUSR1)
        manager.wait_for("READY", times=2)
        assert set(manager.store.sockets) == {f"udp-127.0.0.2-{port}", f"tcp-127.0.0.2-{port}"}


def test_the_watchdog_is_fed_as_long_as_queries_are_answered(manager, conf):
    with manager.service(conf, WATCHDOG_USEC="200000") as process:
        manager.wait_for("WATCHDOG", times=3)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        manager.listen()
        fed = len(manager.fields("WATCHDOG"))
        time.sleep(0.5)
        manager.listen()
        assert len(manager.fields("WATCHDOG")) == fed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sockets_of_a_socket_unit_are_used_and_left_as_they_are(
    manager, conf, port, unit_sockets, number
):
    is_answered = left_in_the_queue(port)
    with manager.service(conf, unit_sockets) as process:
        manager.wait_for("READY")
        assert is_answered()
        assert answers(port)
        stop(process, number)
    manager.listen()
    assert not manager.fields("FDSTORE")
    is_answered = left_in_the_queue(port)
    with manager.service(conf, unit_sockets):
        assert is_answered()
        assert answers(port)


def test_sockets_for_another_process_are_not_taken(manager, conf, port, unit_sockets):
    with manager.service(conf, unit_sockets, pid="1") as process:
        assert process.wait(60) == 1  # the port is taken: by the sockets that it may not use


def test_the_units_are_valid(tmp_path):
    """Unknown keys and bad values are complaints; the binary that is not installed here is not meant."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/usr/bin/corepy", sys.executable)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert (done.returncode, complaints) == (0, [])


def test_the_units_verification_can_fail(tmp_path):
    unit = tmp_path / "wrong.service"
    unit.write_text(f"[Service]\nExecStart={sys.executable}\nNonsense=yes\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Unknown key 'Nonsense'" in done.stderr
