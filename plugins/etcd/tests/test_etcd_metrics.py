"""The gauges, of one copy and of several with the same path."""

from types import SimpleNamespace
from typing import Any

from corepy.testing import helper_module
from corepy_etcd import metrics
from corepy_etcd.store import Store

key_of = helper_module(__file__, "etcd_copy").key_of
PATH = "/metrics/"


class Copy:
    """A `Source` without etcd."""

    def __init__(self, *names, problem: str | None = ""):
        self.store = Store(PATH, lambda key: None)
        for name in names:
            self.store.put(key_of(name, PATH), b'{"host": "192.0.2.1"}', 0)
        self.store.put(key_of("bad", PATH), b"no JSON", 0)
        self.watcher = None if problem is None else SimpleNamespace(problem=problem)


def values():
    """The values of the path, in the order of the README; None for each that is not there."""
    found = (
        dict(it.children()).get((PATH,)) for it in (metrics.KEYS, metrics.IGNORED, metrics.FOLLOWED)
    )
    return [it and it.value for it in found]


def test_metrics_of_the_copies_with_one_path():
    one: Any = Copy("a", "b")
    other: Any = Copy("c", problem="refused")
    metrics.show(one)
    metrics.show(one)  # a second server block
    assert values() == [2, 1, 1]
    metrics.show(other)
    assert values() == [3, 2, 0]
    metrics.hide(one)
    assert values() == [3, 2, 0]
    metrics.hide(other)
    assert values() == [2, 1, 1]
    metrics.hide(one)
    assert values() == [None, None, None]


def test_a_follower_has_no_connection():
    follower: Any = Copy("a", problem=None)
    metrics.show(follower)
    assert values() == [1, 1, None]
    metrics.hide(follower)
