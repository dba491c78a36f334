"""What the directive takes (CoreDNS: plugin/autopath/setup_test.go), and the files that it reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.names import ROOT, from_text, lower, to_text
from corepy.plugin import Cacheability, StartupError
from corepy.testing import Recorder, controller_for, refusal, set_up, with_handlers
from corepy.testing.inprocess import serve
from corepy_autopath.resolv_conf import read_search_path
from corepy_autopath.setup import setup

RESOLV_CONF = "nameserver 1.2.3.4\ndomain foo.com\nsearch bar.com baz.com\noptions ndots:5\n"
HINT = "such as /etc/resolv.conf, or @kubernetes for the search paths of that plugin"


@pytest.fixture
def resolv_conf(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text(RESOLV_CONF)
    return path


def names(path):
    return [to_text(suffix) for suffix in path]


# The seven cases of CoreDNS: four are accepted, three refused, none differs.
@pytest.mark.parametrize(
    ("arguments", "zones"),
    [
        ("@kubernetes", (".",)),
        ("example.org @kubernetes", ("example.org.",)),
        ("10.0.0.0/8 @kubernetes", ("10.in-addr.arpa.",)),
    ],
)
def test_a_plugin_that_is_not_there(arguments, zones):
    controller = set_up(f"autopath {arguments}")
    (handler,) = controller.handlers
    assert (handler.zones, handler.path, handler.source) == (zones, (), "")
    assert handler.cacheability is Cacheability.SAFE
    (warning,) = controller.warnings
    assert warning.message == (
        "@kubernetes has no effect: this server block has no plugin 'kubernetes'"
    )
    assert (warning.token.text, warning.hint) == ("@kubernetes", "add kubernetes to the block")


def test_a_file(resolv_conf):
    controller = set_up(f"autopath {resolv_conf}")
    (handler,) = controller.handlers
    assert names(handler.path) == ["bar.com.", "baz.com.", "."]
    assert handler.cacheability is Cacheability.SAFE
    assert (controller.warnings, controller.files) == ([], [resolv_conf])


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "autopath kubernetes",
            "Corefile:2:10: cannot read 'kubernetes': No such file or directory",
            HINT,
        ),
        ("autopath", "Corefile:2:1: no resolv.conf file is given", HINT),
        ('autopath ""', "Corefile:2:10: cannot read '': Is a directory", HINT),
        # and further ones
        ("autopath example.org /", "Corefile:2:22: cannot read '/': Is a directory", HINT),
        ("autopath /dev/null", "Corefile:2:10: cannot read '/dev/null'", HINT),
        (
            "autopath @erratic {\nttl 5\n}",
            "Corefile:3:1: unknown option 'ttl'",
            "this directive has no options",
        ),
    ],
)
def test_refused(text, message, hint):
    diagnostic = refusal(text)
    assert str(diagnostic).startswith(message)
    assert diagnostic.hint == hint


def with_sibling(text, directive="erratic"):
    """The controller of *autopath* in a block with another directive."""
    controller = controller_for(f"{text}\n{directive}")
    setup(controller)
    return controller


def test_a_plugin():
    controller = with_sibling("autopath @erratic")
    (handler,) = controller.handlers
    assert (handler.source, handler.path, controller.warnings) == ("erratic", (), [])
    assert handler.cacheability is Cacheability.UNSAFE


def test_several_lines(resolv_conf):
    """As in CoreDNS, the zones are the last ones, and a plugin comes before a file."""
    text = f"autopath a.example @erratic\nautopath b.example {resolv_conf}"
    (handler,) = with_sibling(text).handlers
    assert (handler.zones, handler.source) == (("b.example.",), "erratic")
    (handler,) = set_up(f"autopath @gone\nautopath {resolv_conf}").handlers
    assert names(handler.path) == ["bar.com.", "baz.com.", "."]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("nameserver 192.0.2.53\n", None),
        ("search\n", None),
        ("search .\n", None),
        ("search a..b\n", "line 1: empty label in name 'a..b'; this domain is skipped"),
    ],
)
def test_a_file_without_a_domain(tmp_path, content, problem):
    path = tmp_path / "resolv.conf"
    path.write_text(content)
    controller = set_up(f"autopath {path}")
    assert controller.handlers[0].path == ()
    assert [warning.message for warning in controller.warnings] == [
        *([f"{path}: {problem}"] if problem else []),
        f"autopath has no effect: {path} has no search domain",
    ]


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b"domain foo.com\n", ["foo.com.", "."]),
        (b"domain foo.com bar.com\n", ["foo.com.", "."]),
        (b"search a.example\ndomain foo.com\n", ["foo.com.", "."]),
        (b"search a.example\nsearch b.example\n", ["b.example.", "."]),
        (b"search a.example\nsearch\n", []),
        (b"search .\n", []),
        (b"search . a.example\n", [".", "a.example."]),
        (b"  search\tA.Example.  b.example\r\n", ["a.example.", "b.example.", "."]),
        (b"\xef\xbb\xbfsearch a.example", ["a.example.", "."]),
        (b"search a.example a.example . b.example", ["a.example.", ".", "b.example."]),
        (b"search a..b b.example " + b"x" * 64, ["b.example.", "."]),
        (b"#search a.example\n;search b.example\n", []),
        (b"searchlist a.example\n", []),
        (b"search \xff\xfe.example", ["\\255\\254.example.", "."]),
        (b"", []),
    ],
)
def test_search_paths(content, path):
    assert names(read_search_path(content)[0]) == path


@given(st.binary(max_size=80).map(lambda it: b"search " + it))
def test_any_content(content):
    path, problems = read_search_path(content)
    assert not path or path.count(ROOT) == 1
    assert len(set(path)) == len(path)
    assert all(lower(from_text(to_text(it))) == it for it in path)
    assert all(problem.startswith("line ") for problem in problems)


class Plain(Recorder):
    name = "plain"


def test_a_plugin_without_search_paths():
    with (
        pytest.raises(StartupError) as caught,
        serve(". {\nautopath @plain\nplain\n}", plugins=with_handlers(plain=Plain)),
    ):
        pass
    assert "does not implement SearchPathSource" in str(caught.value)
