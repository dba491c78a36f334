"""The supervisor: workers are killed, hang, are replaced, cannot start; queries are answered all the while."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corepy.net.batch import SLOTS
from corepy.net.cpu_starvation import is_stopped
from corepy.testing import Load, Upstream, ask, free_port, query, run_command
from corepy.testing.command import wait_until

RECORDS = {"www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"]}


def corefile(upstream, port=0):
    return f".:{port} {{\n bind 127.0.0.1\n cache\n forward . {upstream.to}\n}}\n"


@pytest.fixture
def upstream():
    with Upstream(RECORDS) as running:
        yield running


@pytest.fixture
def command(upstream):
    text = corefile(upstream, free_port())
    with run_command(text, "-supervise", "-fallback", upstream.to) as running:
        running.wait_for(" serves")
        yield running


def workers(command):
    children = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def the_worker(command):
    wait_until(lambda: len(workers(command)) == 1)
    return workers(command)[0]


@contextlib.contextmanager
def client_of_many(command):
    """Yield a connected socket that takes thousands of replies while nobody reads it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        client.settimeout(60)
        client.connect(command.address)
        yield client


def starts(command):
    return sum(line.startswith("corepy-") for line in command.lines)


def test_it_serves_and_stops(command):
    assert command.ask("www.example.org.").rr
    worker = the_worker(command)
    assert command.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_worker_imports_nothing_from_the_working_directory(command):
    """The folder of the Corefile may contain a clone of corepy, or belong to another user."""
    (command.conf.parent / "corepy.py").write_text("raise SystemExit('not installed')\n")
    os.kill(the_worker(command), signal.SIGKILL)
    command.wait_for(" serves", times=2)
    assert command.ask("www.example.org.").rr
    assert "not installed" not in command.output


def test_a_terminal_that_interrupts_all_its_processes_is_no_second_signal(upstream):
    slow_to_stop = f"cache\n health 127.0.0.1:{free_port()} {{\n lameduck 2s\n }}\n"
    text = corefile(upstream, free_port()).replace("cache\n", slow_to_stop)
    with run_command(text, "-supervise", prefix=["setsid"]) as command:
        command.wait_for(" serves")
        os.killpg(command.process.pid, signal.SIGINT)
        assert command.process.wait(60) == 0
        command.wait_for("Shutting down")
        assert "quitting at once" not in command.output


def test_the_pid_file_is_the_newest_workers(upstream, tmp_path):
    path = tmp_path / "pid"
    text = corefile(upstream, free_port())
    with run_command(text, "-supervise", "-pidfile", str(path)) as command:
        command.wait_for(" serves")
        (first,) = workers(command)
        assert path.read_text() == f"{first}\n"
        command.send_signal(signal.SIGUSR2)
        command.wait_for(f"stopping {first}")
        wait_until(lambda: first not in workers(command))
        assert path.read_text() == f"{workers(command)[0]}\n"
        assert command.stop() == 0
    assert not path.exists()


def test_killed_again_and_again_the_queue_is_answered(command):
    """A worker that is killed takes the queries with it that it had received: a batch at most."""
    kills = 10
    with Load(command.address, rate=200) as load:
        for turn in range(kills):
            # The socket is a queue: what the last one left in it is answered, and in the cache.
            assert command.ask("www.example.org.").rr
            os.kill(the_worker(command), signal.SIGKILL)
            command.wait_for(" serves", times=turn + 2)
    assert load.outcome.unanswered <= kills * SLOTS
    assert load.outcome.wrong == 0


def test_what_a_killed_worker_had_not_received_is_answered(command):
    """It is stopped first, so that it receives none of them."""
    assert command.ask("www.example.org.").rr
    number, worker = 500, the_worker(command)
    with client_of_many(command) as client:
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: is_stopped(worker))
        for at in range(number):
            client.send(at.to_bytes(2, "big") + query("www.example.org.")[2:])
        os.kill(worker, signal.SIGKILL)
        found = {client.recv(512)[:2] for _ in range(number)}
    assert len(found) == number


@pytest.mark.parametrize("tcp", [False, True])
def test_upgrades_lose_nothing(command, tcp):
    with Load(command.address, rate=300, tcp=tcp) as load:
        for turn in range(5):
            before = the_worker(command)
            command.send_signal(signal.SIGUSR2 if turn % 2 else signal.SIGHUP)
            command.wait_for(", stopping ", times=turn + 1)
            wait_until(lambda before=before: before not in workers(command))
    assert (load.outcome.unanswered, load.outcome.wrong) == (0, 0)


def test_a_worker_that_hangs_is_replaced(command):
    assert command.ask("www.example.org.").rr  # from here on it is in the cache
    with Load(command.address, rate=200) as load:
        hung = the_worker(command)
        os.kill(hung, signal.SIGSTOP)
        command.wait_for(" serves", times=2)
        wait_until(lambda: hung not in workers(command))
    assert load.outcome.unanswered <= SLOTS  # what it had received when it stopped
    assert load.outcome.wrong == 0


def test_a_worker_that_is_stopped_is_replaced_before_its_silence_is_long(command):
    """Its successor starts at once, and takes over what lies in the sockets."""
    hung = the_worker(command)
    os.kill(hung, signal.SIGSTOP)
    command.wait_for("does not respond: starting another")
    command.wait_for(" serves", times=2)
    assert command.ask("www.example.org.").rr
    wait_until(lambda: hung not in workers(command))
    # On a busy machine the successor may be slow to respond, too.
    assert starts(command) == 1 + sum("starting another" in line for line in command.lines)


def test_a_busy_worker_is_not_killed(command):
    worker = the_worker(command)
    with Load(command.address, rate=20_000):
        time.sleep(3)
    assert the_worker(command) == worker


def test_a_supervisor_that_stood_still_kills_nobody(command):
    """As when the machine is paused, or the control group frozen: nobody was asked meanwhile."""
    worker = the_worker(command)
    for _ in range(2):
        command.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        command.send_signal(signal.SIGCONT)
        time.sleep(1)  # for it to look
    assert the_worker(command) == worker
    assert "killing it" not in command.output


def test_reload_is_passed_on(command, upstream):
    command.send_signal(signal.SIGUSR1)
    command.wait_for("Reloading complete")
    assert command.ask("www.example.org.").rr


@pytest.mark.parametrize("tcp", [False, True])
def test_the_fallback_answers_when_no_worker_starts(command, tcp):
    assert command.ask("www.example.org.").rr
    good = command.conf.read_text()
    command.conf.write_text("nonsense {\n")
    os.kill(the_worker(command), signal.SIGKILL)
    command.wait_for("the fallback answers")
    assert [str(rr.rdata) for rr in command.ask("www.example.org.", tcp=tcp).rr] == ["192.0.2.1"]
    command.conf.write_text(good)
    command.wait_for("the fallback is stopped")
    assert command.ask("www.example.org.", tcp=tcp).rr


def test_the_fallback_answers_at_a_wildcard_address(upstream):
    port = free_port()
    text = f".:{port} {{\n forward . {upstream.to}\n}}\n"
    with run_command(text, "-supervise", "-fallback", upstream.to) as command:
        command.wait_for(" serves")
        command.conf.write_text("nonsense {\n")
        os.kill(the_worker(command), signal.SIGKILL)
        command.wait_for("the fallback answers")
        for host in ("127.0.0.1", "127.0.0.7", "::1"):
            assert ask((host, port), "www.example.org.").rr


def test_a_new_version_that_does_not_start_changes_nothing(command):
    worker = the_worker(command)
    command.conf.write_text("nonsense {\n")
    command.send_signal(signal.SIGUSR2)
    command.wait_for("the old one stays in use")
    assert the_worker(command) == worker
    assert command.ask("www.example.org.").rr


def test_what_never_worked_ends_at_once(tmp_path):
    (tmp_path / "Corefile").write_text(". {\n    whoam\n}\n")
    done = subprocess.run(
        [sys.executable, "-m", "corepy", "-supervise"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,  # only a process that hangs takes it
        check=False,
    )
    assert done.returncode == 1
    assert "did you mean 'whoami'?" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-supervise", "-conf", "stdin"], "-supervise needs -conf FILE"),
        (["-supervise", "-fallback", "nowhere"], "'nowhere' is not ADDRESS or ADDRESS:PORT"),
    ],
)
def test_wrong_usage(flags, words):
    done = subprocess.run(
        [sys.executable, "-m", "corepy", *flags],
        capture_output=True,
        text=True,
        timeout=300,  # only a process that hangs takes it
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr


def test_workers_keep_few_privileges_and_the_supervisor_is_small(command):
    status = Path(f"/proc/{the_worker(command)}/status").read_text()
    bounding = int(re.search(r"CapBnd:\s*(\w+)", status)[1], 16)
    assert bounding & ~(1 << 10 | 1 << 12 | 1 << 13) == 0
    rollup = Path(f"/proc/{command.process.pid}/smaps_rollup").read_text()
    assert int(re.search(r"^Pss:\s*(\d+)", rollup, re.MULTILINE)[1]) < 12 * 1024


def sockets_of(pid):
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(link))
    return {it for it in found if it.startswith("socket:")}


@pytest.mark.parametrize("hosts", ["127.0.0.1", "0.0.0.0", "::", "0.0.0.0 ::", ""])
def test_one_socket_stays_through_it_all(upstream, hosts):
    """The inode of the listening socket is that of the start after a kill and an upgrade."""
    text = corefile(upstream, free_port()).replace("bind 127.0.0.1", f"bind {hosts}" * bool(hosts))
    with run_command(text, "-supervise") as command:
        command.wait_for(" serves")

        def inodes():
            return sockets_of(the_worker(command))

        kept = inodes() & sockets_of(command.process.pid)
        assert len(kept) == 2 * max(1, len(hosts.split()))
        os.kill(the_worker(command), signal.SIGKILL)
        command.wait_for(" serves", times=2)
        wait_until(lambda: kept <= inodes())
        command.send_signal(signal.SIGHUP)
        command.wait_for(" serves", times=3)
        wait_until(lambda: kept <= inodes())
