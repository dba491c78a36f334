"""`corepy top` without a screen: its output, its errors, and the server that it follows."""

import json
import os
import re

import pytest

from corepy.commands.top import top_command
from corepy.commands.top.stats_poller import StatsPoller
from corepy.commands.top.top_exchange import NEXT
from corepy.plugin import control_client
from corepy.plugin.control_client import ControlError, ServerGoneError
from corepy.testing import serve

COREFILE = ". {\n    bind 127.0.0.1\n    whoami\n}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the control sockets of these tests to themselves."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*arguments):
        try:
            return top_command.main(arguments), *capsys.readouterr()
        except SystemExit as ended:
            return ended.code, *capsys.readouterr()

    return run


def test_the_figures_are_printed_once(run):
    with serve(COREFILE, control=True) as server:
        server.ask("www.example.org")
        code, out, err = run("-once")
        assert (code, err) == (0, "")
        assert f"pid {os.getpid()}" in out
        assert "www.example.org." in out
        assert "\x1b" not in out
        code, out, err = run("-json", "-pid", str(os.getpid()))
        assert (code, err) == (0, "")
        (document,) = json.loads(out)
        assert document["totals"]["queries"] >= 1
        assert document["history"]["interval"] == 10
        code, out, err = run("-once", "-pid", "1")
        assert (code, out) == (1, "")
        assert err == f"corepy top: no server has the process ID 1; there is {os.getpid()}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-once"], 1, "no server runs here"),
        (["-json"], 1, "no server runs here"),
        ([], 1, r"must be a terminal \(kubectl exec -it\), or use -once or -json"),
        (["-interval", "0.1"], 2, r"'0.1' is not a number of seconds \(0.2 to 3600\)"),
        (["-interval", "nan"], 2, "'nan' is not a number"),
        (["-pid", "x"], 2, "'x' is not a process ID"),
        (["-onse"], 2, "did you mean -once"),
        (["extra"], 2, "unrecognized arguments: extra"),
    ],
)
def test_errors_are_one_line(run, arguments, code, message):
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert err.count("\n") == 1
    assert re.search(message, err)


class Host:
    """Servers with their Corefiles by process ID; the sockets are files."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.servers: dict[int, str] = {}
        self.failing: dict[int, Exception] = {}
        self.asked: list[tuple[int, bool]] = []
        module = "corepy.commands.top.stats_poller"
        monkeypatch.setattr(f"{module}.sockets", self.sockets)
        monkeypatch.setattr(f"{module}.ask", self.ask)

    def start(self, pid, name="Corefile"):
        self.servers[pid] = name
        path = self.path_of(pid)
        path.write_text("")
        os.utime(path, (pid, pid))  # the greater the ID, the newer

    def path_of(self, pid):
        return self.folder / f"control-{pid}-x.sock"

    def sockets(self):
        return [self.path_of(pid) for pid in sorted(self.servers)]

    def ask(self, path, command, argument):
        pid = control_client.process_of(path)
        if pid in self.failing:
            raise self.failing[pid]
        self.asked.append((pid, bool(argument.get("history"))))
        document = {"server": {"pid": pid, "name": self.servers[pid]}}
        return document | ({"history": {"of": pid}} if argument.get("history") else {})


@pytest.fixture
def host(folder, monkeypatch):
    return Host(folder, monkeypatch)


def poll(poller):
    poller.polled = poller.poll()
    return poller.polled


def shown(polled):
    return None if polled.document is None else polled.document["server"]["pid"]


def test_the_newest_server_is_followed_by_its_successor(host):
    host.start(10, "Other")
    host.start(20)
    poller = StatsPoller(2.0, lambda: None)
    first = poll(poller)
    assert (shown(first), first.before, first.problem) == (20, None, "")
    second = poll(poller)
    assert second.before is first.document
    del host.servers[20]
    lost = poll(poller)
    assert (shown(lost), lost.problem) == (20, "the server is gone; n shows another one")
    host.start(30)
    host.start(40, "Third")
    found = poll(poller)
    assert (shown(found), found.before, found.problem) == (30, None, "")


def test_the_history_is_requested_once_in_ten_seconds(host):
    host.start(10)
    poller = StatsPoller(2.0, lambda: None)
    documents = [poll(poller).document for _ in range(3)]
    assert [asked for _, asked in host.asked] == [True, False, False]
    assert all(it["history"] == {"of": 10} for it in documents)


def test_a_key_moves_to_the_next_server(host):
    host.start(10, "Other")
    host.start(20)
    poller = StatsPoller(2.0, lambda: None)
    assert shown(poll(poller)) == 20
    poller.carry_out(NEXT, 2.0)
    moved = poll(poller)
    assert (shown(moved), moved.before) == (10, None)
    poller.carry_out(NEXT, 2.0)
    assert shown(poll(poller)) == 20


def test_a_server_is_chosen_by_its_process(host):
    host.start(10)
    host.start(20)
    poller = StatsPoller(2.0, lambda: None, pid=10)
    assert shown(poll(poller)) == 10


def test_problems_do_not_end_the_polling(host):
    poller = StatsPoller(2.0, lambda: None)
    assert "no server runs here" in poll(poller).problem
    host.start(10)
    assert shown(poll(poller)) == 10
    host.failing[10] = ControlError("it took longer than 30 s")
    assert poll(poller).problem == "it took longer than 30 s"
    host.failing[10] = ServerGoneError("gone")
    assert poll(poller).problem == "the server is gone"
    del host.failing[10]
    back = poll(poller)
    assert (shown(back), back.before, back.problem) == (10, None, "")
