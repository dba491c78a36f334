"""Places of the queries that wait: the same clients are refused whether all are counted or few."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Request
from corepy.net.connection_limit import Shares, client_of
from corepy.testing import make_request
from corepy_forward.limits import LIMIT, Limit, Places

CLIENTS = [(f"192.0.2.{number}", 1053) for number in range(3)] + [None]


def query(peer):
    request = make_request("example.org")
    request.client = peer
    return request


@pytest.fixture
def limit(monkeypatch):
    """Return what sets how many may wait in all; nobody does."""

    def set_most(most):
        monkeypatch.setattr(LIMIT, "most", most)
        monkeypatch.setattr(LIMIT, "plenty", most * 3 // 4)

    before = LIMIT.waiting
    monkeypatch.setattr(LIMIT, "waiting", 0)
    yield set_most
    assert LIMIT.waiting == 0
    monkeypatch.setattr(LIMIT, "waiting", before)


STEPS = st.lists(st.tuples(st.sampled_from(CLIENTS), st.integers(0, 3)), max_size=120)


@settings(deadline=None)
@given(steps=STEPS, most=st.integers(1, 12), of_others=st.integers(0, 20))
def test_who_is_refused_does_not_depend_on_when_the_count_began(steps, most, of_others):
    before, LIMIT.waiting = LIMIT.waiting, LIMIT.most - of_others
    try:
        places, shares = Places(most), Shares()
        waiting = list[Request]()
        for client, leaves in steps:
            free = min(most - len(waiting), LIMIT.most - LIMIT.waiting)
            request, may = query(client), shares.take(client_of(client), free)
            assert places.take(request) is may
            if may:
                waiting.append(request)
            for _ in range(min(leaves if leaves < 3 else len(waiting), len(waiting))):
                gone = waiting.pop(0)
                places.leave(gone)
                shares.give_back(client_of(gone.client))
            assert places.requests == set(waiting)
            assert LIMIT.waiting == LIMIT.most - of_others + len(waiting)
    finally:
        LIMIT.waiting = before


def test_clients_are_counted_only_while_places_are_scarce(limit):
    limit(1000)
    places = Places(8)
    requests = [query(CLIENTS[0]) for _ in range(8)]
    taken = [request for request in requests if places.take(request)]
    assert len(taken) == 6  # three quarters
    assert places._shares.held == {client_of(CLIENTS[0]): 6}
    for request in taken:
        places.leave(request)
    assert (places._shares, places.requests) == (None, set())
    assert places.take(requests[0])
    places.leave(requests[0])


@pytest.mark.parametrize(("most", "plenty"), [(1, 1), (4, 3), (8, 6), (100, 75), (101, 76)])
def test_how_many_places_are_scarce(most, plenty):
    """Three quarters: until then no client can have more than its share."""
    assert Limit().waiting == 0
    assert Places(most)._plenty == plenty


def test_when_the_count_of_clients_ends(limit):
    """With less than a quarter of the places used, of this line and of all."""
    limit(1000)
    places = Places(20)
    requests = [query(CLIENTS[number % 3]) for number in range(15)]
    extra = query(CLIENTS[0])
    assert all(places.take(each) for each in requests)
    assert places._shares is None
    assert places.take(extra)
    assert sum(places._shares.held.values()) == 16
    for each in [extra, *requests[5:]]:
        places.leave(each)
    assert sum(places._shares.held.values()) == 5
    places.leave(requests[4])
    assert (places._shares, places._plenty) == (None, 15)
    for each in requests[:4]:
        places.leave(each)


def test_clients_are_counted_from_the_first_while_other_lines_wait(limit):
    limit(100)
    others, places, request = Places(100), Places(8), query(CLIENTS[0])
    waiting = [query(CLIENTS[number % 3]) for number in range(50)]
    assert all(others.take(each) for each in waiting)
    own = [query(CLIENTS[number % 3]) for number in range(7)]
    assert all(places.take(each) for each in own)
    for each in own:
        places.leave(each)
    assert places._shares is not None  # of all places a half is used
    assert places.take(request)
    assert places._shares.held == {client_of(CLIENTS[0]): 1}
    for line, each in ((places, request), *((others, each) for each in waiting)):
        line.leave(each)


@pytest.mark.parametrize("scarce", [False, True])
def test_a_request_that_waits_twice_has_one_place(limit, scarce):
    limit(1000)
    places, request, other = Places(2 if scarce else 100), query(CLIENTS[0]), query(CLIENTS[1])
    assert places.take(request)
    assert places.take(request)
    assert places.take(other)
    assert places.take(other)
    assert LIMIT.waiting == 2
    for _ in range(2):
        places.leave(request)
    assert LIMIT.waiting == 1
    places.leave(other)
    assert not places.requests


def test_places_are_scarce_while_other_lines_have_them(limit):
    limit(8)
    own, other = Places(8), Places(8)
    taken = [query(CLIENTS[0]) for _ in range(6)]
    assert [own.take(each) for each in taken] == [True] * 6
    assert not own.take(query(CLIENTS[0]))
    request = query(CLIENTS[0])
    assert other.take(request)  # its share of this line
    for each in taken:
        own.leave(each)
    other.leave(request)
