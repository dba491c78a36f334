"""A plugin's objects in several processes that talk to each other: `ProcessGroup.connect`."""

import asyncio
import os
import signal
import socket

import pytest

from corepy.net.channel import Refusal
from corepy.plugin import ProcessGroup
from corepy.server.workers import protocol
from corepy.server.workers.leader import Leader
from corepy.testing import install, run_command
from corepy.testing.command import wait_until
from corepy.testing.listening import children

WAIT = 60.0
PEERS = """\
import asyncio
import os
from corepy.plugin import hookimpl, plugin_logger

api_version = 1
LOG = plugin_logger("peers")

class Peers:
    @hookimpl
    async def before_listen(self, context):
        group, self.tasks = context.process_group, []
        self.group, loop = group, asyncio.get_running_loop()
        if group.is_leader:
            group.listen("peers", self.connected)
            return
        for name in ("peers", "others"):
            try:
                self.sock = await group.connect(name)
                await loop.sock_sendall(self.sock, b"%d\\n" % os.getpid())
            except OSError as error:
                LOG.info("%s: %s", name, error)

    def connected(self, sock):
        self.tasks.append(asyncio.get_running_loop().create_task(self.read(sock)))

    async def read(self, sock):
        loop = asyncio.get_running_loop()
        LOG.info("hello %d", int(await loop.sock_recv(sock, 100)))
        LOG.info("end %r", await loop.sock_recv(sock, 100))
        sock.close()

    @hookimpl
    def shutdown(self, context):
        self.group.stop_listening("peers", self.connected)

def setup(controller):
    for _ in controller.occurrences():
        controller.register(Peers())
"""


def test_followers_connect_before_they_answer(tmp_path):
    text = ". {\n bind 127.0.0.1\n multisocket 3\n peers\n whoami\n}\n"
    with run_command(text, env=install(tmp_path, "peers", PEERS)) as command:
        wait_until(lambda: len(children(command.process.pid)) == 2, WAIT)
        first, second = children(command.process.pid)
        for pid in (first, second):
            command.wait_for(f"hello {pid}")
        command.wait_for("others: nothing listens at 'others'", times=2)
        os.kill(first, signal.SIGKILL)
        command.wait_for("end b''")
        command.wait_for("hello ", times=3)
        # The second generation cannot use the name, and its `shutdown` does not free it.
        command.process.send_signal(signal.SIGUSR1)
        command.wait_for("the name 'peers' is in use")
        os.kill(second, signal.SIGKILL)
        command.wait_for("hello ", times=4)
        assert command.stop() == 0


def test_a_process_without_a_leader_connects_to_nothing():
    group = ProcessGroup()
    group.listen("peers", print)
    group.stop_listening("peers", print)
    with pytest.raises(ConnectionRefusedError, match="'peers': this process is the leader"):
        asyncio.run(group.connect("peers"))


async def no_reload(_reason):
    return False


def test_a_name_is_used_once(caplog):
    leader = Leader("text", no_reload)
    leader.listen("peers", print)
    with pytest.raises(ValueError, match="'peers' is in use"):
        leader.listen("peers", repr)
    leader.stop_listening("peers", repr)
    with pytest.raises(ValueError, match="'peers' is in use"):
        leader.listen("peers", repr)
    leader.stop_listening("peers", print)
    leader.stop_listening("peers", print)

    def fail(sock):
        raise LookupError("no more")

    leader.listen("peers", fail)
    for name, reason in (("peers", "'peers' has failed"), ("x", "nothing listens at 'x'")):
        mine, theirs = socket.socketpair()
        with mine, pytest.raises(Refusal, match=reason):
            asyncio.run(leader.answer(protocol.CONNECT, name, [theirs.detach()]))
    assert "the connection of a process to 'peers' has failed" in caplog.text
