"""Token buckets by client: who is over the limit, at every time, and under a flood."""

import random
import sys

import pytest

from corepy.net.client_prefix import ClientPrefix
from corepy.net.connection_limit import client_number
from corepy.net.time_table import CELLS
from corepy_ratelimit.limiter import DEFAULT_SIZE
from corepy_ratelimit.rates import IDLE, Rates


def allowed(rates, client, times, now):
    """How many of `times` queries at once are within the limit."""
    return times - len(rates.over_limit([client] * times, now))


def test_a_burst_then_the_rate():
    rates = Rates(10, 5, 100)
    assert allowed(rates, 1, 9, 0.0) == 5
    assert allowed(rates, 1, 9, 0.05) == 0
    assert allowed(rates, 1, 9, 0.1001) == 1
    assert allowed(rates, 1, 9, 0.45) == 3
    assert allowed(rates, 1, 9, 100.0) == 5


def test_denied_queries_cost_nothing():
    """A client that never pauses gets answers at its rate."""
    rates = Rates(10, 10, 100)
    assert sum(allowed(rates, 1, 7, turn / 100) for turn in range(1000)) == pytest.approx(
        110, abs=2
    )


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_batch_is_judged_as_single_queries(batch):
    chosen = random.Random(batch)
    rates, one_by_one = Rates(5, 3, 10), Rates(5, 3, 10)
    now = 0.0
    for _ in range(200):
        now += chosen.random() / 10
        clients = [chosen.randrange(12) for _ in range(batch)]
        single = [at for at, it in enumerate(clients) if one_by_one.over_limit([it], now)]
        assert rates.over_limit(clients, now) == single


def test_a_prefix_shares_a_bucket():
    rates = Rates(1, 4, 100, ClientPrefix(24, 48))
    near = [client_number((f"192.0.2.{last}", 0)) for last in range(1, 4)]
    far = client_number(("192.0.3.1", 0))
    assert rates.over_limit([*near, far] * 2, 0.0) == [5, 6]
    assert len(rates) == 2


def test_an_abuser_among_ten_thousand_clients_is_held_to_its_rate_and_others_lose_nothing():
    """Each other client sends at most 10 queries a second of its 20, the abuser 2,000."""
    rates, chosen = Rates(20, 20, DEFAULT_SIZE), random.Random(1)
    others, abuser, passed = range(1, 10_001), 77_777, 0
    for turn in range(50):
        clients = [*chosen.sample(others, 2000), *[abuser] * 200]
        chosen.shuffle(clients)
        over = rates.over_limit(clients, turn / 10)
        assert {clients[index] for index in over} == {abuser}
        passed += 200 - len(over)
    assert passed == pytest.approx(20 + 20 * 4.9, abs=1)


def test_a_spoofed_flood_neither_evicts_clients_nor_takes_memory():
    """The real clients send 5 queries a second of 10, the flood 10,000 from random addresses."""
    rates, chosen = Rates(10, 10, 1000), random.Random(2)
    real, abuser, passed = range(500), 600, 0
    for turn in range(50):
        now = turn / 5
        assert rates.over_limit(real, now) == []
        passed += allowed(rates, abuser, 20, now)
        rates.over_limit([chosen.getrandbits(32) | 1 << 20 for _ in range(2000)], now)
        assert len(rates) <= 1000
    assert rates.missed > 90_000
    assert passed == pytest.approx(10 + 10 * 9.8, abs=1)


def test_a_client_that_arrives_during_a_flood_is_limited_and_served():
    rates, chosen = Rates(10, 10, 10), random.Random(3)
    for turn in range(10):
        rates.over_limit([chosen.getrandbits(32) for _ in range(2000)], turn / 10)
    assert allowed(rates, 5, 30, 1.0) == 10
    assert allowed(rates, 5, 30, 1.5) == 5


def test_clients_that_pause_are_forgotten():
    rates = Rates(10, 10, 1000)
    rates.over_limit(range(500), 0.0)
    for now in (IDLE, 2 * IDLE, 3 * IDLE):
        rates.over_limit([1], now)
    assert len(rates) == 1


@pytest.mark.parametrize("processes", [1, 4])
def test_a_bucket_that_fills_slowly_outlives_a_pause(processes):
    rates = Rates(processes, 600, 1000)
    rates.divide(processes)
    assert allowed(rates, 1, 1000, 0.0) == 600
    for now in (60.0, 120.0):
        assert allowed(rates, 1, 1000, now) == 60


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_processes_divide_the_rate_and_each_has_the_burst(processes):
    rates = Rates(16, 4, 100)
    rates.divide(processes)
    assert allowed(rates, 1, 9, 0.0) == 4
    assert allowed(rates, 1, 9, 1.0) == min(4, 16 // processes)


@pytest.mark.parametrize(("spent", "left"), [(0, 5.0), (1, 4.0), (5, 0.0), (9, 0.0)])
def test_the_tokens_of_a_client(spent, left):
    rates = Rates(10, 5, 100)
    rates.over_limit([1] * spent, 50.0)
    assert rates.tokens(1, 50.0) == pytest.approx(left, abs=0.001)
    assert rates.tokens(1, 60.0) == 5


def test_the_memory_of_a_client_is_what_the_manual_says():
    rates = Rates(10, 10, DEFAULT_SIZE)
    rates.over_limit([10**9 + number for number in range(DEFAULT_SIZE)], 0.5)
    recent = rates._table.recent
    entry = sys.getsizeof(10**9) + sys.getsizeof(0.5)
    assert sys.getsizeof(recent) + entry * DEFAULT_SIZE < 150 * DEFAULT_SIZE
    assert CELLS * 2 * 8 == 1024 * 1024


@pytest.mark.parametrize("seed", range(4))
def test_a_bucket_of_tokens_that_is_counted_gives_the_same_verdicts(seed):
    """Against the definition: tokens that are added with the time, up to the burst."""
    chosen = random.Random(seed)
    rate, burst = chosen.choice([1, 7, 50]), chosen.choice([1, 5, 80])
    rates, tokens, last, now = Rates(rate, burst, 100), float(burst), 0.0, 0.0
    for _ in range(2000):
        now += chosen.choice([0.0, 0.0, 0.01, 0.13, 1.7])
        tokens, last = min(burst, tokens + (now - last) * rate), now
        is_denied = tokens < 0.999
        assert bool(rates.over_limit([5], now)) is is_denied
        tokens -= not is_denied
