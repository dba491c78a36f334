"""The directive, with the cases of the original (plugins/rrl/setup_test.go)."""

import pytest

from corepy.loading.order_table import positions
from corepy.testing import refusal, set_up
from corepy_rrl.category import Category
from corepy_rrl.gates import Settings

ALL = dict.fromkeys(Category)


def settings(text, zone="."):
    (handler,) = set_up(text, zone).handlers
    return handler.settings


def intervals(found):
    return [found.interval(category) for category in Category]


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        ("rrl", ["block.test."]),
        ("rrl {\n}", ["block.test."]),
        ("rrl example.com {\n}", ["example.com."]),
        ("rrl a.test b.test", ["a.test.", "b.test."]),
    ],
)
def test_zones(text, zones):
    found = settings(text, "block.test")
    assert found.zones == zones
    assert found == Settings(zones=zones)  # all else is the default
    assert (found.window, found.ipv4_prefix, found.ipv6_prefix) == (15, 24, 56)
    assert (found.table_size, found.slip_ratio, found.is_report) == (100_000, 0, False)
    assert intervals(found) == [0.0] * 5


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ("responses-per-second 10", [10, 10, 10, 10, 10]),
        (
            "responses-per-second 10\nnodata-per-second 5\nnxdomains-per-second 6\n"
            "referrals-per-second 7\nerrors-per-second 8",
            [10, 5, 6, 7, 8],
        ),
        ("nxdomains-per-second 2.5", [0, 0, 2.5, 0, 0]),
        ("responses-per-second 10\nerrors-per-second 0", [10, 10, 10, 10, 0]),
        ("responses-per-second 1e2", [100] * 5),
    ],
)
def test_rates(options, rates):
    found = settings(f"rrl {{\n{options}\n}}")
    assert intervals(found) == [1 / rate if rate else 0.0 for rate in rates]


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("window 10", "window", 10),
        ("window 0.5", "window", 0.5),
        ("ipv4-prefix-length 25", "ipv4_prefix", 25),
        ("ipv6-prefix-length 57", "ipv6_prefix", 57),
        ("max-table-size 500000", "table_size", 500_000),
        ("max-table-size 0", "table_size", 0),
        ("slip-ratio 5", "slip_ratio", 5),
        ("slip-ratio 0", "slip_ratio", 0),
        ("requests-per-second 4", "request_interval", 0.25),
        ("report-only", "is_report", True),
    ],
)
def test_options(option, field, value):
    assert getattr(settings(f"rrl {{\n{option}\n}}"), field) == value


RATES = [
    "responses-per-second",
    "nodata-per-second",
    "nxdomains-per-second",
    "referrals-per-second",
    "errors-per-second",
    "requests-per-second",
]


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", ["10 11", "-1", "abc", "", "nan", "inf", "1_0"])
def test_mistakes_in_rates(name, value):
    assert refusal(f"rrl {{\n{name} {value}\n}}")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("window 0", "window must be greater than zero"),
        ("window five", "five invalid value"),
        ("window 1 2", ""),
        ("ipv4-prefix-length 33", "33 must be between 1 and 32"),
        ("ipv6-prefix-length 129", "129 must be between 1 and 128"),
        ("ipv4-prefix-length -1", "must be between"),
        ("ipv6-prefix-length -1", "must be between"),
        ("ipv4-prefix-length 1 2", ""),
        ("ipv6-prefix-length 3 4", ""),
        ("ipv4-prefix-length orange", "not a whole number"),
        ("ipv6-prefix-length banana", "not a whole number"),
        ("max-table-size -1", "must be between 0"),
        ("max-table-size 1 3", ""),
        ("max-table-size ginormous", "not a whole number"),
        ("slip-ratio -1", "must be between 0 and 10"),
        ("slip-ratio 2 3", ""),
        ("slip-ratio nine", "not a whole number"),
        ("slip-ratio", ""),
        ("slip-ratio 11", "must be between 0 and 10"),
        ("report-only yes", ""),
        ("blah", "unknown option 'blah'"),
    ],
)
def test_mistakes(option, message):
    assert message in refusal(f"rrl {{\n{option}\n}}").message


def test_a_prefix_longer_than_a_host_can_choose_addresses_from():
    controller = set_up("rrl {\n ipv6-prefix-length 128\n}")
    warning, _ = controller.warnings
    assert warning.message == "the addresses of a /64 share their accounts"
    assert controller.handlers[0].settings.ipv6_prefix == 64


def test_the_position_in_the_chain():
    """coredns/rrl#20: at the end of the list, some plugins answer before it."""
    order = [it.directive for it in positions([])[0]]
    assert order.index("autopath") < order.index("rrl") < order.index("acl")


NO_LIMIT = ["rrl without an allowance limits nothing"]


@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        ("", NO_LIMIT),
        ("slip-ratio 2", NO_LIMIT),
        ("responses-per-second 0", NO_LIMIT),
        ("errors-per-second 1", []),
        ("requests-per-second 1", []),
    ],
)
def test_a_directive_that_limits_nothing(options, warnings):
    found = set_up(f"rrl {{\n{options}\n}}").warnings
    assert [it.message for it in found] == warnings
