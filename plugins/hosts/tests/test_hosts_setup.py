"""The directive: the cases of plugin/hosts/setup_test.go, and every option with its mistakes."""

from pathlib import Path

import pytest

from corepy.dns.names import from_text
from corepy.plugin import CorefileError
from corepy.testing import refusal, set_up
from corepy_hosts.handler import Hosts
from corepy_hosts.hosts_file import INTERVAL, SHORTEST, HostsFile

ROOT = (".",)
INLINE = "hosts highly_unlikely_to_exist_hosts_file example.org {{\n{}\n}}"


def directive(text, zone="."):
    """Set up a directive; return its handler, its file, and the messages of its warnings."""
    controller = set_up(text, zone)
    (handler,), (file,) = controller.handlers, controller.hooks
    assert isinstance(handler, Hosts)
    assert isinstance(file, HostsFile)
    assert handler.file is file
    return handler, file, [warning.message for warning in controller.warnings]


@pytest.mark.parametrize(
    ("text", "path", "zones", "fallthrough"),
    [
        ("hosts", "/etc/hosts", ROOT, ()),
        ("hosts /tmp", "/tmp", ROOT, ()),
        ("hosts /etc/hosts miek.nl.", "/etc/hosts", ("miek.nl.",), ()),
        ("hosts /etc/hosts miek.nl. pun.gent.", "/etc/hosts", ("miek.nl.", "pun.gent."), ()),
        ("hosts {\nfallthrough\n}", "/etc/hosts", ROOT, ROOT),
        ("hosts /tmp {\nfallthrough\n}", "/tmp", ROOT, ROOT),
        ("hosts /etc/hosts miek.nl. {\nfallthrough\n}", "/etc/hosts", ("miek.nl.",), ROOT),
        (
            "hosts /etc/hosts miek.nl 10.0.0.9/8 {\nfallthrough\n}",
            "/etc/hosts", ("miek.nl.", "10.in-addr.arpa."), ROOT,
        ),
        ("hosts {\nfallthrough\nfallthrough_unsupported\n}", "/etc/hosts", ROOT, ROOT),
        (
            "hosts {\nfallthrough_unsupported\nfallthrough example.org\n}",
            "/etc/hosts", ROOT, ("example.org.",),
        ),
    ],
)  # fmt: skip
def test_coredns_accepts(text, path, zones, fallthrough):
    handler, file, _ = directive(text)
    assert file.path == Path(path)
    assert handler._zones.zones == zones
    assert handler._fallthrough.zones == fallthrough
    assert handler._passes_unsupported == ("unsupported" in text)


@pytest.mark.parametrize(
    ("options", "fallthrough"),
    [("10.0.0.1 example.org\nfallthrough", ROOT), ("10.0.0.1 example.org", ())],
)
def test_coredns_accepts_lines_of_the_file(options, fallthrough):
    handler, file, warnings = directive(INLINE.format(options))
    assert handler._fallthrough.zones == fallthrough
    assert file.value.find(from_text("example.org.")) == (b"\x0a\0\0\1", b"")
    assert file.value.names_of(from_text("1.0.0.10.in-addr.arpa.")) == [from_text("example.org.")]
    assert warnings == ["File does not exist: highly_unlikely_to_exist_hosts_file"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "hosts /etc/hosts {\nfallthrough\n}\nhosts /etc/hosts {\nfallthrough\n}",
            "this plugin can only be used once per Server Block",
        ),
        (
            INLINE.format("fallthrough\n10.0.0.1 example.org"),
            "unknown property '10.0.0.1' after fallthrough",
        ),
        (
            "hosts {\nfallthrough_unsupported\n}",
            "fallthrough_unsupported requires fallthrough",
        ),
        (
            "hosts {\nfallthrough\nfallthrough_unsupported example.org\n}",
            "wrong argument count or unexpected line ending after 'example.org'",
        ),
    ],
)  # fmt: skip
def test_coredns_refuses(text, message):
    assert refusal(text).message == message


@pytest.mark.parametrize(
    ("options", "ttl", "with_reverse", "interval"),
    [
        ("", 3600, True, INTERVAL),
        ("ttl 60\nreload 15s", 60, True, INTERVAL),
        ("ttl +7\nno_reverse\nreload 300ms", 7, False, 0.3),
        ("ttl 1\nttl 65535\nreload 0", 65535, True, 0),
        ("reload 1ns", 3600, True, SHORTEST),
        ("reload 0s", 3600, True, 0),
    ],
)
def test_options(options, ttl, with_reverse, interval):
    handler, file, warnings = directive(f"hosts {{\n{options}\n}}")
    assert handler._ttl == ttl
    assert (file._with_reverse, file.interval) == (with_reverse, interval)
    assert warnings == []


@pytest.mark.parametrize(
    ("option", "message", "token"),
    [
        ("ttl", "wrong argument count or unexpected line ending after 'ttl'", "ttl"),
        ("ttl 1h", "not a whole number: '1h'", "1h"),
        ("ttl 0", "ttl 0 is out of range", "0"),
        ("ttl -1", "ttl -1 is out of range", "-1"),
        ("ttl 65536", "ttl 65536 is out of range", "65536"),
        ("reload", "wrong argument count or unexpected line ending after 'reload'", "reload"),
        ("reload 5s 6s", "wrong argument count or unexpected line ending after '6s'", "6s"),
        ("reload 15", "missing unit in duration '15'", "15"),
        ("reload -1s", "negative duration for reload '-1s'", "-1s"),
        ("fallthrough\ntll 60", "unknown option 'tll'", "tll"),
    ],
)
def test_mistakes_in_options(option, message, token):
    diagnostic = refusal(f"hosts {{\n{option}\n}}")
    assert diagnostic.message.startswith(message)
    assert diagnostic.token.text == token


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(CorefileError) as caught:
        set_up("hosts {\nttl 0\nreload -1s\nfallthrough\n192.0.2.1 late.example\n}")
    assert [(it.message, it.token.line) for it in caught.value.diagnostics] == [
        ("ttl 0 is out of range", 3),
        ("negative duration for reload '-1s'", 4),
        ("unknown property '192.0.2.1' after fallthrough", 6),
    ]


@pytest.mark.parametrize(
    ("line", "problem", "hint"),
    [
        ("tll 60", "'tll' is not an IP address", "did you mean the option 'ttl'?"),
        (
            "falthrough",
            "'falthrough' is not an IP address",
            "did you mean the option 'fallthrough'?",
        ),
        ("321.0.0.1 a", "'321.0.0.1' is not an IP address", "a line is an address and its names"),
        ("192.0.2.1", "no name follows '192.0.2.1'", "a line is an address and its names"),
        ("192.0.2.1 a..b", "empty label in name 'a..b'", "a line is an address and its names"),
        ("example.org 192.0.2.1", "'example.org' is not an IP", "a line is an address and its"),
        ("no_reverse now", "'now' is not an IP address", "a line is an address and its names"),
    ],
)
def test_lines_that_coredns_skips_silently(line, problem, hint):
    (warning,) = set_up(f"hosts {{\n{line}\n}}").warnings
    assert warning.message.startswith(f"this line is ignored: {problem}")
    assert warning.hint.startswith(hint)


def test_quotes_may_contain_several_lines():
    """As in CoreDNS, which parses the words of all lines together, as a file."""
    text = 'hosts {\n"192.0.2.1 a # b\n192.0.2.2 c\n192.0.2 d" e\n}'
    _, file, warnings = directive(text)
    names = {name: file.value.find(from_text(name)) for name in ("a.", "b.", "c.", "d.", "e.")}
    first, second = (b"\xc0\0\2\1", b""), (b"\xc0\0\2\2", b"")
    assert names == {"a.": first, "b.": None, "c.": second, "d.": None, "e.": None}
    assert warnings == ["this line is ignored: '192.0.2' is not an IP address"]


def test_a_surplus_ttl_is_a_warning():
    _, _, warnings = directive("hosts {\nttl 30 40\n}")
    assert warnings == ["'40' is ignored: ttl takes one number"]


def test_files_that_cannot_be_read_yet(tmp_path):
    assert directive(f"hosts {tmp_path}/missing")[2] == [f"File does not exist: {tmp_path}/missing"]
    assert directive(f"hosts {tmp_path}")[2] == [f"Hosts file '{tmp_path}' is a directory"]
    (tmp_path / "loop").symlink_to("loop")
    message = f"unable to access hosts file '{tmp_path}/loop': Too many levels of symbolic links"
    assert refusal(f"hosts {tmp_path}/loop").message == message


def test_the_zones_of_the_block_are_the_default():
    handler, _, _ = directive("hosts", zone="example.org 10.0.0.0/8")
    assert handler._zones.zones == ("example.org.", "10.in-addr.arpa.")
