"""The version and the commit of the distribution: of a clone, an archive, an sdist, and none."""

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

from corepy import release

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build_commit  # noqa: E402  # found by the line above
import build_version  # noqa: E402  # as above

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
def _nothing_is_given(monkeypatch):
    for name in ("COREPY_COMMIT", "COREPY_VERSION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clone(tmp_path):
    """A repository with one commit and no tag, in whose archives git replaces two files."""
    folder = tmp_path / "clone"
    (folder / "tools").mkdir(parents=True)
    for name in (".gitattributes", build_commit.FILE, build_version.FILE):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")
    return folder


@pytest.fixture
def archive(clone, tmp_path):
    """Return a function that makes an archive of the clone with git, and extracts it."""

    def make():
        git(clone, "archive", "--output=../a.tar", "--prefix=archive/", "HEAD")
        extract(tmp_path / "a.tar")
        return tmp_path / "archive"

    return make


def test_releases_and_the_commits_between_them(clone):
    found = []
    for tag in ("", "v1.2.3rc1", "v1.2.3", "v1.10.0", "unrelated"):
        if tag:
            git(clone, "tag", tag)
        found.append(build_version.version(clone))
        git(clone, "commit", "--quiet", "--allow-empty", "--message=more")
        found.append(build_version.version(clone))
    assert found == [
        *("0.1.0.dev1", "0.1.0.dev2", "1.2.3rc1", "1.2.3rc2.dev1", "1.2.3", "1.2.4.dev1"),
        *("1.10.0", "1.10.1.dev1", "1.10.1.dev1", "1.10.1.dev2"),
    ]
    assert sorted(map(Version, found)) == [Version(it) for it in found]


def test_a_version_with_changes(clone):
    (clone / build_version.FILE).write_text("changed")
    assert build_version.version(clone) == "0.1.0.dev2"
    git(clone, "tag", "v1.0.0")
    assert build_version.version(clone) == "1.0.1.dev1"


@pytest.mark.parametrize("tag", ["v1", "v1.2", "v1.2.3.4", "v1.2.3-beta", "v1.2.3rc"])
def test_a_tag_that_is_no_version(clone, tag):
    git(clone, "tag", tag)
    with pytest.raises(ValueError, match=rf"the tag in '{tag}' is not a version such as v1\.2\.3"):
        build_version.version(clone)


@pytest.mark.parametrize(("tag", "expected"), [("v1.2.3", "1.2.3"), ("unrelated", "0.1.0.dev0")])
def test_the_version_of_an_archive(clone, archive, tag, expected):
    git(clone, "tag", tag)
    assert build_version.version(archive()) == expected


def test_the_version_of_an_sdist(tmp_path):
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: x\nVersion: 3.2.1\n")
    assert build_version.version(tmp_path) == "3.2.1"


def test_a_tree_in_another_repository(clone):
    git(clone, "tag", "v1.0.0")
    (clone / "inner").mkdir()
    assert build_version.version(clone / "inner") == "0.1.0.dev0"
    assert build_commit.commit(clone / "inner") == ""


def test_without_git(clone, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert build_version.version(clone) == "0.1.0.dev0"
    assert build_commit.commit(clone) == ""


@pytest.mark.parametrize("given", ["3.2.1", "v3.2.1"])
def test_the_version_of_the_environment_comes_first(clone, monkeypatch, given):
    monkeypatch.setenv("COREPY_VERSION", given)
    assert build_version.version(clone) == "3.2.1"


def test_the_build_takes_its_version_from_here():
    command = [sys.executable, "-m", "hatchling", "metadata", "version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == build_version.version()


def test_the_commit_of_a_clone(clone):
    assert build_commit.commit(clone) == head(clone)
    git(clone, "tag", "v1.0.0")
    assert build_commit.commit(clone) == head(clone)


def test_a_commit_with_changes(clone):
    (clone / build_commit.FILE).write_text("changed")
    assert build_commit.commit(clone) == head(clone) + "-dirty"


@pytest.mark.parametrize("digits", [7, 20])
def test_the_length_does_not_depend_on_the_repository(clone, digits):
    git(clone, "config", "core.abbrev", str(digits))  # git's default grows with the objects
    assert build_commit.commit(clone) == head(clone)


def test_the_commit_of_an_archive(clone, archive):
    git(clone, "tag", "v1.0.0")
    assert build_commit.commit(archive()) == head(clone)


def test_the_commit_of_the_environment_comes_first(clone, monkeypatch):
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
    tree = tmp_path / sdist.name.removesuffix(".tar.gz")
    before = set(tree.rglob("*"))
    hatchling(tree, "wheel", tmp_path)
    # Builds of one tree at a time must not meet in it.
    assert {it for it in tree.rglob("*") if "__pycache__" not in it.parts} == before
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
