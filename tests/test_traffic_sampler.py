"""A sampler keeps its budget, follows the rate, and its weights add up to the number of queries."""

import random

import pytest

from corepy.server.traffic.sampler import BUDGET, BURST_SHARE, WATCHED_BUDGET, Sampler


class Queries:
    """Queries at times that the test chooses, passed to a sampler as a listener does."""

    def __init__(self, seed=1):
        self.sampler = Sampler(random.Random(seed).randbytes)
        self.now = 100.0
        self.count = 0
        self.weights = []

    def send(self, count, rate):
        """Send queries at a rate per second; return the weights of the selected ones."""
        before = len(self.weights)
        sampler = self.sampler
        for _ in range(count):
            self.now += 1 / rate
            self.count += 1
            sampler.left -= 1
            if sampler.left <= 0:
                self.weights.append(sampler.select(self.now))
        return self.weights[before:]

    @property
    def pending(self):
        """The queries since the selected one."""
        return self.sampler.weight - self.sampler.left


@pytest.mark.parametrize("rate", [1, 20, BUDGET])
def test_every_query_is_selected_while_there_are_few(rate):
    queries = Queries()
    assert queries.send(3 * rate, rate) == [1] * 3 * rate


def test_the_budget_holds_at_a_high_rate():
    queries = Queries()
    rate = 40 * BUDGET
    first = len(queries.send(rate, rate))
    assert BUDGET < first < 2 * BUDGET
    for _ in range(3):
        assert 0.7 * BUDGET < len(queries.send(rate, rate)) < 1.3 * BUDGET
    assert sum(queries.weights) + queries.pending == queries.count
    assert len(queries.weights) == queries.sampler.selected


def test_a_burst_after_a_pause_costs_little():
    queries = Queries()
    queries.send(10, 1)
    burst = 2000 * BUDGET
    doublings = 12
    assert len(queries.send(burst // 10, 10 * burst)) < BUDGET + doublings * BUDGET / BURST_SHARE
    assert sum(queries.weights) + queries.pending == queries.count


def test_estimates_are_unbiased():
    """Of queries that alternate between ten names, each gets a tenth of the weight."""
    queries, estimates = Queries(), [0] * 10
    rate = 10 * BUDGET
    for number in range(40 * rate):
        for weight in queries.send(1, rate):
            estimates[number % 10] += weight
    share = 40 * rate / 10
    assert all(0.8 * share < estimate < 1.2 * share for estimate in estimates)


def test_after_a_flood_the_sampler_looks_at_all_queries_again():
    queries = Queries()
    rate = 1000 * BUDGET
    queries.send(rate, rate)
    assert queries.sampler.step > 100
    queries.now += 10
    queries.sampler.look_sooner(queries.now)
    assert len(queries.send(2 * queries.sampler.step, 1)) >= 1
    queries.now += 10
    queries.sampler.look_sooner(queries.now)
    assert queries.send(20, 1) == [1] * 20
    assert sum(queries.weights) + queries.pending == queries.count


def test_the_budget_can_be_raised_at_once():
    queries = Queries()
    rate = 100 * BUDGET
    queries.send(rate, rate)
    queries.sampler.set_budget(WATCHED_BUDGET)
    assert len(queries.send(100, 1000)) == 100
    queries.sampler.set_budget(BUDGET)
    assert sum(queries.weights) + queries.pending == queries.count
