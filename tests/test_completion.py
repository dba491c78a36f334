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
source <(corepy -completion bash)
compopt() { :; }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_corepy
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words, folder=None):
    """What bash offers for the last of these words."""
    command = ["bash", "-c", BASH, "bash", "corepy", *words]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=folder, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.split()


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
def test_bash(words, expected):
    assert offered(*words) == expected


def test_all_that_bash_offers_at_the_start():
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

    def __init__(self):
        leader, follower = pty.openpty()
        self._leader = leader
        self._seen = ""
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        os.close(follower)
        self.type("PS1='ready%# '; autoload -Uz compinit; compinit -D -u; unsetopt beep\n")
        # Control-X shows the line as it stands, instead of running it.
        self.type("show() { print -r -- \"<$BUFFER>\"; BUFFER= }; zle -N show; bindkey '^X' show\n")
        self.type("source <(corepy -completion zsh); echo loa''ded\n")
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


@pytest.fixture
def zsh():
    shell = Zsh()
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
