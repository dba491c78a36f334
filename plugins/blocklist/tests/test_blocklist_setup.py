"""The directive: its options, and mistakes in it."""

from pathlib import Path

import pytest

from corepy.dns.edns import EDE_BLOCKED, EDE_CENSORED
from corepy.plugin import CorefileError
from corepy.testing import refusal, set_up
from corepy_blocklist.files import Pattern
from corepy_blocklist.lists import Lists
from corepy_blocklist.rule import BELOW, NAME, Action, SourceKind
from corepy_blocklist.setup import SHORTEST_RELOAD
from corepy_blocklist.transferring import TransferredZone

HERE = Path(__file__).parent
FILE = str(Path(__file__))


def directive(options, zones="", zone="."):
    """Set up a directive; return its handler, its lists, and the messages of its warnings."""
    controller = set_up(f"blocklist {zones} {{\n{options}\n}}", zone)
    (handler,), (lists,) = controller.handlers, controller.hooks
    assert isinstance(lists, Lists)
    return handler, lists, [warning.message for warning in controller.warnings]


def test_defaults():
    handler, lists, warnings = directive(f"list {FILE}")
    actions = handler._actions
    assert (actions.listed, actions.ttl, actions.ede) == (Action.NXDOMAIN, 60, EDE_BLOCKED)
    assert (actions.ipv4, actions.ipv6) == (bytes(4), bytes(16))
    assert (lists.loader._plain_scope, lists.interval) == (NAME, 5)
    assert (handler._zones, handler.denies_clients, handler._logs_hits) == (None, False, False)
    assert handler._inspects_aliases
    assert warnings == []


def test_options():
    handler, lists, _ = directive(
        f"rpz {FILE} RPZ.example\nlist {FILE}\nallow {FILE} {FILE}\naction address 192.0.2.1 ::1\n"
        "match subdomains\nttl 0\nreload 1m\nede censored\nno_cname\nlog",
        "corp.example",
    )
    actions = handler._actions
    assert (actions.listed, actions.ttl, actions.ede) == (Action.ADDRESS, 0, EDE_CENSORED)
    assert (actions.ipv4, actions.ipv6) == (bytes((192, 0, 2, 1)), bytes(15) + b"\1")
    assert (lists.loader._plain_scope, lists.interval) == (NAME | BELOW, 60)
    assert handler._zones.zones == ("corp.example.",)
    assert (handler.denies_clients, handler._logs_hits) == (True, True)
    assert not handler._inspects_aliases
    assert lists.loader.sources == (
        Pattern(SourceKind.RPZ, FILE, "rpz.example."),
        Pattern(SourceKind.LIST, FILE),
        Pattern(SourceKind.ALLOW, FILE),
        Pattern(SourceKind.ALLOW, FILE),
    )


def test_several_directives_are_several_handlers():
    text = f"blocklist {{\nlist {FILE}\n}}\nblocklist example {{\nrpz {FILE}\n}}"
    controller = set_up(text)
    assert [it.denies_clients for it in controller.handlers] == [False, True]


@pytest.mark.parametrize(
    ("text", "primary"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:DB8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_primary_servers(text, primary):
    _, lists, _ = directive(f"transfer Rpz.Example {text} 192.0.2.9")
    (zone,) = lists.loader.sources
    assert isinstance(zone, TransferredZone)
    assert (zone.zone, zone._primaries) == (
        "rpz.example.",
        (primary, ("192.0.2.9", 53)),
    )


def test_the_shortest_interval_and_none():
    assert directive(f"list {FILE}\nreload 1ms")[1].interval == SHORTEST_RELOAD
    assert directive(f"list {FILE}\nreload 0")[1].interval == 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/no/such/file", "/no/such/file is not a file"),
        (str(HERE), f"{HERE} is not a file"),
        ("/no/such/*.txt", "no file matches /no/such/*.txt"),
    ],
)
def test_files_that_are_missing_are_warnings(path, message):
    assert directive(f"list {path}")[2] == [message]


def test_a_relative_path_begins_at_root(monkeypatch):
    monkeypatch.chdir(HERE)
    _, lists, warnings = directive(f"list {Path(FILE).name}")
    assert (lists.loader.sources[0].path, warnings) == (FILE, [])


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ("", "no list, allow, rpz or transfer", "list /etc/corepy/block.txt"),
        ("log", "no list, allow, rpz or transfer", "list /etc/corepy/block.txt"),
        ("lists x", "unknown option 'lists'", "did you mean 'list'?"),
        ("list", "", "such as: list"),
        ("rpz", "", "such as: rpz"),
        ("rpz a b c", "", "such as: rpz"),
        ("rpz a a..b", "empty label", None),
        ("transfer rpz.example", "", "such as: transfer"),
        ("transfer a..b 192.0.2.1", "empty label", None),
        ("transfer rpz.example name.example", "IP address: 'name.example'", "[2001:db8::1]:5353"),
        ("transfer rpz.example 192.0.2.1:0", "not a port number: '0'", "[2001:db8::1]:5353"),
        ("transfer rpz.example 192.0.2.1:99999", "not a port number", "[2001:db8::1]:5353"),
        ("transfer rpz.example [192.0.2]:53", "an IP address", "[2001:db8::1]:5353"),
        ("action", "", "such as: action"),
        ("action nxdoman", "unknown action 'nxdoman'", "did you mean 'nxdomain'?"),
        ("action nodata 192.0.2.1", "action nodata takes no addresses", None),
        ("action address 192.0.2", "not an IP address: '192.0.2'", None),
        ("match all", "unknown value 'all'", "one of name, subdomains"),
        ("ede blockd", "unknown extended error 'blockd'", "did you mean 'blocked'?"),
        ("ttl 86401", "ttl 86401 is out of range", "from 0 to 86400"),
        ("ttl -1", "ttl -1 is out of range", "from 0 to 86400"),
        ("ttl 1m", "not a whole number: '1m'", "without a unit"),
        ("reload -1s", "negative duration for reload '-1s'", "0 disables"),
        ("reload 5", "", "a duration is a number with a unit"),
        ("log all", "", None),
        ("no_cname all", "", None),
    ],
)
def test_mistakes(options, message, hint):
    diagnostic = refusal(f"blocklist {{\n{options}\n}}")
    assert message in diagnostic.message
    assert hint is None or hint in diagnostic.hint


@pytest.mark.parametrize("file", ["/etc/block", "./block", "https://lists.example/block.txt"])
def test_a_file_in_place_of_the_zones_is_a_mistake(file):
    diagnostic = refusal(f"blocklist {file}")
    assert diagnostic.message == f"{file!r} is not a zone"
    assert f"{{ list {file} }}" in diagnostic.hint


def test_all_mistakes_are_reported_together():
    with pytest.raises(CorefileError) as raised:
        set_up("blocklist {\nttl x\nede y\n}")
    assert len(raised.value.diagnostics) == 2
