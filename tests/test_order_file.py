"""The operator's order of the chain: the file, what it moves, how it is explained."""

import re
import signal
import subprocess
import sys

import pytest

from corepy.corefile import CorefileError
from corepy.loading.order import DIRECTIVES, Constraint, arrange, resolve, setup_order
from corepy.loading.order_table import positions, table
from corepy.loading.orderfile import load_order, parse_order
from corepy.loading.registry import find
from corepy.plugin import Handler, OrderError, hookimpl
from corepy.testing import inline, run_command, serve, with_handlers


def rules(text):
    return parse_order(text, "order.txt")


def order(text, *constraints, installed=()):
    return resolve(constraints, installed, rules(text))


def test_the_file():
    found = rules(
        "# all of it\n\nfoo before cache\n  bar\tafter log errors before cache  # why\r\n"
    )
    assert [(it.subject.text, it.relation, it.other.text) for it in found] == [
        ("foo", "before", "cache"),
        ("bar", "after", "log"),
        ("bar", "after", "errors"),
        ("bar", "before", "cache"),
    ]
    assert found[3].other.location == "order.txt:4:31"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (
            "foo",
            "order.txt:1:1: the rule for 'foo' is incomplete\n  1 | foo\n    | ^~~\n"
            "  hint: a line is: DIRECTIVE before|after DIRECTIVE...",
        ),
        (
            "# x\n  foo befor cache",
            "order.txt:2:7: expected 'before' or 'after', not 'befor'\n"
            "  2 |   foo befor cache\n    |       ^~~~~\n  hint: did you mean 'before'?",
        ),
        (
            "foo before",
            "order.txt:1:5: a directive is missing after 'before'\n  1 | foo before\n    |     ^~~~~~\n"
            "  hint: a line is: DIRECTIVE before|after DIRECTIVE...",
        ),
        (
            "foo before after log",
            "order.txt:1:5: a directive is missing after 'before'\n"
            "  1 | foo before after log\n    |     ^~~~~~\n"
            "  hint: a line is: DIRECTIVE before|after DIRECTIVE...",
        ),
    ],
)
def test_mistakes_are_shown_where_they_are(text, printed):
    with pytest.raises(CorefileError) as caught:
        rules(text)
    assert str(caught.value) == printed


def test_all_mistakes_are_reported():
    with pytest.raises(CorefileError) as caught:
        rules("a\nb before cache\nc sometimes d\n\x1b[31m\xff\n")
    assert [it.token.line for it in caught.value.diagnostics] == [1, 3, 4]
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("make", ["missing", "folder"])
def test_a_file_that_cannot_be_read(make, tmp_path):
    path = tmp_path / "order"
    if make == "folder":
        path.mkdir()
    with pytest.raises(CorefileError, match=r"cannot read the plugin order .*order: "):
        load_order(str(path))


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path):
    path = tmp_path / "order"
    path.write_bytes(b"\xef\xbb\xbfcache before log\r\n")
    (rule,) = load_order(str(path))
    assert (rule.subject.text, rule.other.text) == ("cache", "log")


def test_it_replaces_the_plugins_own_wish():
    constraint = Constraint("foo", "corepy-foo", after=("forward",))
    found = order("foo before log", constraint)
    assert found.index("foo") == found.index("log") - 1
    (position,) = [
        it for it in arrange([constraint], [], rules("foo before log")) if it.directive == "foo"
    ]
    assert position.reason == "before log: order.txt:1, instead of after forward"


def test_a_wish_that_cannot_be_met_can_be_mended():
    constraint = Constraint("foo", "corepy-foo", before=("errors",), after=("cache",))
    with pytest.raises(OrderError):
        order("", constraint)
    found = order("foo after cache", constraint)
    assert found.index("foo") == found.index("cache") + 1


def test_in_tree_plugins_can_be_moved():
    found = order("cache before log\nloadbalance after cache before log")
    at = found.index("cache")
    assert found[at - 1 : at + 3] == ["errors", "cache", "loadbalance", "log"]
    assert sorted(found) == sorted(DIRECTIVES)


def test_the_rest_keeps_its_order():
    moved = {"cache", "errors"}
    found = order("cache before errors\nerrors after forward")
    assert [name for name in found if name not in moved] == [
        name for name in DIRECTIVES if name not in moved
    ]


def test_a_neighbour_follows_what_it_wants_to_stand_by():
    found = order(
        "cache before errors", Constraint("foo", "d", before=("cache",)), Constraint("bar", "d")
    )
    at = found.index("errors")
    assert set(found[at - 3 : at - 1]) == {"foo", "bar"}
    assert found[at - 1] == "cache"


@pytest.mark.parametrize(
    ("text", "said", "at"),
    [
        ("foo before log after cache", "foo before log, log before cache, cache before foo", "log"),
        ("foo before bar\nbar before foo", "bar before foo, foo before bar", "foo"),
        ("cache before cache", "cache before cache", "cache"),
        ("log after cache\ncache after log", "log before cache, cache before log", "log"),
    ],
)
def test_contradictions_are_shown(text, said, at):
    with pytest.raises(OrderError) as caught:
        order(text, Constraint("foo", "corepy-foo"), Constraint("bar", "corepy-bar"))
    assert said in str(caught.value)
    assert caught.value.token.text == at


def test_setups_keep_their_order():
    """*nodecache* wants what *bind* has set, wherever their handlers stand."""
    chain = order("nodecache before bind\ncache before log", Constraint("foo", "d"))
    assert chain.index("nodecache") < chain.index("bind")
    setups = setup_order(chain)
    assert [name for name in setups if name != "foo"] == list(DIRECTIVES)
    assert setups.index("foo") == chain.index("foo")
    assert setup_order(order("", Constraint("foo", "d"))) == order("", Constraint("foo", "d"))


class Note(Handler):
    """Puts its name into the list that goes through the chain."""

    def __init__(self, name):
        self.name = name

    async def serve_dns(self, request):
        request.metadata.setdefault("seen", []).append(self.name)
        return await self.next.serve_dns(request)


class Tell(Handler):
    name = "tell"

    async def serve_dns(self, request):
        from dnslib import RR

        seen = " ".join(request.metadata.get("seen", ()))
        return request.reply(answer=RR.fromZone(f'{request.name} 60 TXT "{seen}"'))


PLUGINS = {
    **with_handlers(foo=lambda: Note("foo"), bar=lambda: Note("bar"), whoami=Tell),
    "early": inline("early", lambda c: c.add_handler(Note("early")), before=("log",)),
}
COREFILE = ". {\nearly\nbar\nfoo\nwhoami\n}"


def seen(server):
    return str(server.ask("example.org.", "TXT").rr[0].rdata).strip('"')


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "early bar foo"),
        ("foo before early", "foo early bar"),
        ("early after cache\nbar after early", "foo early bar"),
        ("whoami before foo", "early"),
    ],
)
def test_a_server_keeps_to_it(text, found):
    with serve(COREFILE, plugins=PLUGINS, order=text) as server:
        assert seen(server) == found


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("foe before cache", "unknown directive 'foe'", "did you mean 'foo'?"),
        ("foo before cahce", "unknown directive 'cahce'", "did you mean 'cache'?"),
        (
            "qqqq before cache",
            "unknown directive 'qqqq'",
            "`corepy -plugins` lists the installed plugins",
        ),
    ],
)
def test_unknown_names(text, message, hint):
    with pytest.raises(CorefileError) as caught, serve(COREFILE, plugins=PLUGINS, order=text):
        pass
    (mistake,) = caught.value.diagnostics
    assert (mistake.message, mistake.hint) == (message, hint)
    assert mistake.token.file == "order.txt"


def test_a_contradiction_stops_the_start():
    text = "foo before early after cache"
    with pytest.raises(CorefileError) as caught, serve(COREFILE, plugins=PLUGINS, order=text):
        pass
    (mistake,) = caught.value.diagnostics
    assert "foo before early" in mistake.message
    assert mistake.token.file == "order.txt"


def test_a_rule_that_means_nothing_is_warned_of():
    with serve(
        ". {\nbind 127.0.0.1\nfoo\nwhoami\n}", plugins=PLUGINS, order="bind after foo"
    ) as server:
        (warning,) = server.server.generation.warnings
        assert str(warning) == (
            "order.txt:1:1: warning: bind handles no queries, so its position in the chain has no effect"
        )


def test_hooks_are_called_in_the_order_of_setup():
    called = []

    def noting(name):
        class Hooks(Note):
            @hookimpl
            def serving(self):
                called.append(name)

        return Hooks(name)

    plugins = {**find(), **with_handlers(cache=lambda: noting("cache"), log=lambda: noting("log"))}
    with serve(". {\nlog\ncache\nwhoami\n}", plugins=plugins, order="cache before log"):
        assert called == ["log", "cache"]


def test_places_are_explained():
    found = {
        name: plugin for name, plugin in PLUGINS.items() if name in ("early", "foo", "log", "cache")
    }
    found["broken"] = inline("broken", lambda _: None, api_version=0)
    shown, problems = positions(rules("foo after cache"), found)
    assert table(shown) == (
        "early  before log: declared by the plugin (corepy-early)\n"
        "log    fixed position\n"
        "cache  fixed position\n"
        "foo    after cache: order.txt:1\n"
    )
    assert problems == [
        "plugin/broken (from corepy-broken): is written for plugin API version 0, this corepy supports 1"
    ]


def corepy(*flags):
    command = [sys.executable, "-m", "corepy", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_explains(tmp_path):
    file = tmp_path / "order"
    file.write_text("log after cache\n")
    done = corepy("-plugins", "-order", "-plugin-order", str(file))
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert sorted(names) == sorted(find())
    assert re.search(
        rf"^cache +fixed position\nlog +after cache: {file}:1$", done.stdout, re.MULTILINE
    )


def test_the_command_refuses(tmp_path):
    file = tmp_path / "order"
    file.write_text("log over cache\n")
    (tmp_path / "Corefile").write_text(". {\nwhoami\n}\n")
    conf = ("-conf", str(tmp_path / "Corefile"))
    for flags in (("-plugins", "-order"), ("-check", *conf), conf):
        done = corepy(*flags, "-plugin-order", str(file))
        assert done.returncode == 1
        assert f"{file}:1:5: expected 'before' or 'after', not 'over'" in done.stderr


@pytest.mark.parametrize("flags", [(), ("-supervise",)])
def test_it_is_read_anew_at_a_reload(tmp_path, flags):
    """With *cache* above it, *log* does not see the second of two equal questions."""
    file = tmp_path / "order"
    file.write_text("cache before log\n")
    text = '. {\n    bind 127.0.0.1\n    cache\n    log\n    template ANY ANY {\n        answer "{{ .Name }} 60 IN A 192.0.2.1"\n    }\n}\n'
    with run_command(text, *flags, "-plugin-order", str(file)) as server:
        for _ in range(2):
            server.ask("a.example.")
        file.write_text("log befor cache\n")
        server.send_signal(signal.SIGUSR1)
        server.wait_for("the old one stays in use")
        assert "did you mean 'before'?" in server.output
        file.write_text("")
        server.send_signal(signal.SIGUSR1)
        server.wait_for("Reloading complete")
        for _ in range(2):
            server.ask("b.example.")
        server.wait_for('"A IN b.example.', times=2)
        assert sum('"A IN a.example.' in line for line in server.lines) == 1


def test_the_reload_plugin_notices_a_change(tmp_path):
    file = tmp_path / "order"
    file.write_text("# nothing\n")
    text = ". {\n    bind 127.0.0.1\n    reload 2s 0s\n    whoami\n}\n"
    with run_command(text, "-plugin-order", str(file)) as server:
        file.write_text("log before cache\n")
        server.wait_for("Reloading complete")
