"""Completion in real shells, and that no flag is missing."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corepy import cli
from corepy.loading import plugin_commands

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb"}
PATIENCE = 60.0
FLAGS = {name for action in cli._parser()._actions for name in action.option_strings}
BASH = """\
source ./script
compopt() { :; }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_corepy
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A folder for each shell, with what it completes by."""
    folders = {shell: tmp_path_factory.mktemp(shell) for shell in ("bash", "zsh")}
    for shell, folder in folders.items():
        command = ["corepy", "-completion", shell]
        with (folder / "script").open("w") as script:
            subprocess.run(command, env=ENVIRONMENT, stdout=script, check=True)
    return folders


@pytest.fixture
def offered(scripts):
    """Return a function that returns what bash offers for the last of some words."""

    def offer(*words):
        command = ["bash", "-c", BASH, "bash", "corepy", *words]
        options = {"env": ENVIRONMENT, "cwd": scripts["bash"], "check": False}
        done = subprocess.run(command, capture_output=True, text=True, **options)
        assert done.stderr == ""
        return done.stdout.split()

    return offer


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-lo"], ["-log-format"]),
        (["--plu"], ["--plugins", "--plugin-order"]),
        (["-log-format", ""], ["text", "json"]),
        (["-log-format", "=", "j"], ["json"]),
        (["-quiet", "-superv"], ["-supervise"]),
        (["-completion", "z"], ["zsh"]),
        (["-conf", "x"], []),
        (["nodec"], ["nodecache"]),
        (["nodecache", "t"], ["teardown"]),
        (["nodecache", "teardown", "-f"], ["-force"]),
        (["cache", "pu"], ["purge"]),
        (["cache", "purge", "-z"], ["-zone"]),
    ],
)
def test_bash(words, expected, offered):
    assert offered(*words) == expected


def test_all_that_bash_offers_at_the_start(offered):
    short = {name for name in FLAGS if not name.startswith("--")}
    assert set(offered("")) == {*short, *plugin_commands.commands()}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_every_flag_is_in_the_script(shell, capsys):
    assert cli.main(["-completion", shell]) == 0
    script = capsys.readouterr().out
    single = {name for name in FLAGS if not name.startswith("--")}
    assert [name for name in single if name not in script] == []
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


class Zsh:
    """An interactive shell at a terminal."""

    def __init__(self, folder):
        """Start it in `folder`, and load the completion from the file `script`."""
        leader, follower = pty.openpty()
        self._leader = leader
        self._seen = ""
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=ENVIRONMENT,
            cwd=folder,
            start_new_session=True,
        )
        os.close(follower)
        self.type("PS1='ready%# '; autoload -Uz compinit; compinit -D -u; unsetopt beep\n")
        # Control-X shows the line as it stands, instead of running it.
        self.type("show() { print -r -- \"<$BUFFER>\"; BUFFER= }; zle -N show; bindkey '^X' show\n")
        self.type("source ./script; echo loa''ded\n")
        self.wait_for("loaded")

    def type(self, text):
        os.write(self._leader, text.encode())

    def wait_for(self, text):
        deadline = time.monotonic() + PATIENCE
        while text not in self._seen:
            left = deadline - time.monotonic()
            assert left > 0, self._seen
            if select.select([self._leader], [], [], left)[0]:
                self._seen += os.read(self._leader, 4096).decode("utf-8", "replace")
        self._seen = self._seen.partition(text)[2]

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._leader)


@pytest.fixture(scope="module")
def zsh(scripts):
    """One shell for all lines: the key that shows a line also empties it."""
    shell = Zsh(scripts["zsh"])
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("corepy -log-f\t", "corepy -log-format "),
        ("corepy -log-format js\t", "corepy -log-format json "),
        ("corepy nodec\t", "corepy nodecache "),
        ("corepy nodecache tear\t", "corepy nodecache teardown "),
        ("corepy nodecache teardown -fo\t", "corepy nodecache teardown -force "),
    ],
)
def test_zsh(zsh, typed, completed):
    zsh.type(f"{typed}\x18")
    zsh.wait_for(f"<{completed}>")
