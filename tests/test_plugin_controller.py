"""What `Controller` reads for a plugin, and how it refuses the rest."""

from dataclasses import dataclass

import pytest

from corepy import corefile
from corepy.plugin import (
    BlockConfig,
    Controller,
    CorefileError,
    Debug,
    ListenHosts,
    Mistakes,
    Timeouts,
    suggest_file,
)
from corepy.server.build.builder import build
from corepy.testing import controller_for, inline, refusal
from corepy.testing.installed import installed


def at_directive(line):
    controller = controller_for(line)
    controller.next()
    return controller


@pytest.mark.parametrize(
    ("line", "least", "most", "good"),
    [
        ("it", 0, 0, True), ("it", 1, None, False), ("it a", 0, 0, False), ("it a b", 0, 1, False),
        ("it a b", 2, 2, True), ("it a b", 1, None, True), ("it {\na\n}", 0, 0, True),
    ],
)  # fmt: skip
def test_arguments_are_counted(line, least, most, good):
    controller = at_directive(line)
    if good:
        texts = [token.text for token in controller.arguments(least, most)]
        assert texts == line.split("{")[0].split()[1:]
    else:
        with pytest.raises(CorefileError, match="wrong argument count"):
            controller.arguments(least, most)


def test_argument_is_the_only_one():
    assert at_directive("it a").argument().text == "a"
    for line in ("it", "it a b"):
        with pytest.raises(CorefileError, match="wrong argument count"):
            at_directive(line).argument()


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m30s", 90), ("0", 0), ("-2s", -2), ("250ms", 0.25)]
)
def test_duration(text, seconds):
    controller = at_directive(f"it {text}")
    assert controller.duration(controller.argument()) == seconds


def test_what_is_no_duration_is_pointed_at():
    controller = at_directive("it 1s 30 x")
    with pytest.raises(CorefileError) as caught:
        controller.duration(controller.arguments()[1])
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.message, diagnostic.token.text) == ("missing unit in duration '30'", "30")
    assert "500ms" in diagnostic.hint


def test_integer():
    controller = at_directive("it -12 1.5 30s")
    number, fraction, duration = controller.arguments()
    assert controller.integer(number) == -12
    for token, hint in ((fraction, None), (duration, "write it without a unit, such as 30")):
        with pytest.raises(CorefileError) as caught:
            controller.integer(token)
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.message == f"not a whole number: {token.text!r}"
        assert (diagnostic.token, diagnostic.hint) == (token, hint)


@pytest.mark.parametrize(
    ("name", "near"),
    [("resolf.conf", "resolv.conf"), ("resolv.conf", None), ("zone", None), ("folde", None)],
)
@pytest.mark.parametrize("relative", [False, True])
def test_suggest_file(tmp_path, monkeypatch, name, near, relative):
    (tmp_path / "resolv.conf").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    prefix = "" if relative else f"{tmp_path}/"
    assert suggest_file(prefix + name) == (near and prefix + near)
    assert suggest_file(f"{prefix}missing/{name}") is None


def test_pattern():
    controller = at_directive(r"it ^a\d+$ (a " + "a" * 10_001)
    good, *bad = controller.arguments()
    assert controller.pattern(good).search("a12")
    for token, message in zip(bad, ("missing \\)", "pattern too long: 10001 > 10000"), strict=True):
        with pytest.raises(CorefileError, match=message) as caught:
            controller.pattern(token)
        assert caught.value.diagnostics[0].token is token


def test_name_pattern():
    controller = at_directive(r"it ^(?P<host>[^.]*)\.(a|b)?c\.$ (a")
    good, bad = controller.arguments()
    pattern = controller.name_pattern(good)
    assert (pattern.find("www.c."), pattern.find("www.C.")) == (["www.c.", "www", ""], None)
    assert (pattern.text, pattern.groups, pattern.named_groups) == (good.text, 2, {"host": 1})
    assert controller.name_pattern(good, ignores_case=True).find("www.C.") == ["www.C.", "www", ""]
    with pytest.raises(CorefileError, match="missing \\)") as caught:
        controller.name_pattern(bad)
    assert caught.value.diagnostics[0].token is bad


def test_labels_with_the_name_of_another_plugin():
    """A plugin may set the labels of one that it replaces."""

    def setup(controller):
        for _ in controller.single():
            for token in controller.arguments():
                controller.reads_label(token.text, token)
        controller.provides_labels(["kubernetes/pod", "asks/a"])
        controller.provides_labels(["kubernetes/node"], needs_metadata=False)

    text = """. {
        asks kubernetes/pod kubernetes/node asks/a
        metadata
    }
    example. {
        asks kubernetes/pod kubernetes/node asks/b kubernetes/nod
    }
    example.org. {
        asks asks/b kubernetes/nod
        metadata
    }"""
    found = {**installed(), "asks": inline("asks", setup)}
    assert [it.message for it in build(corefile.parse(text), found=found).warnings] == [
        "kubernetes/pod is probably never set: the block has no plugin 'metadata'",
        "asks/b is probably never set: the block has no plugin 'metadata'",
        "kubernetes/nod is probably never set: the block has no plugin 'metadata'",
        "asks has no label 'asks/b'",
        "kubernetes/nod is probably never set: the block has no plugin 'kubernetes'",
    ]


def test_next_argument_leaves_the_others():
    controller = at_directive("it a b")
    assert [controller.next_argument().text, controller.next_argument().text] == ["a", "b"]
    with pytest.raises(CorefileError, match="wrong argument count"):
        controller.next_argument()


def test_the_first_argument_too_many_is_pointed_at():
    with pytest.raises(CorefileError) as caught:
        at_directive("it a b c").arguments(0, 1)
    assert caught.value.diagnostics[0].token.text == "b"


def read_all(controller, known):
    """Read every occurrence and its options; return what was read."""
    seen, mistakes = [], Mistakes()

    def option():
        seen.append(controller.val)
        controller.argument()

    for _ in controller.occurrences():
        with controller.statement(mistakes):
            seen.append(controller.val)
            controller.arguments(0, 1)
            controller.options(dict.fromkeys(known, option))
    return seen, [it.message for it in mistakes.diagnostics]


@pytest.mark.parametrize(
    ("text", "seen", "mistakes"),
    [
        ("x", ["x"], 0),
        ("x a b c\nx", ["x", "x"], 1),
        ("x a b {\na 1\n}\nx {\na 1\n}", ["x", "x", "a"], 1),
        ("x {\na\nb\na 1\n}\nx", ["x", "a", "b", "a", "x"], 2),
        ("x {\nc {\nd {\n}\n}\na 1\n}\nx", ["x", "a", "x"], 1),
        ("x {\na 1 2 {\nb\n}\nb 1\n}", ["x", "a", "b"], 1),
        ("x {\nq\n}\nx {\nq\nr\n}", ["x", "x"], 3),
    ],
)
def test_a_mistake_costs_its_statement_only(text, seen, mistakes):
    found, messages = read_all(controller_for(text), ("a", "b"))
    assert found == seen
    assert len(messages) == mistakes


def test_mistakes_are_raised_together_and_others_pass():
    mistakes = Mistakes()
    controller = controller_for("x a b")
    controller.next()
    for token in controller.arguments():
        with mistakes:
            raise controller.error(token.text, token)
    assert bool(mistakes)
    with pytest.raises(CorefileError) as caught:
        mistakes.settle()
    assert len(caught.value.diagnostics) == 2
    with pytest.raises(ZeroDivisionError), mistakes:
        print(1 / 0)
    Mistakes().settle()


@pytest.mark.parametrize(
    ("words", "doubts"),
    [
        ("example.org 10.0.0.0/8 .", 0),
        ("10.0.0.1", 1),
        ("::1", 1),
        ("30", 1),
        ("30s", 1),
        ("a,b", 1),
        ('"a b"', 1),
        ("a..b", 1),
        ("__PILLAR__DNS__DOMAIN__", 1),
    ],
)
def test_zones_that_were_meant_otherwise(words, doubts):
    controller = controller_for(f"x {words}")
    controller.next()
    zones = controller.zones_from(controller.arguments())
    assert len(controller.warnings) == doubts
    assert bool(zones) == (words not in ("a..b", "__PILLAR__DNS__DOMAIN__"))


@dataclass(frozen=True)
class Quota:
    """A third party's type, which two of its directives share."""

    queries: int = 100


def two_controllers():
    block = corefile.parse(". {\nfirst\nsecond\n}\n", "Corefile").blocks[0]
    config = BlockConfig(corefile.server_keys(block, 53))
    return Controller("first", block, config), Controller("second", block, config)


def test_directives_of_a_block_share_values_by_type():
    first, second = two_controllers()
    assert second.config.get(Timeouts) == Timeouts(read=3.0, idle=10.0, write=5.0)
    assert second.config.get(Quota) == Quota(100)
    first.configure(Quota(5))
    first.configure(Quota(7))  # its own value may be replaced
    assert second.config.get(Quota) == Quota(7)
    assert second.config.get(ListenHosts).hosts == ("",)


def test_two_directives_may_store_equal_values_only():
    first, second = two_controllers()
    first.configure(Debug(tracebacks=True))
    second.configure(Debug(tracebacks=True))
    first.configure(Quota(5))
    with pytest.raises(CorefileError) as caught:
        second.configure(Quota(6))
    assert str(caught.value).splitlines() == [
        "Corefile:3:1: second conflicts with first: both set Quota",
        "  3 | second",
        "    | ^~~~~~",
        "  hint: remove second or first from this server block",
    ]
    assert first.config.get(Quota) == Quota(5)


@pytest.mark.parametrize("text", ["cache\n{\n success 5000\n}", "forward . 192.0.2.1\n{\n}"])
def test_an_opening_brace_on_a_line_of_its_own(text):
    found = refusal(text)
    assert found.message == "an opening brace cannot be on a line of its own"
    assert (found.token.text, found.token.line) == ("{", 3)
    assert found.hint == f"put it at the end of the line with {text.split()[0]}"


def test_a_plugin_in_a_block_that_is_not_closed():
    found = refusal("cache {\n success 5000\nwhoami\n}")
    assert found.message == "unknown option 'whoami'"
    assert found.hint == "whoami is a plugin: to end the block of cache before it, add a '}'"
