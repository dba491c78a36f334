"""The pid file: what may be at its path, at the start and at the end."""

import os
import socket
from pathlib import Path

import pytest

from corepy.plugin.log import server_logger
from corepy.server.pidfile import discard_stale, pidfile
from corepy.testing import run_command

OWN = f"{os.getpid()}\n"


@pytest.fixture
def log(caplog):
    logger = server_logger()
    before, logger.propagate = logger.propagate, True
    yield caplog
    logger.propagate = before


def a_link(path):
    path.with_name("target").write_text("precious")
    path.symlink_to(path.with_name("target"))


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


SPECIAL = {
    "a symbolic link": a_link,
    "a symbolic link to nothing": lambda path: path.symlink_to(path.with_name("nothing")),
    "a FIFO": os.mkfifo,
    "a socket": a_socket,
    "a directory": os.mkdir,
    "a device": lambda path: os.mknod(path, 0o20600, os.makedev(1, 7)),  # /dev/full
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_left_alone(kind, tmp_path, log):
    path = tmp_path / "pid"
    SPECIAL[kind](path)
    before = path.lstat()
    with pidfile(str(path)):
        assert path.lstat().st_mode == before.st_mode
    assert path.lstat().st_ino == before.st_ino
    found = kind.removesuffix(" to nothing")
    assert f"cannot write the pid file {path}: it is {found}, not a regular file" in log.text
    assert sorted(tmp_path.iterdir()) in ([path], [path, tmp_path / "target"])
    if kind == "a symbolic link":
        assert (tmp_path / "target").read_text() == "precious"


def test_what_is_at_the_path_at_the_end_is_removed_only_if_it_is_our_own(tmp_path):
    """A FIFO there would keep a reader waiting for ever; bytes need not be text."""
    for kind in ("own", "another's", "bytes", "gone", *SPECIAL):
        folder = tmp_path / kind
        folder.mkdir()
        path = folder / "pid"
        with pidfile(str(path)):
            assert path.read_text() == OWN
            if kind in SPECIAL or kind == "gone":
                path.unlink()
            if kind in SPECIAL:
                SPECIAL[kind](path)
            elif kind == "another's":
                path.write_text(f"{OWN[:-1]}1\n")
            elif kind == "bytes":
                path.write_bytes(b"\xff\xfe" * 5000)
        assert os.path.lexists(path) == (kind not in ("own", "gone"))


@pytest.mark.parametrize(
    ("before", "mode"), [(b"", 0o644), (b"77\n", 0o600), (b"\xff\0" * 5000, 0o644)]
)
def test_a_file_that_is_there_is_replaced_and_keeps_its_mode(before, mode, tmp_path):
    path = tmp_path / "pid"
    path.write_bytes(before)
    path.chmod(mode)
    with pidfile(str(path)):
        assert path.read_text() == OWN
        assert path.stat().st_mode & 0o777 == mode
    assert not path.exists()


def test_a_full_disk_leaves_no_file(tmp_path, log, monkeypatch):
    """A probe that checks whether the file exists must not take an empty one for the server's."""
    path = tmp_path / "pid"
    path.write_text("77\n")
    with open("/dev/full", "wb", buffering=0) as full:
        real = os.write
        monkeypatch.setattr(os, "write", lambda _, text: real(full.fileno(), text))
        with pidfile(str(path)):
            assert not path.exists()
    assert f"cannot write the pid file {path}: No space left on device" in log.text


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nowhere/pid", "No such file or directory"),
        ("/dev/null/pid", "Not a directory"),
        ("/proc/pid", "No such file or directory"),
        ("x" * 300, "File name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_a_path_that_cannot_be_written_is_an_error_in_the_log(path, why, log):
    with pidfile(path):
        pass
    assert f"cannot write the pid file {path}: {why}; the server runs without it" in log.text


def test_the_server_starts_and_stops_with_a_fifo_in_its_place(tmp_path):
    path = tmp_path / "pid"
    os.mkfifo(path)
    with run_command(".:0 {\n bind 127.0.0.1\n whoami\n}\n", "-pidfile", str(path)) as command:
        command.wait_for("it is a FIFO")
        assert command.ask("example.org.").header.rcode == 0
        assert command.stop() == 0
    assert path.is_fifo()


NO_PROCESS = Path("/proc/sys/kernel/pid_max").read_text()


@pytest.mark.parametrize(
    ("text", "is_stale"),
    [
        (NO_PROCESS, True),
        (OWN, True),  # in a new container the IDs begin anew
        (f"{os.getppid()}\n", False),
        ("1\n", False),
        ("99999999999999999999\n", False),
        ("precious", False),
        ("", False),
    ],
    ids=["none", "own", "parent", "init", "huge", "text", "empty"],  # the numbers vary
)
def test_the_file_of_a_process_that_has_ended_is_removed(text, is_stale, tmp_path):
    path = tmp_path / "pid"
    path.write_text(text)
    discard_stale(str(path))
    assert path.exists() == (not is_stale)


@pytest.mark.parametrize("path", [None, "/nowhere/pid", "/dev/null/pid", "a\0b", "/"])
def test_no_file_is_no_stale_file(path):
    discard_stale(path)


@pytest.mark.parametrize("flags", [(), ("-supervise",)], ids=["alone", "supervised"])
def test_a_start_that_fails_leaves_no_stale_file(flags, tmp_path):
    """Else the startup probe of a pod would succeed before the server serves."""
    path = tmp_path / "pid"
    path.write_text(NO_PROCESS)
    with run_command("broken {\n", "-pidfile", str(path), *flags, wait=False) as command:
        assert command.process.wait(60) == 1
    assert not path.exists()


@pytest.mark.parametrize("flag", ["-conf", "-pidfile", "-plugin-order"])
def test_an_empty_flag_is_as_if_it_were_not_given(flag, tmp_path):
    (tmp_path / "Corefile").write_text(".:0 {\n bind 127.0.0.1\n whoami\n}\n")
    with run_command(None, flag, "", cwd=tmp_path) as command:
        assert command.ask("example.org.").header.rcode == 0
        assert command.stop() == 0
        assert "cannot" not in command.output
