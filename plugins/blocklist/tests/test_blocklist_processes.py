"""A server of several processes: the leader reads the lists, and all use its table."""

import asyncio
import gc
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from corepy.testing import helper_module, run_command, until
from corepy.testing.client import query
from corepy.testing.command import wait_until
from corepy.testing.listening import children, is_whole
from corepy.testing.process_groups import LinkedProcess
from corepy_blocklist.files import Pattern
from corepy_blocklist.lists import Lists
from corepy_blocklist.rule import NAME, SourceKind
from corepy_blocklist.sharing import Subscription

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


def test_a_follower_that_has_ended_keeps_no_descriptor_until_the_next_table(tmp_path):
    """The followers connect anew at each reload."""
    (path := tmp_path / "block").write_text("ads.example\n")

    async def run():
        lists, leader = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0), LinkedProcess()
        await lists.before_listen(context_of(leader))
        (connected,) = leader.listening.values()
        (await LinkedProcess(leader).connect(lists._name)).close()
        assert connected.__self__._followers
        await until(lambda: not connected.__self__._followers)
        lists.shutdown(context_of(leader))

    asyncio.run(run())


def test_a_table_that_arrives_at_the_end_of_a_follower_is_not_an_error():
    async def run():
        loop, reported = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            subscription = Subscription(ours)
            receiving = asyncio.create_task(subscription.receive())
            await asyncio.sleep(0)
            theirs.send(b"T")
            await asyncio.sleep(0)  # the loop has seen it, and calls the reader after this task
            receiving.cancel()
            await asyncio.wait([receiving])
            subscription.close()
        return receiving.cancelled(), reported

    assert asyncio.run(run()) == (True, [])


def test_a_descriptor_is_not_watched_any_more_when_it_is_closed():
    """Another socket may get its number before the task that receives tables has ended."""

    async def run():
        loop = asyncio.get_running_loop()
        ended: list[object] = []
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            subscription = Subscription(ours)
            subscription.receive_with(ended.append, lambda: ended.append(None))
            await asyncio.sleep(0)
            number = ours.fileno()
            subscription.close()
            is_watched = loop.remove_reader(number)
            task: Any = subscription._task
            await asyncio.wait([task])
        return is_watched, task.cancelled(), ended

    assert asyncio.run(run()) == (False, True, [])


def test_a_start_that_is_cancelled_closes_the_connection_to_the_leader(tmp_path):
    (path := tmp_path / "block").write_text("ads.example\n")

    async def run():
        lists, leader = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0), LinkedProcess()
        connected: list[socket.socket] = []
        leader.listen(lists._name, connected.append)
        group = context_of(LinkedProcess(leader))
        starting = asyncio.create_task(lists.before_listen(group))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        with connected[0] as sock:
            sock.setblocking(False)
            return starting.cancelled(), sock.recv(1)

    assert asyncio.run(run()) == (True, b"")


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
