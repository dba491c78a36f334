"""The queue that clients share."""

from hypothesis import given
from hypothesis import strategies as st

from corepy.net.fair_queue import FairQueue


def filled(most, text):
    """Return a queue with an item for each letter, which is its client."""
    queue: FairQueue[str] = FairQueue(most)
    for number, client in enumerate(text):
        queue.put(client.encode(), f"{client}{number}")
    return queue


def test_clients_take_turns():
    queue = filled(100, "aaaaabbc")
    assert list(queue.take(5)) == ["a0", "b5", "c7", "a1", "b6"]
    assert len(queue) == 3
    assert list(queue.take(5)) == ["a2", "a3", "a4"]
    assert not queue


def test_what_is_not_read_stays():
    queue = filled(100, "ab")
    for item in queue.take(2):
        assert item == "a0"
        break
    assert list(queue.take(2)) == ["b1"]


def test_one_client_leaves_places_for_others():
    queue = filled(16, "a" * 100)
    assert len(queue) == 12
    assert queue.put(b"b", "b")
    assert not queue.put(b"a", "a")
    queue.clear()
    assert not queue
    assert queue.put(b"a", "a")


def test_without_places_nothing_is_added():
    empty: FairQueue[str] = FairQueue(0)
    assert not empty.put(b"a", "a")


@given(st.lists(st.integers(0, 30)), st.integers(1, 20))
def test_the_size_is_bounded_and_each_client_keeps_its_order(clients, most):
    queue: FairQueue[tuple[int, int]] = FairQueue(most)
    added = []
    for number, client in enumerate(clients):
        if queue.put(bytes((client,)), (client, number)):
            added.append((client, number))
        assert len(queue) <= most
    found = list(queue.take(100))
    assert sorted(found) == sorted(added)
    for client in set(clients):
        numbers = [number for it, number in found if it == client]
        assert numbers == sorted(numbers)
