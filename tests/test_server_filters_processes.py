"""Several server blocks of one zone in the command: checks, explanations, processes, upgrades."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dnslib
import pytest

from corepy.testing import ask, free_port, install, run_command

HOME, AWAY = "127.0.0.1", "127.0.0.2"


def say(word):
    return f'template IN TXT {{\n answer "{{{{ .Name }}}} 60 IN TXT {word}"\n}}'


def corefile(port, home="outside", *lines):
    bind = (f".:{port} {{", "bind 127.0.0.1", *lines)
    inside = (*bind, "split in from 127.0.0.2", "cache", say("inside"), "}")
    return "\n".join((*inside, *bind, "cache", say(home), "}", ""))


@pytest.fixture
def env(tmp_path):
    """The environment in which the plugin *split* is installed as a distribution of its own."""
    source = Path(__file__).with_name("split_plugin.py").read_text()
    (tmp_path / "run").mkdir()
    found = install(tmp_path, "split", source)
    return {**os.environ, **found, "RUNTIME_DIRECTORY": str(tmp_path / "run")}


def run(env, folder, *arguments):
    """Run a command to its end; return its exit code and its output."""
    done = subprocess.run(
        [sys.executable, "-m", "corepy", *arguments],
        env=env,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def answers(port):
    """Return what the two clients get, over UDP and over TCP."""
    found = set()
    for source in (HOME, AWAY):
        for tcp in (False, True):
            reply = ask(("127.0.0.1", port), "a.example", "TXT", source=source, tcp=tcp)
            text = str(reply.rr[0].rdata) if reply.rr else dnslib.RCODE[reply.header.rcode]
            found.add((source, text.strip('"')))
    return found


EXPECTED = {(HOME, "outside"), (AWAY, "inside")}


def test_the_check_and_the_explanation(env, tmp_path):
    path = tmp_path / "Corefile"
    path.write_text(corefile(1053))
    assert run(env, tmp_path, "-check") == (0, "Corefile is valid\n")
    code, shown = run(env, tmp_path, "explain", "a.example", "TXT", AWAY)
    assert code == 0
    assert ". (Corefile:1, view in): the longest zone that contains the name;" in shown
    lines = path.read_text().splitlines()
    half = lines.index("}", lines.index("}") + 1) + 1
    path.write_text("\n".join([*lines[half:], *lines[:half], ""]))
    code, shown = run(env, tmp_path, "-check")
    assert code == 0
    assert "warning: no query reaches this block for .: the one at Corefile:1 answers all" in shown


def test_a_worker_is_upgraded_and_reloaded(env):
    port = free_port()
    with run_command(corefile(port), "-supervise", env=env) as command:
        command.wait_for(" serves")
        assert answers(port) == EXPECTED
        command.send_signal(signal.SIGUSR2)
        command.wait_for(", stopping ")
        assert answers(port) == EXPECTED
        command.conf.write_text(corefile(port, "changed"))
        command.send_signal(signal.SIGUSR1)
        command.wait_for("Reloading complete")
        assert answers(port) == {(HOME, "changed"), (AWAY, "inside")}
    banner = f".:{port} on 127.0.0.1"
    assert command.lines.count(banner) <= 2  # one line for both blocks, for each worker


def test_several_processes(env):
    port = free_port()
    with run_command(corefile(port, "outside", "multisocket 2"), env=env):
        for _ in range(8):  # the kernel selects a process for each socket of a client
            assert answers(port) == EXPECTED
