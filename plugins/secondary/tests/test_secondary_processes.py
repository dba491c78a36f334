"""Notifications pass from one process of a server to the others (*multisocket*)."""

import asyncio

import pytest

from corepy.plugin import ProcessGroup
from corepy.testing import until
from corepy.testing.process_groups import GroupInProcess
from corepy_secondary.processes import Zones, shared_zones

NOTICE = b"\1z\0", b"\x7f\0\0\1"


class Member:
    def __init__(self):
        self.notices = []

    def notified(self, zone, address):
        self.notices.append((zone, address))


async def processes(listening):
    """A leader and two followers: their zones and members."""
    found = []
    for is_leader in (True, False, False):
        zones, member = Zones(), Member()
        await zones.join(member, GroupInProcess(listening, is_leader=is_leader))
        found.append((zones, member))
    return found


@pytest.mark.parametrize("source", [0, 1, 2])
def test_a_notification_reaches_all_other_processes(source):
    async def run():
        listening: dict[str, object] = {}
        found = await processes(listening)
        found[source][0].tell(*NOTICE)
        others = [member for at, (_, member) in enumerate(found) if at != source]
        await until(lambda: all(it.notices for it in others))
        for zones, member in found:
            zones.leave(member)
        await until(lambda: not any(zones._channels for zones, _ in found))
        return found, listening

    found, listening = asyncio.run(run())
    assert [member.notices for _, member in found] == [
        [] if at == source else [NOTICE] for at in range(3)
    ]
    assert listening == {}


def test_the_last_member_disconnects():
    async def run():
        listening: dict[str, object] = {}
        group = GroupInProcess(listening, is_leader=True)
        zones, first, second = Zones(), Member(), Member()
        await zones.join(first, group)
        await zones.join(second, group)
        zones.leave(first)
        assert list(listening) == ["secondary"]
        zones.leave(second)
        assert listening == {}

    asyncio.run(run())


def test_a_follower_that_cannot_connect_works_alone():
    async def run():
        zones, member = Zones(), Member()
        await zones.join(member, GroupInProcess({}))
        zones.tell(*NOTICE)
        zones.leave(member)

    asyncio.run(run())


def test_one_process_connects_to_nothing():
    async def run():
        zones, member = Zones(), Member()
        await zones.join(member, ProcessGroup())
        zones.tell(*NOTICE)
        zones.leave(member)
        return shared_zones() is shared_zones()

    assert asyncio.run(run())
