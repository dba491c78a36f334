"""A command of a plugin that serves: its mistakes cost neither the server nor its stop."""

import signal
import subprocess
import sys

import pytest

from corepy.commands.run_server import GeneratedCorefile
from corepy.corefile import CorefileError
from corepy.server.build.loader import Loader
from corepy.server.options import Options
from corepy.testing.command import Command

SCRIPT = """
import asyncio, sys
from corepy.commands.run_server import GeneratedCorefile, run_server
from corepy.server import process

process.COMPANION_TIMEOUT = 0.01
calls = []

def make():
    calls.append(1)
    if len(calls) > 1:
        raise LookupError("no such parts")
    return GeneratedCorefile("made", ".:0 {\\n    bind 127.0.0.1\\n    whoami\\n}\\n")

async def companion(reload):
    print("reloaded", await reload("a test"), flush=True)
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            print("never", flush=True)

sys.exit(run_server(make, companion))
"""


def test_a_command_that_fails_at_a_reload_and_does_not_end(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Command(process, tmp_path)
    try:
        server.wait_for("reloaded False")
        server.send_signal(signal.SIGUSR1)
        server.wait_for("could not be made: LookupError: no such parts (at ", times=2)
        assert server.ask("example.org.").header.rcode == 0
        assert server.stop() == 0
    finally:
        server.end()
    assert "Traceback" not in server.output
    assert "does not end its work beside it; stopping anyway" in server.output


STARTING = """
import asyncio, os, signal, sys
from corepy.commands.run_server import GeneratedCorefile, run_server
from corepy.server import process

class Server(process.Server):
    async def run(self, generation):
        os.kill(os.getpid(), signal.SIGQUIT)
        await asyncio.sleep(0)
        await super().run(generation)

process.Server = Server

async def companion(reload):
    print("began", flush=True)

text = ".:0 {\\n    bind 127.0.0.1\\n    whoami\\n}\\n"
sys.exit(run_server(lambda: GeneratedCorefile("made", text), companion))
"""


def test_sigquit_during_the_start_leaves_nothing_on_the_host():
    """The command would undo the changes that its plugins make, but does not run yet."""
    done = subprocess.run(
        [sys.executable, "-c", STARTING], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "SIGQUIT: Shutting down servers then terminating" in done.stdout
    assert "began" not in done.stdout


@pytest.mark.parametrize("error", [OSError(2, "gone"), RecursionError(), KeyError("x")])
def test_a_corefile_that_cannot_be_made(error):
    def make() -> GeneratedCorefile:
        raise error

    with pytest.raises(CorefileError, match="the Corefile could not be made: "):
        Loader(Options(make_corefile=make)).load()
