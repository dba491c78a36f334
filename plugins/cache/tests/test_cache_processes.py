"""Entries pass to the next worker of a supervisor, and to the processes of multisocket."""

import os
import signal
from pathlib import Path

import pytest

from corepy.plugin import control_client
from corepy.testing import Upstream, free_port, run_command
from corepy.testing.command import wait_until

ZONE = {
    "www.example.org. A": ["www.example.org. 600 IN A 192.0.2.1"],
    "ftp.example.org. A": ["ftp.example.org. 600 IN A 192.0.2.2"],
}


def corefile(upstream, options="", above=""):
    return f""".:{free_port()} {{
        bind 127.0.0.1
        {above}
        cache {{
            {options}
        }}
        forward . {upstream.to}
    }}
    """


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Keep the control sockets of these tests to themselves."""
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


def asked_for_www(upstream):
    return [question for question, _ in upstream.queries].count("www.example.org. A")


def purge(name):
    assert control_client.ask_all("cache/purge", {"name": name})


def state_of(pid):
    """Return the snapshots in memory that a process holds, by their numbers."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(entry).startswith("/memfd:corepy-state"):
                found.add(entry.stat().st_ino)
        except OSError:
            continue
    return found


def workers(command):
    children = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def test_a_worker_that_is_killed_and_its_upgrade(folder):
    with Upstream(ZONE) as upstream:
        env = {"RUNTIME_DIRECTORY": str(folder)}
        with run_command(corefile(upstream), "-supervise", env=env) as command:
            command.wait_for(" serves")
            for name in ("www.example.org", "ftp.example.org"):
                assert command.ask(name).rr
            purge("ftp.example.org.")  # so that the state is written soon
            wait_until(lambda: state_of(command.process.pid))
            asked = asked_for_www(upstream)
            (worker,) = workers(command)
            os.kill(worker, signal.SIGKILL)
            command.wait_for(" serves", times=2)
            command.wait_for("cache continues with 1 entry from the process before")
            assert command.ask("www.example.org").rr
            assert asked_for_www(upstream) == asked
            command.send_signal(signal.SIGUSR2)
            command.wait_for(", stopping ")
            command.wait_for("continues with 1 entry from the process before", times=2)
            assert command.ask("www.example.org").rr
            assert asked_for_www(upstream) == asked
            purge("www.example.org.")
            wait_until(lambda: len(workers(command)) == 1)
            (worker,) = workers(command)
            os.kill(worker, signal.SIGKILL)
            command.wait_for(" serves", times=4)
            assert command.ask("www.example.org").rr
            assert asked_for_www(upstream) > asked


def test_followers_start_from_the_state_of_the_leader(tmp_path):
    """Also one that replaces a killed one."""
    with Upstream(ZONE) as upstream:
        text = corefile(upstream, f"keep {tmp_path / 'cache'}", "multisocket 2")
        with run_command(text) as command:
            for _ in range(20):  # so that the leader gets one
                assert command.ask("www.example.org").rr
        asked = asked_for_www(upstream)
        with run_command(text) as command:
            command.wait_for("continues with 1 entry from")
            for _ in range(20):
                assert command.ask("www.example.org").rr
            for follower in workers(command):
                os.kill(follower, signal.SIGKILL)
            command.wait_for("restarting it")
            wait_until(lambda: len(workers(command)) == 1)
            for _ in range(20):
                assert command.ask("www.example.org").rr
        assert asked_for_www(upstream) == asked
