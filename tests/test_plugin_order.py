"""Where third-party plugins are placed."""

import pytest

from corepy.plugin import OrderError
from corepy.plugin.order import DIRECTIVES, Wish, resolve


def placed(*wishes, installed=()):
    order = resolve(wishes, installed)
    return [name for name in order if name in {wish.directive for wish in wishes}], order


def test_fixed_order_is_kept_without_wishes():
    assert resolve([], []) == list(DIRECTIVES)


def test_fixed_order_has_coredns_landmarks():
    landmarks = [
        "metadata",
        "reload",
        "bind",
        "prometheus",
        "errors",
        "log",
        "cache",
        "template",
        "loop",
        "forward",
    ]
    assert sorted(landmarks, key=DIRECTIVES.index) == landmarks


@pytest.mark.parametrize(
    ("wish", "above", "below"),
    [
        (Wish("x", "d"), "acl", "cache"),
        (Wish("x", "d", before=("errors",)), "prometheus", "errors"),
        (Wish("x", "d", after=("errors",)), "errors", "log"),
        (Wish("x", "d", before=("forward",), after=("log",)), "loop", "forward"),
        (Wish("x", "d", after=("nodecache",)), "nodecache", None),
        (Wish("x", "d", before=("root",)), None, "root"),
    ],
)
def test_place_of_one_wish(wish, above, below):
    order = resolve([wish], [])
    at = order.index("x")
    assert (order[at - 1] if at else None) == above
    assert (order[at + 1] if at + 1 < len(order) else None) == below


def test_third_parties_can_refer_to_each_other():
    names, order = placed(Wish("a", "d", after=("b",)), Wish("b", "e", before=("log",)))
    assert names == ["b", "a"]
    assert order.index("b") < order.index("log")


def test_a_wish_may_name_an_installed_plugin_that_is_not_used():
    names, _ = placed(Wish("a", "d", after=("other",)), installed=["other"])
    assert names == ["a"]


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ([Wish("a", "dist-a", before=("nobody",))], ["plugin/a", "dist-a", "'nobody'"]),
        (
            [Wish("a", "dist-a", before=("errors",), after=("cache",))],
            ["plugin/a", "dist-a", "a before errors, errors before cache, cache before a"],
        ),
        (
            [Wish("a", "x", before=("b",)), Wish("b", "y", before=("a",))],
            ["plugin/a", "a before b, b before a"],
        ),
        ([Wish("a", "x", before=("a",))], ["plugin/a", "contradict each other: a before a"]),
        (
            [Wish("a", "x", before=("b",)), Wish("b", "y", before=("a",)), Wish("c", "z")],
            ["plugin/a", "a before b, b before a"],
        ),
    ],
)
def test_impossible_wishes_are_explained(wishes, words):
    with pytest.raises(OrderError) as caught:
        resolve(wishes, [])
    assert all(word in str(caught.value) for word in words)


def test_order_does_not_depend_on_the_order_of_wishes():
    wishes = [Wish(name, "d", before=("cache",)) for name in "abc"]
    assert resolve(wishes, []) == resolve(wishes[::-1], [])
