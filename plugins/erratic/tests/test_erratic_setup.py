"""The *erratic* directive: what it takes and what it refuses (plugin/erratic/setup_test.go)."""

import pytest

from corepy.testing import refusal, set_up
from corepy_erratic.erratic import Effects

COREDNS_ACCEPTS = [
    ("erratic {\ndrop\n}", Effects(2)),
    ("erratic", Effects(2)),
    ("erratic", Effects(2)),
    ("erratic {\ndrop 2\ndelay 3 1ms\n\n}", Effects(2, 3, 0, 0.001)),
    ("erratic {\ntruncate 2\ndelay 3 1ms\n\n}", Effects(0, 3, 2, 0.001)),
    ("erratic {\ndrop 3\ndelay\n}", Effects(3, 2, 0, 0.1)),
    ("erratic {\ndrop 3\ntruncate\n}", Effects(3, 0, 2)),
]
COREDNS_REFUSES = [
    ("drop -1", "illegal amount value given '-1'"),
    ("drop -1", "illegal amount value given '-1'"),
    ("delay -1", "illegal amount value given '-1'"),
    ("delay 1 2 4", "wrong argument count"),
    ("delay 15.a", "not a whole number: '15.a'"),
    ("drop 3\ndelay 3 bla", "invalid duration"),
    ("truncate 15.a", "not a whole number: '15.a'"),
    ("something-else", "unknown option 'something-else'"),
]


def test_the_cases_are_all_of_coredns():
    assert (len(COREDNS_ACCEPTS), len(COREDNS_REFUSES)) == (7, 8)


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        *COREDNS_ACCEPTS,
        ("erratic {\n}", Effects(2)),
        ("erratic {\nlarge\n}", Effects(2, large=True)),
        ("erratic {\ntruncate\nlarge\n}", Effects(0, 0, 2, large=True)),
        ("erratic {\ndrop 0\n}", Effects()),
        ("erratic {\ndelay 0\n}", Effects(2, 0, 0, 0.1)),
        ("erratic {\ndrop\ndelay 5\n}", Effects(2, 5, 0, 0.1)),
        ("erratic {\ndrop 3\ndrop 4\n}", Effects(4)),
        ("erratic {\ndrop 3\n}\nerratic {\ndelay 4 1m\n}", Effects(3, 4, 0, 60.0)),
        ("erratic {\ndrop +3\n}", Effects(3)),
    ],
)
def test_accepted(text, effects):
    (handler,) = set_up(text).handlers
    assert handler.effects == effects


@pytest.mark.parametrize(
    ("line", "message"),
    [
        *COREDNS_REFUSES,
        ("drop 2147483648", "illegal amount value given '2147483648'"),
        ("drop 1 2", "wrong argument count"),
        ("truncate 1 2", "wrong argument count"),
        ("large 3", "wrong argument count"),
        ("delay 1 1", "missing unit"),
        ("trunkate", "unknown option 'trunkate'"),
    ],
)
def test_refused(line, message):
    assert message in str(refusal(f"erratic {{\n{line}\n}}"))


def test_arguments_of_the_directive():
    assert "wrong argument count" in str(refusal("erratic 3"))
