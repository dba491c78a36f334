"""`corepy top` in a terminal, of servers that answer, end and come back."""

import os
import re
import signal
import sys

import pytest

from corepy.testing import run_command
from corepy.testing.pseudo_terminal import pseudo_terminal

COREFILE = """\
. {
    bind 127.0.0.1
    cache
    template IN A example.org {
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
    template IN ANY example.net {
        rcode NXDOMAIN
    }
}
"""
COLOR = re.compile(rb"\x1b\[(?:3|4|9|10)[0-9]m")
COMMAND = (sys.executable, "-m", "corepy", "top")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def server(folder):
    with run_command(COREFILE, env={"RUNTIME_DIRECTORY": str(folder)}) as server:
        yield server


def top(folder, server, *flags, size=(80, 24), **env):
    """Run `corepy top` for this server: those of other tests run on the same host."""
    words = (*COMMAND, "-interval", "0.2", "-pid", str(server.process.pid), *flags)
    return pseudo_terminal(*words, env={"RUNTIME_DIRECTORY": str(folder), **env}, size=size)


def test_a_session(folder, server):
    """Views, keys, sizes, and the end by a key."""
    for name in ("a.example.org", "b.example.org", "a\\027[2Jb.example.net"):
        server.ask(name)
    with top(folder, server) as terminal:
        terminal.wait_for(f"pid {server.process.pid}")
        assert terminal.screen.is_alternate
        assert terminal.screen.cursor.hidden
        assert len(terminal.lines) == 24
        assert COLOR.search(terminal.raw)
        terminal.press("3")
        terminal.wait_for("a.example.org.")
        terminal.press("5")
        terminal.wait_for("a\\027[2jb.example.net.")
        terminal.press("\x1b[D")  # left
        terminal.wait_for("Suffixes")
        terminal.press("2")
        terminal.wait_for("127.0.0.1")
        terminal.resize(120, 40)
        terminal.wait_for("9 listeners")
        assert terminal.lines[39].startswith("1 overview 2 clients")
        terminal.press("9")
        terminal.wait_for(f"dns://127.0.0.1:{server.address[1]}")
        terminal.press("h")
        terminal.wait_for("this help")
        terminal.press("qq")
        assert terminal.wait_for_end() == 0
        assert terminal.is_restored


def test_new_figures_appear_also_after_a_reload(folder, server):
    with top(folder, server) as terminal:
        terminal.press("3")
        terminal.wait_for("NAME")
        server.send_signal(signal.SIGUSR1)
        server.wait_for("Reloading complete")
        server.ask("later.example.org")
        terminal.wait_for("later.example.org.")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(folder, server, number):
    with top(folder, server) as terminal:
        terminal.wait_for("pid ")
        os.kill(terminal.pid, number)
        assert terminal.wait_for_end() == 0
        assert terminal.is_restored


def test_a_terminal_that_takes_no_output_does_not_keep_the_program(folder, server):
    with top(folder, server, size=(200, 60)) as terminal:
        terminal.wait_for("pid ")
        terminal.press("\x13")  # ^S stops the output
        terminal.press("234567890")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait_for_end() == 0
        assert terminal.is_restored


SHELL = """\
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
top = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ, setpgroup=0)
os.tcsetpgrp(0, top)
_, status = os.waitpid(top, os.WUNTRACED)
os.tcsetpgrp(0, os.getpgrp())
input(f"{signal.Signals(os.WSTOPSIG(status)).name}; Enter continues")
os.tcsetpgrp(0, top)
os.kill(top, signal.SIGCONT)
_, status = os.waitpid(top, 0)
os.tcsetpgrp(0, os.getpgrp())
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_the_key_that_suspends_gives_the_terminal_back_meanwhile(folder, server):
    words = (*COMMAND[1:], "-interval", "0.2", "-pid", str(server.process.pid))
    env = {"RUNTIME_DIRECTORY": str(folder)}
    with pseudo_terminal(sys.executable, "-c", SHELL, *words, env=env) as terminal:
        terminal.wait_for("pid ")
        terminal.press("\x1a")
        terminal.wait_until(lambda: b"SIGTSTP; Enter continues" in terminal.raw, "the shell")
        assert terminal.is_restored
        terminal.press("\n")
        terminal.wait_until(lambda: terminal.screen.is_alternate, "the alternate screen")
        terminal.press("\x03")
        assert terminal.wait_for_end() == 0
        assert terminal.is_restored


def test_an_unexpected_error_restores_the_terminal(folder, server):
    code = (
        "import sys\nfrom corepy.commands.top import top_session\n"
        "def broken(*_):\n    raise ZeroDivisionError('planted')\n"
        "top_session.TopScreen._menu = broken\n"
        "from corepy.cli import main\nsys.exit(main(['top']))\n"
    )
    with pseudo_terminal(
        sys.executable, "-c", code, env={"RUNTIME_DIRECTORY": str(folder)}
    ) as terminal:
        assert terminal.wait_for_end() == 1
        assert terminal.is_restored
        assert "planted" in terminal.text


def test_a_server_that_goes_away_and_comes_back_is_shown_again(folder):
    env = {"RUNTIME_DIRECTORY": str(folder)}
    with run_command(COREFILE, env=env) as first:
        conf = first.conf
        with top(folder, first) as terminal:
            terminal.wait_for(f"pid {first.process.pid}")
            first.stop()
            terminal.wait_for("the figures are old")
            terminal.press("2")  # keys still act
            terminal.wait_for("Clients")
            conf.write_text(COREFILE)
            with run_command(None, "-conf", str(conf), env=env) as second:
                terminal.wait_for(f"pid {second.process.pid}")
                terminal.wait_for("trying again", gone=True)
                conf.unlink()
            terminal.press("q")
            assert terminal.wait_for_end() == 0


def test_the_screen_needs_neither_colors_nor_unicode(folder, server):
    with top(folder, server, "-ascii", NO_COLOR="1") as terminal:
        terminal.wait_for("127.0.0.1")
        assert not COLOR.search(terminal.raw)
        assert terminal.raw.isascii()
