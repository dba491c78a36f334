"""What counts as a change, and which folders tell of one; no server."""

import asyncio
import os
from pathlib import Path

import pytest

from corepy_reload.configuration import Configuration
from corepy_reload.folders import folders_of
from corepy_reload.inotify import Inotify

TEXT = ".:53 {\n    whoami\n    reload\n}\n"


@pytest.fixture
def conf(tmp_path):
    conf = tmp_path / "Corefile"
    conf.write_text(TEXT)
    return conf


def configuration(conf, *files):
    return Configuration(str(conf), conf.read_text(), [conf, *files])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (TEXT, True),
        ("# a comment\n\n" + TEXT, True),
        (".:53 { # here too\n  whoami\n\n  reload\n}\n", True),
        (TEXT.replace("whoami", "errors"), False),
        (TEXT.replace("whoami\n    reload", "whoami reload"), False),
        (TEXT + "example.org:53 {\n    whoami\n}\n", False),
        (TEXT.replace(".:53", "org:53"), False),
        (TEXT.replace("reload", "reload 30s"), False),
    ],
)
def test_the_words_and_lines_count(conf, text, same):
    it = configuration(conf)
    assert it.now() == it.started()
    conf.write_text(text)
    assert (it.now() == it.started()) is same
    assert not it.now().problem


def test_the_start_is_what_was_parsed_not_what_is_there_now(conf):
    text = conf.read_text()
    conf.write_text(TEXT.replace("whoami", "errors"))
    it = Configuration(str(conf), text, [conf])
    assert it.now().digest != it.started().digest


def test_imports_and_wildcards(conf):
    folder = conf.parent / "conf.d"
    folder.mkdir()
    conf.write_text(TEXT.replace("whoami", "import conf.d/*.conf"))
    it = configuration(conf)
    without = it.started()
    part = folder / "a.conf"
    part.write_text("whoami\n")
    with_one = it.now()
    assert with_one.digest != without.digest
    assert with_one.files == {conf, part}
    part.write_text("errors\n")
    assert it.now().digest != with_one.digest
    (folder / "a.txt").write_text("of no interest\n")
    part.unlink()
    assert it.now() == without


def test_files_of_plugins(conf):
    key = conf.parent / "tls.key"
    key.write_text("one")
    it = configuration(conf, key)
    one = it.now()
    assert one.digest != configuration(conf).now().digest
    key.write_text("two")
    two = it.now()
    assert two.digest != one.digest
    key.unlink()
    assert it.now().digest not in (one.digest, two.digest)
    os.mkfifo(key)
    assert not it.now().problem
    assert it.now().files == {conf, key}


@pytest.mark.parametrize(
    ("text", "problem", "is_empty"),
    [
        (".:53 {\n", "end of file|never closed|EOF|[Ee]xpect", False),
        ("", "no server block", True),
        ("# nothing\n", "no server block", True),
        (None, "Corefile: No such file", False),
    ],
)
def test_what_cannot_be_loaded(conf, text, problem, is_empty):
    it = configuration(conf)
    conf.unlink()
    if text is not None:
        conf.write_text(text)
    found = it.now()
    assert found.problem
    assert found.is_empty is is_empty
    assert found == it.now()
    assert found.digest != it.started().digest
    assert found.files == {conf}
    if is_empty or text is None:
        assert problem in found.problem


def test_standard_input_is_never_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    it = Configuration("stdin", TEXT, [])
    Path("stdin").write_text("example.org {\n}\n")
    assert it.now() == it.started()


def paths(*files):
    return {folder.path for folder in folders_of(files)}


def test_folders_of_a_mounted_configmap(tmp_path):
    first, second = tmp_path / "..1", tmp_path / "..2"
    for it in (first, second):
        it.mkdir()
        (it / "Corefile").write_text(TEXT)
        (it / "conf.d").mkdir()
        (it / "conf.d" / "part").write_text("")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "Corefile").symlink_to("..data/Corefile")
    (tmp_path / "conf.d").symlink_to("..data/conf.d")
    mount = str(tmp_path)
    assert paths(tmp_path / "Corefile") == {mount, f"{mount}/..1"}
    assert paths(tmp_path / "conf.d" / "part") == {mount, f"{mount}/..1/conf.d"}
    (tmp_path / "new").symlink_to("..2")
    (tmp_path / "new").rename(tmp_path / "..data")
    assert paths(tmp_path / "Corefile") == {mount, f"{mount}/..2"}


def test_folders_of_odd_paths(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "up").symlink_to("a/..")
    (tmp_path / "away").symlink_to("/proc/self/status")
    (tmp_path / "circle").symlink_to("circle")
    top = str(tmp_path)
    assert paths(tmp_path / "missing" / "too" / "file") == {top}
    assert paths(tmp_path / "up" / "file") == {top}
    assert paths(tmp_path / "circle") == {top}
    assert top in paths(tmp_path / "away")
    assert any(path.startswith("/proc/") for path in paths(tmp_path / "away"))


def test_a_folder_that_was_replaced_is_another(tmp_path):
    folder, other = tmp_path / "conf", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    before = folders_of([folder / "Corefile"])
    folder.rename(tmp_path / "old")
    other.rename(folder)
    assert folders_of([folder / "Corefile"]) != before


def overwrite(path):
    path.write_text("changed")


def replace(path):
    path.with_name("new").write_text("changed")
    path.with_name("new").rename(path)


def link(path):
    path.with_name("new").symlink_to("/dev/null")


def remove(path):
    path.unlink()


def remove_all(path):
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize("change", [overwrite, replace, link, remove, remove_all])
def test_inotify_tells(tmp_path, change):
    path = tmp_path / "conf" / "Corefile"
    path.parent.mkdir()
    path.write_text(TEXT)

    async def run():
        news = asyncio.Event()
        inotify = Inotify(news.set)
        assert inotify.watch(folders_of([path]))
        assert not inotify.watch(folders_of([path]))
        path.read_text()
        await asyncio.sleep(0.02)
        assert not news.is_set()
        change(path)
        await asyncio.wait_for(news.wait(), 60)
        inotify.close()
        inotify.close()

    asyncio.run(run())
