"""Commands that run: their output, failures, limits and leftovers."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.plugin import Handler, StartupError, hookimpl
from corepy.supervise.monitor import READY_TIMEOUT, STOP_TIMEOUT
from corepy.testing import run_command, serve, with_handlers
from corepy.testing.command import wait_until
from corepy_on import command as command_module
from corepy_on.command import Command, run
from corepy_on.events import LIMITS_OF_ALL


@pytest.fixture(autouse=True)
def logged(caplog, monkeypatch):
    """The messages of *on*, as (level, text); a busy machine exceeds no limit."""
    caplog.set_level("INFO", "corepy")
    monkeypatch.setattr(command_module, "GRACE", 30.0)
    monkeypatch.setattr("corepy_on.events.LIMIT", 40.0)
    monkeypatch.setattr("corepy_on.events.LIMITS_OF_ALL", {"startup": 80.0, "shutdown": 80.0})

    def messages():
        return [
            (it.levelname, it.getMessage())
            for it in caplog.records
            if it.name == "corepy.plugin.on"
        ]

    return messages


def shell(script, event="startup", *, in_background=False):
    return Command(event, ("sh", "-c", script), in_background)


def corefile(*lines):
    return ".:0 {\nbind 127.0.0.1\nwhoami\n" + "".join(f"on {line}\n" for line in lines) + "}\n"


def quoted(script):
    """A script as one argument of a line in a Corefile."""
    return f"\"'{script}'\""


def children_of(pid):
    """The child processes of a process, those of all its threads, with zombies."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # the thread has ended
            found += map(int, (thread / "children").read_text().split())
    return found


def test_output_is_logged_line_by_line(logged):
    run(shell("echo one; printf two >&2; printf '\\033[1m\\351\\n\\n'"), 30)
    assert logged() == [
        ("INFO", "sh: one"),
        ("INFO", "sh: two\\x1b[1m\\xe9"),
        ("INFO", "sh: "),
    ]


def test_long_lines_are_broken(logged):
    run(shell("head -c 10000 /dev/zero | tr '\\0' a"), 30)
    assert [len(text) - len("sh: ") for _, text in logged()] == [4096, 4096, 1808]


def test_a_burst_of_output_is_slowed_down_and_complete(logged, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(command_module, "time", SimpleNamespace(sleep=pauses.append))
    run(Command("startup", ("seq", "350"), False), 30)
    assert [text for _, text in logged()] == [f"seq: {number}" for number in range(1, 351)]
    assert pauses == [command_module.PAUSE] * 3


def test_a_burst_of_long_lines_is_slowed_down(logged, monkeypatch):
    """Also within a burst, the log must not take the time of the queries."""
    pauses: list[float] = []
    monkeypatch.setattr(command_module, "time", SimpleNamespace(sleep=pauses.append))
    run(Command("startup", ("head", "-c", "200000", "/dev/zero"), False), 30)
    texts = [text.removeprefix("head: ") for _, text in logged()]
    assert "".join(texts) == "\\x00" * 200_000
    assert pauses == [command_module.PAUSE] * (200_000 // command_module.BURST_BYTES)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (shell("exit 3"), "startup: sh -c 'exit 3' failed with exit status 3"),
        (shell("kill -9 $$"), "startup: sh -c 'kill -9 $$' was ended by signal 9"),
        (
            Command("shutdown", ("/no/such", "a b"), False),
            "shutdown: cannot run /no/such 'a b': No such file or directory",
        ),
        (
            Command("startup", ("/etc/passwd",), False),
            "startup: cannot run /etc/passwd: Permission denied",
        ),
        (Command("startup", ("a\0b",), False), "startup: cannot run 'a\0b': embedded null byte"),
    ],
)
def test_failures_are_logged(command, message, logged):
    run(command, 30)
    assert logged() == [("ERROR", message)]


def test_only_the_standard_streams_are_inherited(logged):
    """The server's sockets are not; 3 is the folder that ls reads. Standard input is empty."""
    kept = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        run(Command("startup", ("ls", "/proc/self/fd"), False), 30)
        run(Command("startup", ("readlink", "/proc/self/fd/0"), False), 30)
    finally:
        os.close(kept)
    assert [text for _, text in logged()] == [
        *(f"ls: {number}" for number in range(4)),
        "readlink: /dev/null",
    ]


def test_a_signal_that_the_interpreter_ignores_is_not_ignored(logged):
    run(Command("startup", ("grep", "^SigIgn", "/proc/self/status"), False), 30)
    ((_, text),) = logged()
    assert not int(text.split()[-1], 16) >> (signal.SIGPIPE - 1) & 1


@pytest.mark.parametrize("script", ["sleep 1000", "trap '' TERM; sleep 1000 & wait; sleep 1000"])
def test_the_limit_ends_the_command_and_its_children(script, logged, monkeypatch):
    monkeypatch.setattr(command_module, "GRACE", 0.1)
    started: list[Any] = []
    start = command_module._start
    monkeypatch.setattr(
        command_module, "_start", lambda it: started.append(start(it)) or started[0]
    )
    command = shell(script)
    run(command, 0.2)
    (process,) = started
    wait_until(lambda: not alive_in_group(process.pid))
    assert process.pid not in children_of(os.getpid())
    assert logged() == [("ERROR", f"startup: {command} did not end within 0.2 s and was killed")]


FIRST_PROCESS = """
import ctypes, os
from pathlib import Path
from corepy_on import command
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become children of this process
command.run(command.Command("startup", ("sh", "-c", "sleep 1000 & sleep 1000"), False), 0.2)
print(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
"""


def test_no_zombie_stays_where_the_server_is_the_first_process():
    """As in a container, where it is the parent of all orphans."""
    command = [sys.executable, "-c", FIRST_PROCESS]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60, text=True)
    assert done.stdout == "[]\n"


def alive_in_group(group):
    """Whether a process of the group exists that is not a zombie of init's."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


def test_a_child_that_keeps_the_pipe_open_does_not_delay(logged, monkeypatch):
    monkeypatch.setattr(command_module, "GRACE", 0.1)
    run(shell("echo begun; echo $$; sleep 1000 &"), None)
    wait_until(lambda: len(logged()) == 2)
    assert logged()[0] == ("INFO", "sh: begun")
    os.killpg(int(logged()[1][1].split()[-1]), signal.SIGKILL)


def test_startup_at_each_start_and_shutdown_once(logged, tmp_path):
    log = tmp_path / "log"
    first = corefile(
        f"startup sh -c {quoted(f'echo one >> {log}')}",
        f"shutdown sh -c {quoted(f'echo off >> {log}')}",
        f"startup sh -c {quoted(f'echo two >> {log}')}",
    )
    with serve(first) as server:
        assert log.read_text() == "one\ntwo\n"
        server.reload(first.replace("one", "three"))
        assert log.read_text() == "one\ntwo\nthree\ntwo\n"
        assert server.ask("a.test").header.rcode == 0
    assert log.read_text() == "one\ntwo\nthree\ntwo\noff\n"
    assert [text for level, text in logged() if level == "ERROR"] == []
    assert logged()[0] == ("INFO", f"startup: running: sh -c 'echo one >> {log}'")


def test_queries_are_answered_while_a_command_of_a_reload_runs(logged, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with serve(corefile()) as server, ThreadPoolExecutor(1) as pool:
        reloading = pool.submit(server.reload, corefile(f"startup cat {fifo}"))
        with fifo.open("w") as stream:  # waits until the command reads it
            assert server.ask("a.test").header.rcode == 0
            assert not reloading.done()
            stream.write("done\n")
        reloading.result(60)
    assert logged()[1:] == [("INFO", "cat: done")]


def test_a_hanging_command_costs_no_reload(logged, monkeypatch):
    monkeypatch.setattr("corepy_on.events.LIMIT", 0.2)
    with serve(corefile("startup sleep 1000")) as server:
        server.reload(corefile("startup sleep 2000", "startup no-such-program"))
        assert server.ask("a.test").header.rcode == 0
    assert [text for level, text in logged() if level == "ERROR"] == [
        "startup: sleep 1000 did not end within 0.2 s and was killed",
        "startup: sleep 2000 did not end within 0.2 s and was killed",
        "startup: cannot run no-such-program: No such file or directory",
    ]


@pytest.mark.parametrize("kind", [RuntimeError, OSError])
def test_a_thread_that_cannot_be_started_costs_no_reload(logged, monkeypatch, kind):
    def refuse(command, limit):
        raise kind("can't start new thread")

    monkeypatch.setattr("corepy_on.events.run", refuse)
    with serve(corefile("startup true")) as server:
        assert server.ask("a.test").header.rcode == 0
    assert logged()[1:] == [("ERROR", "startup: cannot run true: can't start new thread")]


def test_the_commands_of_an_event_have_a_limit_together(logged, monkeypatch):
    """Those of all server blocks: a supervisor kills a worker that starts or stops too slowly."""
    monkeypatch.setattr("corepy_on.events.LIMITS_OF_ALL", {"startup": 0.2, "shutdown": 0.3})
    text = corefile("startup sleep 1000", "startup echo no", "startup echo yes &")
    text += corefile("startup echo never", "shutdown sleep 1000").replace(".:0", "a.test:0")
    with serve(text) as server:
        wait_until(lambda: ("INFO", "echo: yes") in logged())
        server.reload(corefile("startup echo again", "shutdown sleep 2000", "shutdown echo no"))
    assert [text for level, text in logged() if level == "ERROR"] == [
        "startup: sleep 1000 did not end within 0.2 s and was killed",
        "startup: not run, because the commands before it took 0.2 s: echo no",
        "startup: not run, because the commands before it took 0.2 s: echo never",
        "shutdown: sleep 2000 did not end within 0.3 s and was killed",
        "shutdown: not run, because the commands before it took 0.3 s: echo no",
    ]
    assert ("INFO", "echo: again") in logged()


def test_the_limits_are_within_those_of_the_supervisor():
    """With room for the rest of a start and of a stop."""
    assert LIMITS_OF_ALL["startup"] <= READY_TIMEOUT - 10
    assert LIMITS_OF_ALL["shutdown"] <= STOP_TIMEOUT - 5


def test_the_background_does_not_delay_the_start(logged, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = set(children_of(os.getpid()))
    with serve(corefile(f"startup cat {fifo} &")) as server:
        assert server.ask("a.test").header.rcode == 0
        server.reload(corefile())
        fifo.write_text("later\n")
        wait_until(lambda: ("INFO", "cat: later") in logged())
        wait_until(lambda: before.issuperset(children_of(os.getpid())))  # it is reaped


class Refuses(Handler):
    """Refuses the start."""

    name = "refuses"

    @hookimpl
    def before_listen(self):
        raise StartupError("no")


def test_a_start_that_fails_runs_nothing(tmp_path):
    marker = tmp_path / "marker"
    text = corefile(f"startup touch {marker}", f"shutdown touch {marker}")
    found = with_handlers(refuses=Refuses)
    with pytest.raises(StartupError), serve(text.replace("whoami", "refuses"), plugins=found):
        pass
    assert not marker.exists()


@pytest.mark.parametrize("flags", [["-check"], ["explain", "a.test"]])
def test_check_and_explain_run_nothing(flags, tmp_path):
    marker = tmp_path / "marker"
    conf = tmp_path / "Corefile"
    conf.write_text(corefile(f"startup touch {marker}", f"shutdown touch {marker}"))
    command = [sys.executable, "-m", "corepy", *flags, "-conf", str(conf)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert not marker.exists()


def test_with_several_processes_the_leader_runs_them(tmp_path):
    log = tmp_path / "log"
    text = corefile(
        f"startup sh -c {quoted(f'echo start >> {log}')}",
        f"shutdown sh -c {quoted(f'echo stop >> {log}')}",
    ).replace("whoami", "whoami\nmultisocket 2")
    with run_command(text) as server:
        assert server.ask("a.test").header.rcode == 0
        assert log.read_text() == "start\n"
        assert server.stop() == 0
    assert log.read_text() == "start\nstop\n"


def test_the_background_of_shutdown_outlives_the_server(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    marker = tmp_path / "marker"
    script = quoted(f"read line < {fifo}; echo $line > {marker}")
    with run_command(corefile(f"shutdown sh -c {script} &")) as server:
        assert server.process.poll() is None
        server.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        fifo.write_text("late\n")
        wait_until(lambda: marker.exists() and marker.read_text() == "late\n")


def test_output_in_the_log_of_the_command():
    with run_command(corefile("startup echo hello", "startup echo world &")) as server:
        server.wait_for("[INFO] plugin/on: echo: hello")
        server.wait_for("[INFO] plugin/on: echo: world")
