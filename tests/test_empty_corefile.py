"""A Corefile without a server block is CoreDNS's default, in start, check, reload and explain alike."""

import json
import signal
import subprocess
import sys

import pytest

from corepy.testing import ask, free_port, helper_module, run_command

COREPY = [sys.executable, "-m", "corepy"]
WHOAMI = ".:0 {\n    bind 127.0.0.1\n    whoami\n}\n"
EMPTY = {
    "nothing": "",
    "comments": "# to be done\n\n",
    "snippets": "(common) {\n    errors\n}\n",
    "no file matches": "import *.none\n",
}
ANSWER = 'answer "{{ .Name }} 60 IN A 192.0.2.1"'
WARNING = "has no server block, so the default of CoreDNS is used: whoami and log"

run_here = helper_module(__file__, "command_here").run_here


def corepy(*arguments, conf, folder):
    (folder / "Corefile").write_text(conf)
    return subprocess.run(
        [*COREPY, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("kind", EMPTY)
def test_check(tmp_path, kind):
    (tmp_path / "Corefile").write_text(EMPTY[kind])
    done = run_here("-check", cwd=tmp_path)
    assert done.returncode == 0
    assert f"warning: Corefile {WARNING}, for all names at port 53" in done.stdout
    done = run_here("-check", "-json", "-p", "5300", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result["valid"]
    assert "port 5300" in result["diagnostics"][-1]["message"]


def test_a_folder_without_a_corefile(tmp_path):
    """A check in the wrong folder does not pass silently."""
    warning = f"Corefile does not exist, {WARNING.partition(', ')[2]}, for all names at port"
    done = run_here("-check", cwd=tmp_path)
    assert (done.returncode, f"warning: {warning} 53" in done.stdout) == (0, True)
    port = free_port()
    with run_command(None, "-p", str(port), cwd=tmp_path) as command:
        command.wait_for(f"{warning} {port}")
        assert len(ask(("127.0.0.1", port), "example.org.").ar) == 2


@pytest.mark.parametrize("flags", [(), ("-supervise",)], ids=["server", "supervised"])
def test_a_corefile_that_is_removed_while_the_server_runs(tmp_path, flags):
    """The default does not replace a configuration that works: the node would have no DNS."""
    path = tmp_path / "Corefile"
    path.write_text(f".:{free_port()} {{\n bind 127.0.0.1\n template IN A {{\n {ANSWER}\n }}\n}}\n")
    with run_command(None, *flags, cwd=tmp_path) as command:
        command.wait_for(" serves" if flags else "packet cache")
        path.unlink()
        command.send_signal(signal.SIGUSR1)
        command.wait_for("cannot read the Corefile Corefile: No such file or directory")
        if flags:
            command.send_signal(signal.SIGUSR2)
            command.wait_for("the old one stays in use")
        assert len(command.ask("example.org.").rr) == 1
        assert "default of CoreDNS" not in command.output


@pytest.mark.parametrize("kind", EMPTY)
def test_start(tmp_path, kind):
    port = free_port()
    with run_command(EMPTY[kind], "-p", str(port)) as command:
        reply = command.ask("example.org.")
        assert (reply.header.rcode, len(reply.ar)) == (0, 2)
        command.wait_for(WARNING)
        command.wait_for('"A IN example.org. udp')


def test_reload():
    port = free_port()
    with run_command(WHOAMI, "-p", str(port)) as command:
        command.conf.write_text("# nothing\n")
        command.send_signal(signal.SIGUSR1)
        command.wait_for(WARNING)
        command.wait_for("Reloading complete")
        assert ask(("127.0.0.1", port), "example.org.").header.rcode == 0
        command.conf.write_text("{\n    whoami\n}\n")
        command.send_signal(signal.SIGUSR1)
        command.wait_for("1:1: this server block has no zone")
        assert ask(("127.0.0.1", port), "example.org.").header.rcode == 0


def test_explain(tmp_path):
    done = corepy("explain", "example.org", conf="", folder=tmp_path)
    assert done.returncode == 0
    assert WARNING in done.stderr
    assert "whoami" in done.stdout


NOWHERE = ".:0 {\n    bind lo {\n        except lo\n    }\n    whoami\n}\n"


def test_a_block_without_an_address_is_no_server_either(tmp_path):
    done = corepy(conf=NOWHERE, folder=tmp_path)
    assert done.returncode == 1
    assert "corepy: no server block has an address to listen on" in done.stderr
    done = corepy("explain", "example.org", conf=NOWHERE, folder=tmp_path)
    assert "no server block has an address to listen on" in done.stderr
    with run_command(WHOAMI) as command:
        command.conf.write_text(NOWHERE)
        command.send_signal(signal.SIGUSR1)
        command.wait_for("the old configuration stays in use: no server block has an address")
        assert command.ask("example.org.").header.rcode == 0
