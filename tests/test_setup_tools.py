"""The scripts of `make` on machines where something is missing, and corepy without RE2."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corepy.testing.command import wait_until
from corepy.testing.listening import children

TOOLS = Path(__file__).parent.parent / "tools"
sys.path.insert(0, str(TOOLS))

from plugin_folders import debian_packages, plugins  # noqa: E402  # found by sys.path


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
    ("debian", "expected"),
    [("true", "true"), ("false", "python3"), ("missing", "python3"), ("python3", "python3")],
    ids=["fit", "unfit", "missing", "that of the PATH"],
)
def test_the_interpreter_of_benchmarks(machine, tmp_path, debian, expected):
    """`true` and `false` take the place of the check in an interpreter."""
    for name, program in (("python3", "true"), ("true", "true"), ("false", "false")):
        (tmp_path / name).symlink_to(shutil.which(program))
    done = run(str(TOOLS / "optimized-python"), str(tmp_path / debian), env=machine)
    expected = str(tmp_path / "true") if expected == "true" else expected
    assert (done.returncode, done.stdout) == (0, f"{expected}\n")


def test_the_tests_of_some_plugins_and_their_packages():
    chosen = ["whoami", "bind", "loop"]
    binaries = f"BIN={Path(sys.executable).parent}"
    words = ("make", "-C", str(TOOLS.parent), "-n", "test", f"PLUGIN={' '.join(chosen)}", binaries)
    done = run(*words, env={**os.environ})
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    packages = [line[1:] for line in lines if line[0].endswith("debian-packages")]
    assert packages[-1] == debian_packages([it for it in plugins() if it.name in chosen])
    tests = [line for line in lines if line[0].endswith("/pytest")]
    assert len(tests) == 2
    assert all({f"plugins/{name}" for name in chosen} <= {*line} for line in tests)


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


WAITING = "import sys; print('runs', flush=True); sys.stdin.read()"
# Also if this run ignores SIGINT, as a shell's background jobs do.
PARENT = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


def beside_burners(runs, *command):
    return [sys.executable, str(TOOLS / "beside_burners.py"), str(runs), *command]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_beside_burners():
    parent = "import os; print(open(f'/proc/{os.getppid()}/task/{os.getppid()}/children').read())"
    done = run(*beside_burners(2, sys.executable, "-c", parent), env=None)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[::2] == ["run 1 of 2 beside busy CPUs", "run 2 of 2 beside busy CPUs"]
    for pids in lines[1::2]:
        assert len(pids.split()) == len(os.sched_getaffinity(0)) + 1
        assert not any(map(is_running, pids.split()))
    failing = run(*beside_burners(3, sys.executable, "-c", "print('once'); exit(7)"), env=None)
    assert (failing.returncode, failing.stdout.count("once")) == (7, 1)


@pytest.mark.parametrize("whose", ["own", "parent's"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_burners_end_however_the_run_ends(whose, number):
    """SIGINT as from a terminal, which signals all the processes; the command reads to its end."""
    words = [sys.executable, "-c", PARENT, *beside_burners(1, sys.executable, "-c", WAITING)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.stdout.readline() != "runs\n":
            pass
        (tool,) = children(process.pid)
        burners = children(tool)
        assert len(burners) == len(os.sched_getaffinity(0)) + 1
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            os.kill(tool if whose == "own" else process.pid, number)
        if (number, whose) == (signal.SIGKILL, "own"):
            process.stdin.close()  # nobody ends the command
        wait_until(lambda: not any(map(is_running, [tool, *burners])))
