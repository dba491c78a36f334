"""docs/coredns-plugins.md counts the setup cases of every plugin that CoreDNS has."""

import re
from pathlib import Path

import pytest

from corepy.loading.order import DIRECTIVES
from corepy.testing.installed import installed

PAGE = (Path(__file__).parent.parent / "docs/coredns-plugins.md").read_text()
OWN = {"blocklist", "console", "no_aaaa", "nodecache", "search_guard"}
PLUGINS = sorted({*DIRECTIVES} - OWN)
ROW = re.compile(r"^\| \*(\w+)\* " + r"\| (\d+) " * 4 + r"\|$", re.MULTILINE)
TOTAL = re.compile(r"^\| \*\*all 60\*\* " + r"\| \*\*([\d,]+)\*\* " * 4 + r"\|$", re.MULTILINE)


def numbers(row):
    """Return the numbers of a row's cells."""
    return [int(cell.replace(",", "")) for cell in row]


ROWS = {name: numbers(cells) for name, *cells in ROW.findall(PAGE)}


def test_every_plugin_of_coredns_has_a_row():
    assert list(ROWS) == PLUGINS
    assert len(PLUGINS) == 60


@pytest.mark.parametrize("name", PLUGINS)
def test_each_input_is_in_one_column(name):
    inputs, *columns = ROWS[name]
    assert inputs == sum(columns)


def test_the_last_row_is_the_sum():
    assert [numbers(row) for row in TOTAL.findall(PAGE)] == [
        [sum(column) for column in zip(*ROWS.values(), strict=True)]
    ]


def test_every_difference_has_a_reason():
    reasons = re.findall(r"^\| \*(\w+)\* \| (\d+): ", PAGE, re.MULTILINE)
    explained: dict[str, int] = {}
    for name, count in reasons:
        explained[name] = explained.get(name, 0) + int(count)
    assert explained == {name: different for name, (*_, different) in ROWS.items() if different}


def test_every_plugin_of_coredns_is_installed():
    assert {*PLUGINS} - {*installed()} == set()
