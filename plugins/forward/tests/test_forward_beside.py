"""Exchanges of one question that ask in different ways: which client joins which, and their end."""

from corepy_forward.metrics import SHARED

OPTIONS = (b"\0\0\x29\4\xd0\0\0\0\0\0\4\xfd\xe9\0\0", b"\0\0\x29\4\xd0\0\0\0\0\0\4\xfd\xea\0\0")
"""OPT records with an unknown option each."""


def test_who_asks_in_the_same_way_joins(on_bench):
    async def test(bench):
        first = bench.ask("a")
        second = bench.beside(first, OPTIONS[0])
        assert second is not first
        assert bench.beside(first, OPTIONS[0], client=b"\x7f\0\0\2") is second
        third = bench.beside(first, OPTIONS[1])
        assert third not in (first, second)
        assert len(bench.pool.flights) == 3
        await bench.turn()

    on_bench(test)


def test_a_client_over_tcp_joins_only_what_does_not_end_truncated(on_bench):
    async def test(bench):
        first = bench.ask("a")
        over_udp = bench.beside(first, OPTIONS[0])
        over_tcp = bench.beside(first, OPTIONS[0], for_tcp=True)
        assert over_tcp is not over_udp
        assert bench.beside(first, OPTIONS[0], for_tcp=True) is over_tcp
        assert bench.beside(first, OPTIONS[0]) is over_udp
        only_tcp = bench.beside(first, OPTIONS[1], for_tcp=True)
        assert bench.beside(first, OPTIONS[1]) is only_tcp
        await bench.turn()

    on_bench(test)


def test_what_an_exchange_that_has_ended_still_waits_for_is_given_up(on_bench):
    """Or its query, which nobody needs any more, keeps a socket and counts as late."""

    async def test(bench):
        first = bench.ask("a")
        second = bench.beside(first, OPTIONS[0])
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


def test_queries_for_one_question_are_counted(on_bench):
    """Each that is begun allows second queries; one that joins is answered with another's reply."""

    async def test(bench):
        shared = SHARED.value
        first = bench.ask("a")
        bench.beside(first, OPTIONS[0])
        assert (bench.pool._begun, SHARED.value) == (2, shared)
        bench.beside(first, OPTIONS[0])
        assert (bench.pool._begun, SHARED.value) == (2, shared + 1)
        await bench.turn()

    on_bench(test)


def test_what_is_too_much_for_one_upstream_waits_for_its_turn(on_bench):
    """Queries with options may use two of four places; the third begins as soon as one ends."""

    async def test(bench):
        first = bench.ask("a", with_edns=True)
        options = [OPTIONS[0][:-1] + bytes((number,)) for number in range(4)]
        others = [bench.beside(first, each) for each in options]
        (upstream,) = bench.upstreams
        crowd = bench.pool.crowds[first.question]
        assert [each._tried for each in others] == [[upstream], [upstream], [], []]
        assert crowd.queries_at(upstream) == 3
        assert (crowd.queries_at(upstream, 1), crowd.queries_at(upstream, 2)) == (2, 2)
        await bench.turn()
        bench.sinks[0].queries()
        bench.sinks[0].reply(1)
        await bench.turn()
        assert [each.done for each in others] == [True, False, False, False]
        assert [each._tried for each in others[1:]] == [[upstream], [upstream], []]
        for _ in range(4):
            bench.sinks[0].reply(0)
            await bench.turn()
        assert all(each.reply is not None for each in (first, *others))
        assert bench.pool.crowds == {}
        assert bench.pool.flights == {}

    on_bench(test)


def test_what_waits_while_all_is_down_is_not_begun_either(on_bench):
    async def test(bench):
        bench.upstreams[0].fails = 3
        bench.pool._rate()
        first = bench.ask("a", with_edns=True)
        options = [OPTIONS[0][:-1] + bytes((number,)) for number in range(3)]
        others = [bench.beside(first, each) for each in options]
        assert [bool(each._tried) for each in others] == [True, True, False]
        assert not any(each.done for each in others)
        await bench.turn()

    on_bench(test, max_fails=2)


def test_what_has_waited_too_long_is_not_begun(on_bench):
    """Less than half a second is left of its time when a place is free."""

    async def test(bench):
        first = bench.ask("a", with_edns=True)
        options = [OPTIONS[0][:-1] + bytes((number,)) for number in range(4)]
        early = [bench.beside(first, each) for each in options[:3]]
        bench.loop.now += 3.5
        late = bench.beside(first, options[3])
        assert [each._tried for each in (early[2], late)] == [[], []]
        await bench.turn()
        bench.sinks[0].queries()
        bench.sinks[0].reply(1)
        await bench.turn()
        assert early[0].done
        assert early[2]._tried == []
        assert late._tried == [bench.upstreams[0]]

    on_bench(test, read_timeout=4.0)
