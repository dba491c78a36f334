"""The scripts of `make` on machines where something is missing, and corepy without RE2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def machine(tmp_path):
    """Return the environment of a machine that has a shell, without cc, apt and dpkg."""
    for name in ("sh", "dirname", "id"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return {"PATH": str(tmp_path)}


def run(*words, env):
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


def test_without_a_compiler_the_packages_are_named(machine):
    done = run(str(TOOLS / "build-packages"), sys.executable, env=machine)
    assert done.returncode == 1
    assert "python-iptables is compiled when it is installed" in done.stderr
    assert "apt-get install gcc libc6-dev" in done.stderr


def test_with_a_compiler_and_headers_nothing_is_installed(machine, tmp_path):
    (tmp_path / "cc").symlink_to("/bin/true")
    assert run(str(TOOLS / "build-packages"), sys.executable, env=machine).returncode == 0


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ((), 1, "missing Debian packages (as root: apt-get install corepy-none)\n"),
        (
            ("--optional",),
            0,
            "not installed, going on without: corepy-none (as root: apt-get install corepy-none)\n",
        ),
    ],
)
def test_a_package_that_cannot_be_installed(machine, flags, code, message):
    done = run(str(TOOLS / "debian-packages"), *flags, "corepy-none", env=machine)
    assert (done.returncode, done.stderr) == (code, message)


def test_without_re2_only_patterns_are_refused(tmp_path):
    """As where the index has no wheel of google-re2 (Alpine, a new Python)."""
    (tmp_path / "re2.py").write_text("raise ImportError('no wheel')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    check = (sys.executable, "-m", "corepy", "-check", "-conf", str(tmp_path / "Corefile"))
    (tmp_path / "Corefile").write_text(".:5300 {\n    errors\n    whoami\n}\n")
    assert run(*check, env=env).returncode == 0
    (tmp_path / "Corefile").write_text(
        ".:5300 {\n    template ANY ANY {\n        match ^a\n    }\n}\n"
    )
    done = run(*check, env=env)
    assert done.returncode == 1
    assert "Corefile:3:15: " in done.stderr
    assert "regular expressions need the package google-re2: pip install google-re2" in done.stderr
