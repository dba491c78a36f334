"""A server of several processes: the leader reads the lists, and all use its table."""

import asyncio
import gc
import os
import socket
from pathlib import Path

import pytest

from corepy.testing import helper_module, run_command, until
from corepy.testing.client import query
from corepy.testing.command import wait_until
from corepy.testing.listening import children, is_whole
from corepy.testing.process_groups import LinkedProcess
from corepy_blocklist.files import Pattern
from corepy_blocklist.lists import Lists
from corepy_blocklist.rule import NAME, SourceKind

context_of = helper_module(__file__, "tables").context_of
CLIENTS = 12
"""Sockets of clients; the kernel gives those of one client always to the same process."""

TEXT = """. {{
    bind 127.0.0.1
    multisocket 2
    blocklist {{
        list {path}
        reload 50ms
    }}
    whoami
}}
"""


def rcodes(sockets, name):
    """The rcodes that all processes give for a name."""
    for sock in sockets:
        sock.send(query(name))
    return {sock.recv(4096)[3] & 15 for sock in sockets}


@pytest.fixture
def sockets():
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(CLIENTS)]
    yield made
    for sock in made:
        sock.close()


def test_a_follower_uses_the_tables_of_the_leader(tmp_path, sockets):
    (path := tmp_path / "block").write_text("ads.example\n")
    with run_command(TEXT.format(path=path)) as server:
        wait_until(lambda: is_whole(server.process.pid, server.address[1], 2))
        for sock in sockets:
            sock.settimeout(60)
            sock.connect(server.address)
        assert rcodes(sockets, "ads.example") == {3}
        assert rcodes(sockets, "other.example") == {0}
        (new := tmp_path / "new").write_text("other.example\n")
        new.rename(path)
        wait_until(lambda: rcodes(sockets, "other.example") == {3})
        wait_until(lambda: rcodes(sockets, "ads.example") == {0})
        (follower,) = children(server.process.pid)
        assert "corepy-blocklist" in Path(f"/proc/{follower}/maps").read_text()
        assert server.output.count("plugin/blocklist: loaded 1 rules") == 2


def open_tables():
    """The number of descriptors of tables in this process."""
    gc.collect()
    folder = Path("/proc/self/fd")
    return sum("corepy-blocklist" in os.path.realpath(path) for path in folder.iterdir())


@pytest.mark.parametrize("message", [b"", b"X", b"T"])
def test_a_leader_without_a_table_costs_a_load(tmp_path, message):
    (path := tmp_path / "block").write_text("ads.example\n")

    async def run():
        lists, leader = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0), LinkedProcess()

        def connected(sock):
            sock.send(message)
            sock.close()

        leader.listen(lists._name, connected)
        await lists.before_listen(context_of(LinkedProcess(leader)))
        lists.shutdown(context_of(leader))
        return lists.table.count

    assert asyncio.run(run()) == 1


def test_a_follower_that_has_ended_is_forgotten(tmp_path):
    (path := tmp_path / "block").write_text("ads.example\n")

    async def run():
        lists, leader = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0), LinkedProcess()
        await lists.before_listen(context_of(leader))
        sock = await LinkedProcess(leader).connect(lists._name)
        sock.close()
        path.write_text("ads.example\nmore.example\n")
        assert await lists.look()
        (connected,) = leader.listening.values()
        assert connected.__self__._followers == set()
        lists.shutdown(context_of(leader))

    asyncio.run(run())


def test_generations_share_a_publisher_and_a_follower_outlives_it(tmp_path):
    (path := tmp_path / "block").write_text("ads.example\n")

    async def run():
        leader = LinkedProcess()
        follower = LinkedProcess(leader)
        made = [Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0.05) for _ in range(4)]
        first, second, third, alone = made
        for lists in (first, second):
            await lists.before_listen(context_of(leader))
        await third.before_listen(context_of(follower))
        assert third.table.count == 1
        assert third.table is not first.table
        third.serving(context_of(follower))
        first.shutdown(context_of(leader))
        assert len(leader.listening) == 1
        path.write_text("ads.example\nmore.example\n")
        assert await second.look()
        await until(lambda: third.table.count == 2)
        second.shutdown(context_of(leader))
        assert leader.listening == {}
        path.write_text("# nothing\n")
        await until(lambda: third.table.count == 0)  # it watches the files itself
        await alone.before_listen(context_of(follower))
        assert alone.table.count == 0
        for lists in (third, alone):
            lists.shutdown(context_of(follower))

    before = open_tables()
    asyncio.run(run())
    wait_until(lambda: open_tables() <= before)  # the threads of the loads may not have ended yet
