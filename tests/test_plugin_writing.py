"""Files that are replaced at once: whole or not at all, and nothing is left beside them."""

import errno
import os
import threading

import pytest

from corepy.plugin.writing import PRIVATE, PUBLIC, replace_file


@pytest.mark.parametrize(("mode", "expected"), [(PRIVATE, 0o600), (PUBLIC, 0o644)])
@pytest.mark.parametrize("is_durable", [True, False])
@pytest.mark.parametrize("name", ["file", "x" * 255, "\N{ROMAN NUMERAL ONE}" * 85])
def test_a_file(tmp_path, mode, expected, is_durable, name):
    path = tmp_path / name
    for parts in ([b"a", b"", b"b"], [], [b"c"]):
        replace_file(path, parts, mode=mode, is_durable=is_durable)
        assert path.read_bytes() == b"".join(parts)
        assert path.stat().st_mode & 0o777 == expected
    assert list(tmp_path.iterdir()) == [path]


def test_the_time_of_the_content(tmp_path):
    replace_file(tmp_path / "file", [b""], modified=1234.5)
    assert (tmp_path / "file").stat().st_mtime == 1234.5


def failing():
    yield b"a"
    raise ValueError("no more")


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("fault", ["parts", "disk", "invalid"])
def test_the_old_file_stays(tmp_path, exists, fault, monkeypatch):
    path = tmp_path / "file"
    if exists:
        path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if fault == "disk":
        monkeypatch.setattr(os, "fsync", full)
    parts = failing() if fault == "parts" else [b"new"]
    raised = {"parts": ValueError, "disk": OSError}.get(fault)
    if raised is None:
        replace_file(path, parts, is_valid=lambda: False)
    else:
        with pytest.raises(raised):
            replace_file(path, parts)
    assert [it.read_bytes() for it in tmp_path.iterdir()] == ([b"old"] if exists else [])


def test_only_a_durable_file_waits_for_the_disk(tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    replace_file(tmp_path / "file", [b""], is_durable=False)
    assert not synced
    replace_file(tmp_path / "file", [b""])
    assert len(synced) == 1


def test_a_link_is_replaced(tmp_path):
    target, path = tmp_path / "target", tmp_path / "file"
    target.write_bytes(b"other")
    path.symlink_to(target)
    replace_file(path, [b"new"])
    assert (path.is_symlink(), path.read_bytes(), target.read_bytes()) == (False, b"new", b"other")


def test_files_of_killed_processes_are_removed(tmp_path):
    names = ".state.new-1", ".state.new-2", ".other.new-1"
    old, recent, other = (tmp_path / name for name in names)
    for path in (old, recent, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (1, 1))
    replace_file(tmp_path / "state", [b""])
    assert sorted(tmp_path.iterdir()) == sorted([recent, other, tmp_path / "state"])


def test_two_writers(tmp_path):
    """The one that ends later wins; neither disturbs the other."""
    path, begun, ended = tmp_path / "file", threading.Event(), threading.Event()

    def slow():
        yield b"s"
        begun.set()
        ended.wait(60)
        yield b"low"

    thread = threading.Thread(target=replace_file, args=(path, slow()))
    thread.start()
    begun.wait(60)
    replace_file(path, [b"fast"])
    assert path.read_bytes() == b"fast"
    ended.set()
    thread.join()
    assert path.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none" / "file", [b""])
