"""The control socket: where it lies, what it takes, what it survives."""

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import stat
import threading

import pytest

from corepy.plugin import CommandError, control_client, hookimpl
from corepy.plugin.control_client import ControlError, NotKnownError, ask, ask_all, process_of
from corepy.server.control_socket import MOST
from corepy.testing import inline, run_command, serve
from corepy.testing.command import wait_until

COREFILE = ". {\n    bind 127.0.0.1\n    whoami\n}\n"
SPOKEN = COREFILE.replace("whoami", "speaker\n    whoami")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the sockets of these tests to themselves."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


class Speaker:
    """A plugin with a command; what it does is the argument's to say."""

    hanging = threading.Event()

    def __init__(self, number):
        self.number = number

    @hookimpl
    async def command(self, name, argument):
        if name != "speaker/do":
            return None
        await asyncio.sleep(0)
        if argument == "refuse":
            raise CommandError("not today")
        if argument == "break":
            raise ValueError("broken")
        if argument == "hang":
            self.hanging.set()
            await asyncio.Event().wait()
        if argument == "much":
            return "x" * (control_client.LONGEST_ANSWER + 1)
        return [self.number, argument]


def speakers():
    from corepy.loading.registry import find

    numbers = iter(range(1, 100))

    def setup(controller):
        for _ in controller.single():
            controller.register(Speaker(next(numbers)))

    return {**find(), "speaker": inline("speaker", setup)}


def answers(path):
    """Whether the server at `path` answers, which is that it does not know this command."""
    try:
        ask(path, "nobody/knows")
    except NotKnownError:
        return True
    return False


def only(folder):
    (path,) = folder.glob(control_client.PATTERN)
    return path


def test_plugins_answer_and_the_answers_are_collected(folder):
    text = SPOKEN + SPOKEN.replace(". {", "example.org {", 1)
    with serve(text, plugins=speakers(), control=True):
        path = only(folder)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert process_of(path) == os.getpid()
        answers = ask(path, "speaker/do", {"deep": ["ä", None, 1.5]})
        assert answers == [
            {"plugin": "speaker", "value": [number, {"deep": ["ä", None, 1.5]}]}
            for number in (1, 2)
        ]
        with pytest.raises(
            NotKnownError, match=r"no plugin of this server provides .*'speaker/undo'"
        ):
            ask(path, "speaker/undo")
        assert ask_all("speaker/undo") == []
    assert list(folder.iterdir()) == []
    assert ask_all("speaker/do") == []


def test_what_goes_wrong_is_told(folder, caplog):
    with serve(SPOKEN, plugins=speakers(), control=True):
        path = only(folder)
        for argument, message in (
            ("refuse", "^not today$"),
            ("break", "^plugin/speaker: ValueError: broken$"),
            ("much", "too long"),
        ):
            with pytest.raises(ControlError, match=message):
                ask(path, "speaker/do", argument)
        with pytest.raises(ControlError, match="too long"):
            ask(path, "speaker/do", "x" * control_client.LONGEST_QUESTION)
        assert ask(path, "speaker/do", "still") == [{"plugin": "speaker", "value": [1, "still"]}]


def test_a_command_that_hangs_is_given_up(folder, monkeypatch):
    from corepy.server import control_socket as server

    monkeypatch.setattr(server, "PATIENCE", 0.1)
    with (
        serve(SPOKEN, plugins=speakers(), control=True),
        pytest.raises(ControlError, match="longer"),
    ):
        ask(only(folder), "speaker/do", "hang")


def test_a_command_that_hangs_does_not_keep_the_server_from_stopping(folder, monkeypatch):
    from corepy.server import control_socket as server

    monkeypatch.setattr(server, "_CLOSING", 0.1)
    Speaker.hanging.clear()
    with serve(SPOKEN, plugins=speakers(), control=True):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(only(folder)))
        sock.sendall(b'{"command": "speaker/do", "argument": "hang"}\n')
        assert Speaker.hanging.wait(60)
    with sock:
        sock.settimeout(20)
        try:
            assert sock.recv(100) == b""
        except ConnectionError:
            pass  # as good
    gc.collect()


def test_a_reload_keeps_the_socket_and_asks_the_new_plugins(folder):
    with serve(SPOKEN, plugins=speakers(), control=True) as server:
        path = only(folder)
        assert ask(path, "speaker/do", "a")[0]["value"] == [1, "a"]
        server.reload(SPOKEN)
        assert only(folder) == path
        assert ask(path, "speaker/do", "b") == [{"plugin": "speaker", "value": [2, "b"]}]
        server.reload(COREFILE)
        with pytest.raises(NotKnownError):
            ask(path, "speaker/do", "c")


def test_generations_that_start_and_drain_are_asked_as_well(folder):
    """A purge in the middle of a takeover must reach what both keep."""
    seen = []

    class Slow:
        def __init__(self, number):
            self.number = number

        @hookimpl
        async def serving(self, context):
            if context.replaces:
                answers = await asyncio.to_thread(ask, only(folder), "slow/who")
                seen.append([answer["value"] for answer in answers])

        @hookimpl
        async def stopping(self, context):
            if not context.final:
                answers = await asyncio.to_thread(ask, only(folder), "slow/who")
                seen.append([answer["value"] for answer in answers])

        @hookimpl
        def command(self, name):
            return self.number if name == "slow/who" else None

    numbers = iter((1, 2))
    plugins = {
        **speakers(),
        "slow": inline("slow", lambda c: [c.register(Slow(next(numbers))) for _ in c.single()]),
    }
    text = COREFILE.replace("whoami", "slow\n    whoami")
    with serve(text, plugins=plugins, control=True) as server:
        server.reload(text)
        assert [answer["value"] for answer in ask(only(folder), "slow/who")] == [2]
    assert seen == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"name\n", b"[]\n", b"{}\n", b'{"command": 1}\n', b"\xff\n", b"[" * 60000 + b"\n",
        b"x" * (control_client.LONGEST_QUESTION + 10),
    ],
)  # fmt: skip
def test_the_socket_takes_no_nonsense(line, folder):
    with serve(COREFILE, control=True) as server:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(only(folder)))
            try:
                sock.sendall(line)
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(4096)
            except ConnectionError:
                answer = b""
        assert answer == b"" or json.loads(answer).keys() == {"error"}
        assert server.ask("www.example.org").header.rcode == 0
        assert answers(only(folder))


def test_too_many_callers_cost_only_themselves(folder):
    with serve(COREFILE, control=True) as server:
        path = only(folder)
        callers = [socket.socket(socket.AF_UNIX) for _ in range(MOST + 5)]
        for caller in callers:
            caller.connect(str(path))
        callers[-1].settimeout(20)
        try:
            assert callers[-1].recv(1) == b""
        except ConnectionError:
            pass  # as good
        assert server.ask("www.example.org").header.rcode == 0
        for caller in callers:
            caller.close()
        wait_until(lambda: _answers(path))


def _answers(path):
    try:
        return answers(path)
    except ControlError:
        return False


def test_leftover_sockets_are_removed(folder):
    old, young = folder / "control-1-old.sock", folder / "control-1-young.sock"
    for path in (old, young):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    os.utime(old, (0, 0))
    with serve(COREFILE, control=True):
        assert not old.exists()
        assert young.exists()
        (alive,) = control_client.sockets()
        assert alive not in (old, young)


def test_callers_who_come_as_the_server_stops_leave_nothing_open(folder):
    """Each is connected, and no more, at the moment at which the socket is closed."""
    for _ in range(5):
        with serve(COREFILE, control=True):
            path = only(folder)
            callers = [socket.socket(socket.AF_UNIX) for _ in range(20)]
            for caller in callers:
                caller.connect(str(path))
                caller.close()
        gc.collect()  # an open transport that nobody holds warns, and a warning fails the test


def test_without_a_folder_it_serves_all_the_same(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)  # another test may differ
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path / "no" / "where"])
    with serve(COREFILE, control=True) as server:
        assert server.ask("www.example.org").header.rcode == 0
    assert "no control socket" in caplog.text


def test_folders(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert [str(folder) for folder in control_client.folders()] == [
        "/run/one", "/run/corepy", "/run/user/7/corepy",
    ]  # fmt: skip


def test_answers_that_are_none(folder):
    """Somebody else's socket, or one that breaks off."""
    path = folder / f"{control_client.PATTERN.replace('*', '1-x')}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        for said in (b"", b"{", b"[]\n", b'"value"\n', b"{}\n"):

            def answer(said=said):
                peer, _ = listener.accept()
                with peer:
                    peer.recv(4096)
                    peer.sendall(said)

            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(ControlError, match="no response"):
                ask(path, "x")
            thread.join(20)


def test_the_command_has_one_and_leaves_nothing_behind(tmp_path):
    env = {"RUNTIME_DIRECTORY": str(tmp_path)}
    with run_command(COREFILE, env=env) as command:
        path = only(tmp_path)
        assert process_of(path) == command.process.pid
        assert answers(path)
        command.send_signal(signal.SIGUSR1)
        command.wait_for("Reloading complete")
        assert answers(only(tmp_path))
        assert command.stop(signal.SIGTERM) == 0
    assert os.listdir(tmp_path) == []


def test_a_start_that_fails_leaves_nothing_behind(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = f".:{taken.getsockname()[1]} {{\n    bind 127.0.0.1\n    whoami\n}}\n"
        env = {"RUNTIME_DIRECTORY": str(tmp_path)}
        with run_command(text, env=env, wait=False) as command:
            assert command.process.wait(60) == 1
    assert os.listdir(tmp_path) == []


def test_under_the_supervisor_each_worker_has_its_own(tmp_path):
    env = {"RUNTIME_DIRECTORY": str(tmp_path)}
    with run_command(COREFILE, "-supervise", env=env) as command:
        command.wait_for("serves")
        first = only(tmp_path)
        assert process_of(first) != command.process.pid
        command.send_signal(signal.SIGUSR2)
        command.wait_for(", stopping ")
        wait_until(lambda: first not in control_client.sockets())
        (second,) = control_client.sockets()
        assert process_of(second) not in (process_of(first), command.process.pid)
        assert answers(second)
        os.kill(process_of(second), signal.SIGKILL)
        command.wait_for("serves", times=3)
        wait_until(lambda: len(control_client.sockets()) == 1)
        assert command.stop() == 0
    assert control_client.sockets() == []
