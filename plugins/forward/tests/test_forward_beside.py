"""Exchanges of one question that ask in different ways: which client joins which, and their end."""

OPTIONS = (b"\0\0\x29\4\xd0\0\0\0\0\0\4\xfd\xe9\0\0", b"\0\0\x29\4\xd0\0\0\0\0\0\4\xfd\xea\0\0")
"""OPT records with an unknown option each."""


def beside(bench, first, options, *, for_tcp=False, client=b"\x7f\0\0\1"):
    """Begin or join an exchange for the question of `first` with other EDNS options."""
    body = first.body[:9] + b"\1" + first.question + options
    return bench.pool.begin_beside(first, body, for_tcp, client)


def test_who_asks_in_the_same_way_joins(on_bench):
    async def test(bench):
        first = bench.ask("a")
        second = beside(bench, first, OPTIONS[0])
        assert second is not first
        assert beside(bench, first, OPTIONS[0], client=b"\x7f\0\0\2") is second
        third = beside(bench, first, OPTIONS[1])
        assert third not in (first, second)
        assert len(bench.pool.flights) == 3
        await bench.turn()

    on_bench(test)


def test_a_client_over_tcp_joins_only_what_does_not_end_truncated(on_bench):
    async def test(bench):
        first = bench.ask("a")
        over_udp = beside(bench, first, OPTIONS[0])
        over_tcp = beside(bench, first, OPTIONS[0], for_tcp=True)
        assert over_tcp is not over_udp
        assert beside(bench, first, OPTIONS[0], for_tcp=True) is over_tcp
        assert beside(bench, first, OPTIONS[0]) is over_udp
        only_tcp = beside(bench, first, OPTIONS[1], for_tcp=True)
        assert beside(bench, first, OPTIONS[1]) is only_tcp
        await bench.turn()

    on_bench(test)


def test_what_an_exchange_that_has_ended_still_waits_for_is_given_up(on_bench):
    """Or its query, which nobody needs any more, keeps a socket and counts as late."""

    async def test(bench):
        first = bench.ask("a")
        second = beside(bench, first, OPTIONS[0])
        await bench.let_pass(0.5)  # each has asked the other upstream as well
        for upstream in bench.upstreams:
            assert [each.owner in (first, second) for each in watched(upstream)] == [True] * 2
        assert bench.counts() == [2, 2]
        for number in (0, 0):
            bench.sinks[0].reply(number)
        await bench.turn()
        assert first.done
        assert second.done
        assert [watched(upstream) for upstream in bench.upstreams] == [[], []]

    on_bench(test, 2)


def watched(upstream):
    """Return the attempts that an upstream watches over."""
    return [*upstream._watched.young, *upstream._watched.old]
