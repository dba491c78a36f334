"""Where third-party plugins are placed."""

import pytest

from corepy.loading.order import DIRECTIVES, Constraint, resolve
from corepy.plugin import OrderError


def placed(*constraints, installed=()):
    order = resolve(constraints, installed)
    return [
        name for name in order if name in {constraint.directive for constraint in constraints}
    ], order


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
    ("constraint", "above", "below"),
    [
        (Constraint("x", "d"), "search_guard", "cache"),
        (Constraint("x", "d", before=("errors",)), "prometheus", "errors"),
        (Constraint("x", "d", after=("errors",)), "errors", "log"),
        (Constraint("x", "d", before=("forward",), after=("log",)), "loop", "forward"),
        (Constraint("x", "d", after=("nodecache",)), "nodecache", None),
        (Constraint("x", "d", before=("root",)), None, "root"),
    ],
)
def test_place_of_one_wish(constraint, above, below):
    order = resolve([constraint], [])
    at = order.index("x")
    assert (order[at - 1] if at else None) == above
    assert (order[at + 1] if at + 1 < len(order) else None) == below


def test_third_parties_can_refer_to_each_other():
    names, order = placed(Constraint("a", "d", after=("b",)), Constraint("b", "e", before=("log",)))
    assert names == ["b", "a"]
    assert order.index("b") < order.index("log")


def test_a_wish_may_name_an_installed_plugin_that_is_not_used():
    names, _ = placed(Constraint("a", "d", after=("other",)), installed=["other"])
    assert names == ["a"]


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        ([Constraint("a", "dist-a", before=("nobody",))], ["plugin/a", "dist-a", "'nobody'"]),
        (
            [Constraint("a", "dist-a", before=("errors",), after=("cache",))],
            ["plugin/a", "dist-a", "a before errors, errors before cache, cache before a"],
        ),
        (
            [Constraint("a", "x", before=("b",)), Constraint("b", "y", before=("a",))],
            ["plugin/a", "a before b, b before a"],
        ),
        ([Constraint("a", "x", before=("a",))], ["plugin/a", "contradict each other: a before a"]),
        (
            [
                Constraint("a", "x", before=("b",)),
                Constraint("b", "y", before=("a",)),
                Constraint("c", "z"),
            ],
            ["plugin/a", "a before b, b before a"],
        ),
    ],
)
def test_impossible_wishes_are_explained(constraints, words):
    with pytest.raises(OrderError) as caught:
        resolve(constraints, [])
    assert all(word in str(caught.value) for word in words)


def test_order_does_not_depend_on_the_order_of_wishes():
    constraints = [Constraint(name, "d", before=("cache",)) for name in "abc"]
    assert resolve(constraints, []) == resolve(constraints[::-1], [])
