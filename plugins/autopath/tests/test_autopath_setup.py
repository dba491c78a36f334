"""What the directive takes (CoreDNS: plugin/autopath/setup_test.go), and the files that it reads."""

import pytest

from corepy.dns.names import to_text
from corepy.plugin import Cacheability, StartupError
from corepy.testing import Recorder, controller_for, refusal, set_up, with_handlers
from corepy.testing.inprocess import serve
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


def test_an_at_sign_alone():
    (warning,) = set_up("autopath @").warnings
    assert warning.message == "@ has no effect: the name of the plugin is missing"
    assert warning.hint == HINT


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
            "autopath @erratic example.org",
            "Corefile:2:19: cannot read 'example.org': No such file or directory",
            "the zones come first: autopath [ZONES...] RESOLV-CONF, or @PLUGIN as the last word",
        ),
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
        ("domain foo.com\n", ["foo.com.", "."]),
        ("search a.example\nsearch\n", ["a.example.", "."]),  # as in glibc; in CoreDNS, no domain
        ("search . a.example\n", [".", "a.example."]),
        ("search a.example . b.example\n", ["a.example.", ".", "b.example."]),
    ],
)
def test_search_paths(tmp_path, content, path):
    """They end with the root, for the name alone, unless the file has it before."""
    file = tmp_path / "resolv.conf"
    file.write_text(content)
    controller = set_up(f"autopath {file}")
    assert (names(controller.handlers[0].path), controller.warnings) == (path, [])


def test_an_invalid_zone(resolv_conf):
    """CoreDNS ignores it without a message, so such a Corefile must start."""
    controller = set_up(f"autopath a..b example.org {resolv_conf}")
    (warning,) = controller.warnings
    assert warning.message == (
        "zone 'a..b' is not a valid domain name: it has an empty label; it is ignored"
    )
    assert warning.token.text == "a..b"
    assert controller.handlers[0].zones == ("example.org.",)


class Plain(Recorder):
    name = "plain"


def test_a_plugin_without_search_paths():
    with (
        pytest.raises(StartupError) as caught,
        serve(". {\nautopath @plain\nplain\n}", plugins=with_handlers(plain=Plain)),
    ):
        pass
    assert "does not implement SearchPathSource" in str(caught.value)
