"""The directive: the cases of plugin/auto/setup_test.go, and the origins of file names."""

import pytest

from corepy.plugin import NamePattern
from corepy.testing import refusal, set_up
from corepy_auto.folder import Folder
from corepy_auto.handler import Auto


def directive(text, zone="."):
    controller = set_up(text, zone)
    (handler,) = controller.handlers
    assert isinstance(handler, Auto)
    return handler, [it.message for it in controller.warnings]


@pytest.mark.parametrize(
    ("arguments", "options", "template", "pattern", "reload", "zones"),
    [
        ("example.org", "directory {}", "{1}", r"db\.(.*)", 60, ("example.org.",)),
        ("10.0.0.0/24", "directory {}", "{1}", r"db\.(.*)", 60, ("0.0.10.in-addr.arpa.",)),
        ("", "directory {}\nreload 0", "{1}", r"db\.(.*)", 0, (".",)),
        ("", "directory {} (.*) bliep", "bliep", "(.*)", 60, (".",)),
        ("", "directory {} (.*) bliep\nreload 10s", "bliep", "(.*)", 10, (".",)),
        ("", "reload 5s\ndirectory {}", "{1}", r"db\.(.*)", 5, (".",)),
    ],
)
def test_coredns_accepts(tmp_path, arguments, options, template, pattern, reload, zones):
    handler, warnings = directive(f"auto {arguments} {{\n{options.format(tmp_path)}\n}}")
    folder = handler.folder
    assert (folder.path, folder.template, folder.pattern.text) == (tmp_path, template, pattern)
    assert (handler.reload, handler._only.zones) == (reload, zones)
    assert warnings == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("directory {}\nno_reload", "unknown option 'no_reload'"),
        ("directory {} (.*) bliep 10", "wrong argument count"),
        ("directory {}\ntransfer to 127.0.0.1", "unknown option 'transfer'"),
        ("directory {} (.*)", "the template of the origin is missing"),
        ("directory", "wrong argument count"),
        ("directory {} * {{1}}", "invalid regular expression"),
        ("directory {} .* {{1}}", "the regular expression needs a group"),
        ("directory {} (.*) {{1}} aa", "wrong argument count"),
        ("directory {}\nreload -1s", "negative duration for reload '-1s'"),
        ("directory {}\nreload", "wrong argument count"),
        ("directory {} " + "a" * 10_001 + " {{1}}", "regex pattern too long"),
        ("directory {}/file/x", "unable to access folder"),
    ],
)
def test_refusals(tmp_path, options, message):
    (tmp_path / "file").write_text("")
    assert message in refusal(f"auto {{\n{options.format(tmp_path)}\n}}").message


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ("directory {}/not", "folder does not exist: {}/not"),
        ("directory {}\nupstream 8.8.8.8", "upstream is ignored: aliases are always looked up by"
         " this server"),
        ("directory {} db\\.(.*) {{2}}", "{{2}} is empty: the regular expression has no such group"),
        ("directory {} db\\.(?P<x>.*) $y.$x.{{1}}", "$y is empty: the regular expression has no such"
         " group"),
        ("directory {}\nreload 1s 2s", "'2s' is ignored: reload takes one duration"),
    ],
)  # fmt: skip
def test_warnings(tmp_path, options, warning):
    text = f"auto {{\n{options.format(tmp_path)}\n}}"
    assert directive(text)[1] == [warning.format(tmp_path)]


def test_without_a_folder_there_is_no_handler():
    controller = set_up("auto")
    assert not controller.handlers
    assert [it.message for it in controller.warnings] == ["auto without directory serves no zone"]


@pytest.mark.parametrize(
    ("pattern", "template", "name", "origin"),
    [
        (r"db\.(.*)", "{1}", "db.example.org", "example.org."),
        (r"db\.(.*)", "{1}", "old.db.example.org", "example.org."),
        (r"db\.(.*)", "{1}", "example.org", None),
        (r"(.*)\.zone$", "{1}.", "example.org.zone", "example.org."),
        (r"(.*)\.(.*)", "$2.${1}", "b.a", "a.b."),
        (r"(?P<zone>.*)\.db", "{zone}.example", "a.db", "a.example."),
        (r"(.*)", "{1}-$$-{9}{x}", "a", "a-$-."),
        (r"a|(b)", "x{1}", "a", "x."),
        (r"(.*)", "{1", "a", "{1."),
        (r"(.*)", "{1}", "\udc80", None),
    ],
)
def test_origins(tmp_path, pattern, template, name, origin):
    """As Go's Regexp.ExpandString, with `{1}` for `${1}`."""
    assert Folder(tmp_path, NamePattern(pattern), template).origin_of(name) == origin
