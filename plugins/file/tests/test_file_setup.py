"""The directive: the cases of plugin/file/setup_test.go, and every option with its mistakes."""

from pathlib import Path

import pytest

from corepy import corefile
from corepy.dns.names import to_text
from corepy.plugin import CorefileError
from corepy.server.check import check
from corepy.server.options import Options
from corepy.testing import refusal, set_up
from corepy_file.handler import INTERVAL, File

ZONE = "$TTL 60\n@ SOA ns1 host 1 7200 3600 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n"


@pytest.fixture
def db(tmp_path):
    (path := tmp_path / "db").write_text(ZONE)
    return path


def directive(text, zone="."):
    controller = set_up(text, zone)
    (handler,) = controller.handlers
    assert isinstance(handler, File)
    return handler, [it.message for it in controller.warnings]


def origins(handler):
    return [to_text(it.origin) for it in handler.zones]


@pytest.mark.parametrize(
    ("arguments", "zones", "fallthrough"),
    [
        ("example.org.", ["example.org."], ()),
        ("example.org example.net", ["example.org.", "example.net."], ()),
        ("example.org EXAMPLE.org", ["example.org."], ()),
        ("10.0.0.0/8", ["10.in-addr.arpa."], ()),
        ("", ["example.com."], ()),
        ("example.org {\nfallthrough\n}", ["example.org."], (".",)),
        ("example.org {\nfallthrough www.example.org\n}", ["example.org."], ("www.example.org.",)),
    ],
)
def test_coredns_accepts(db, arguments, zones, fallthrough):
    handler, warnings = directive(f"file {db} {arguments}", "example.com")
    assert origins(handler) == zones
    assert handler.files[0].path == db
    assert handler._settings[handler.files[0].served.origin].fallthrough.zones == fallthrough
    assert warnings == []


@pytest.mark.parametrize(
    ("options", "reload", "interval", "by_mtime"),
    [
        ("", 60, INTERVAL, False),
        ("reload 5s", 5, INTERVAL, False),
        ("reload 100ms", 0.1, 0.1, False),
        ("reload 1ms", 0.001, 0.05, False),
        ("reload 0", 0, 0, False),
        ("reload_by_mtime", 60, INTERVAL, True),
    ],
)
def test_options(db, options, reload, interval, by_mtime):
    handler, _ = directive(f"file {db} example.org {{\n{options}\n}}")
    (settings,) = handler._settings.values()
    assert (settings.reload, settings.interval, settings.by_mtime) == (reload, interval, by_mtime)


def test_several_directives_are_one_handler(db):
    text = f"file {db} example.org {{\nfallthrough\n}}\nfile {db} example.net"
    handler, _ = directive(text)
    assert origins(handler) == ["example.org.", "example.net."]
    falls = [handler.passes(it, b"\1x" + it.origin) for it in handler.zones]
    assert falls == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file", "wrong argument count or unexpected line ending after 'file'"),
        ("file {db} example.org {{\ntransfer from 127.0.0.1\n}}", "unknown option 'transfer'"),
        ("file {db} example.org {{\nno_reload\n}}", "unknown option 'no_reload'"),
        ("file {db} example.org {{\nreload\n}}", "wrong argument count"),
        ("file {db} example.org {{\nreload x\n}}", "x"),
        ("file {db} example.org {{\nreload -1s\n}}", "negative duration for reload '-1s'"),
        ("file {db} example.org {{\nreload_by_mtime yes\n}}", "wrong argument count"),
        ("file {db} example.org\nfile {db} Example.Org", "this zone has a file already, at "),
        ("file {db}.not example.org {{\nreload 0\n}}", "cannot open {db}.not: No such file"),
    ],
)
def test_refusals(db, text, message):
    assert message.format(db=db) in refusal(text.format(db=db)).message


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("file {db}.not example.org", "cannot open {db}.not: No such file or directory"),
        (
            "file {db} example.org {{\nupstream 8.8.8.8 1.1.1.1\n}}",
            "upstream is ignored: aliases are always looked up by this server",
        ),
        (
            "file {db} example.org {{\nreload 1s 2s\n}}",
            "'2s' is ignored: reload takes one duration",
        ),
    ],
)
def test_warnings(db, text, warning):
    assert directive(text.format(db=db))[1] == [warning.format(db=db)]


def test_a_path_is_relative_to_the_root():
    with pytest.raises(CorefileError, match="/zones/db"):
        set_up("file /zones/db example.org {\nreload 0\n}")
    handler, _ = directive("file zones/db example.org")
    assert handler.files[0].path == Path("zones/db")


def test_check_reads_the_zone(db, tmp_path):
    """`corepy -check` shows the line at fault."""
    (conf := tmp_path / "Corefile").write_text(f". {{\nfile {db} example.org\n}}\n")
    options = Options(conf=str(conf))
    assert [it.valid for it in check(options)] == [True]
    db.write_text(ZONE + "www A 192.0.2.300\n")
    (result,) = check(options)
    assert not result.valid
    shown = corefile.render(result.problems)
    assert f"Corefile:2:6: {db} is not a valid zone file" in shown
    assert f"{db}:5:7: A address is not an IPv4 address: '192.0.2.300'" in shown
    assert "  5 | www A 192.0.2.300\n    |       ^~~~~~~~~~~" in shown


def test_check_of_a_file_that_cannot_be_read(tmp_path):
    (conf := tmp_path / "Corefile").write_text(f". {{\nfile {tmp_path} example.org\n}}\n")
    (result,) = check(Options(conf=str(conf)))
    message = f"cannot read {tmp_path}: Is a directory"
    assert [it.message for it in result.problems] == [message]
