"""The limit of pending queries: counts of clients, and the runners that use it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.plugin import Handler
from corepy.plugin.handler import SERVFAIL
from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.chain_task import task_set_aside
from corepy.server.listen.pending_limit import OVERFLOWS, PendingLimit
from corepy.testing import make_request

CLIENTS = (b"a", b"b", b"c")


@given(
    st.lists(st.tuples(st.sampled_from(CLIENTS), st.booleans()), max_size=80), st.integers(1, 16)
)
def test_no_client_takes_all_places(steps, most):
    limit, held = PendingLimit(most), dict.fromkeys(CLIENTS, 0)
    for client, begins in steps:
        if not begins and held[client]:
            limit.give_back(client)
            held[client] -= 1
        elif begins and limit.permits(client):
            limit.add(client)
            held[client] += 1
        assert limit.used == sum(held.values()) <= most
        assert max(held.values()) <= most * 3 // 4 + 1
    assert limit._shares.held == {client: count for client, count in held.items() if count}


def test_a_client_alone_takes_three_quarters():
    limit = PendingLimit(4096)
    while limit.permits(b"a"):
        limit.add(b"a")
    assert limit.used == 3072
    assert limit.permits(b"b")


class Waits(Handler):
    """Answers when its event is set."""

    name = "waits"

    def __init__(self):
        self.event = asyncio.Event()

    async def serve_dns(self, request):
        await self.event.wait()
        return request.error(0)


@pytest.mark.parametrize("end", ["reply", "cancel", "expire"])
def test_every_end_of_a_query_gives_its_place_back(end):
    async def main():
        handler, limit, delivered = Waits(), PendingLimit(4), []
        done = asyncio.Event()

        def deliver(query, reply):
            delivered.append(reply)
            if len(delivered) == 3:
                done.set()

        runners = [ChainRunner(deliver) for _ in range(2)]
        for runner in runners:
            runner.limit_pending(limit, b"a")
        before = OVERFLOWS.labels("dns://:53").value
        with task_set_aside():
            started = [
                runners[number % 2].start(handler, make_request("example.org.", edns=1232))
                for number in range(4)
            ]
        assert started[:3] == [None] * 3
        assert started[3].rcode == SERVFAIL
        assert b"too many queries of this client" in started[3].options
        assert OVERFLOWS.labels("dns://:53").value == before + 1
        assert limit.used == 3
        for runner in runners:
            if end == "cancel":
                runner.cancel()
            elif end == "expire":
                for query in list(runner.waiting):
                    with task_set_aside():
                        query.expire()
                        query.expire()
        if end == "reply":
            handler.event.set()
        await done.wait()
        assert (limit.used, limit._shares.held) == (0, {})
        assert not any(runner.waiting for runner in runners)

    asyncio.run(main())
