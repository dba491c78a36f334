"""The commit that `corepy -version` prints: of a clone, an archive, an sdist, and none."""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from corepy import release

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build_commit  # noqa: E402

GIT = ("git", "-c", "user.name=corepy", "-c", "user.email=corepy@example.org")


def git(folder, *words):
    done = subprocess.run([*GIT, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def head(folder):
    return git(folder, "rev-parse", "HEAD")[:12]


def extract(archive):
    with tarfile.open(archive) as files:
        files.extractall(archive.parent, filter="data")


@pytest.fixture(autouse=True)
def _no_commit_given(monkeypatch):
    monkeypatch.delenv("COREPY_COMMIT", raising=False)


@pytest.fixture
def clone(tmp_path):
    """A repository with a tag, whose commit.txt git replaces in an archive."""
    folder = tmp_path / "clone"
    (folder / "tools").mkdir(parents=True)
    for name in (".gitattributes", build_commit.FILE):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")
    git(folder, "tag", "v1.0.0")
    return folder


def test_a_clone(clone):
    assert build_commit.commit(clone) == head(clone)


def test_a_clone_with_changes(clone):
    (clone / build_commit.FILE).write_text("changed")
    assert build_commit.commit(clone) == head(clone) + "-dirty"


@pytest.mark.parametrize("digits", [7, 20])
def test_the_length_does_not_depend_on_the_repository(clone, digits):
    git(clone, "config", "core.abbrev", str(digits))  # git's default grows with the objects
    assert build_commit.commit(clone) == head(clone)


def test_a_tree_in_another_repository(clone):
    (clone / "inner").mkdir()
    assert build_commit.commit(clone / "inner") == ""


def test_an_archive_made_by_git(clone, tmp_path):
    git(clone, "archive", "--output=../a.tar", "--prefix=archive/", "HEAD")
    extract(tmp_path / "a.tar")
    assert build_commit.commit(tmp_path / "archive") == head(clone)


def test_the_files_without_git(clone, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert build_commit.commit(clone) == ""


def test_the_environment_comes_first(clone, monkeypatch):
    monkeypatch.setenv("COREPY_COMMIT", "1234567")
    assert build_commit.commit(clone) == "1234567"


def hatchling(folder, target, result, **environment):
    env = {**os.environ, **environment}
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(result)]
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)


def test_a_wheel_that_is_built_from_an_sdist(tmp_path):
    hatchling(ROOT, "sdist", tmp_path, COREPY_COMMIT="1234567")
    (sdist,) = tmp_path.glob("corepy_dns-*.tar.gz")
    extract(sdist)
    hatchling(tmp_path / sdist.name.removesuffix(".tar.gz"), "wheel", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = (it for it in files.namelist() if it.endswith("/extra_metadata/commit.txt"))
        assert files.read(name) == b"1234567"


def test_nothing_is_installed(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert (release.version(), release.commit()) == ("unknown", "unknown")
