"""The version of the distribution: of a tag, between tags, and where git's data are absent."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build_version  # noqa: E402

GIT = ("git", "-c", "user.name=corepy", "-c", "user.email=corepy@example.org")


def git(folder, *words):
    subprocess.run([*GIT, *words], cwd=folder, capture_output=True, check=True)


@pytest.fixture(autouse=True)
def _no_version_given(monkeypatch):
    monkeypatch.delenv("COREPY_VERSION", raising=False)


@pytest.fixture
def clone(tmp_path):
    """A repository with one commit and no tag."""
    folder = tmp_path / "clone"
    (folder / "tools").mkdir(parents=True)
    for name in (".gitattributes", build_version.FILE):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")
    return folder


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


def test_changes_that_are_not_committed(clone):
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
def test_an_archive_made_by_git(clone, tmp_path, tag, expected):
    git(clone, "tag", tag)
    git(clone, "archive", "--output=../a.tar", "--prefix=archive/", "HEAD")
    with tarfile.open(tmp_path / "a.tar") as files:
        files.extractall(tmp_path, filter="data")
    assert build_version.version(tmp_path / "archive") == expected


def test_an_sdist(tmp_path):
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: x\nVersion: 3.2.1\n")
    assert build_version.version(tmp_path) == "3.2.1"


def test_a_tree_in_another_repository(clone):
    git(clone, "tag", "v1.0.0")
    (clone / "inner").mkdir()
    assert build_version.version(clone / "inner") == "0.1.0.dev0"


def test_without_git(clone, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert build_version.version(clone) == "0.1.0.dev0"


@pytest.mark.parametrize("given", ["3.2.1", "v3.2.1"])
def test_the_environment_comes_first(clone, monkeypatch, given):
    monkeypatch.setenv("COREPY_VERSION", given)
    assert build_version.version(clone) == "3.2.1"


def test_the_build_takes_its_version_from_here():
    command = [sys.executable, "-m", "hatchling", "metadata", "version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == build_version.version()
