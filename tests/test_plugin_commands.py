"""Commands of installed distributions: one that cannot run costs only itself, in one line."""

import os
import subprocess
import sys

import pytest

FUNCTION = "def main(arguments):\n    print(*arguments)\n    return 3\n"


@pytest.fixture
def run(tmp_path):
    """A function that installs the distribution corepy-two and runs its command."""

    def run(command, code, target="corepy_two:main"):
        (tmp_path / "corepy_two.py").write_text(code)
        info = tmp_path / "corepy_two-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corepy-two\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[corepy.commands]\n{command} = {target}\n")
        return subprocess.run(
            [sys.executable, "-m", "corepy", command, "a", "b"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_command_gets_its_arguments_and_decides_the_exit_code(run):
    done = run("two", FUNCTION)
    assert (done.returncode, done.stdout, done.stderr) == (3, "a b\n", "")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError: "),
        ("syntax error here", "cannot be imported: SyntaxError: "),
        ("", "cannot be imported: AttributeError: "),
        ("main = 1", "corepy_two:main is not a function"),
    ],
)
def test_a_command_that_cannot_be_loaded(run, code, problem):
    done = run("two", code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"corepy two: (from corepy-two) {problem}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["cache", "explain"])
def test_a_command_that_another_distribution_provides(run, command):
    """It is not known which of the two the operator means, so neither runs, as for directives."""
    done = run(command, FUNCTION)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"corepy {command}: (from corepy-dns, corepy-two) several installed distributions claim"
        " this command; remove all but one\n"
    )
