"""Every `corepy ...` command line in a document could be typed: its flags and commands exist."""

import contextlib
import io
import re
import shlex
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from corepy import cli
from corepy.loading import plugin_commands
from corepy.loading.order import DIRECTIVES

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import plugin_index  # noqa: E402  # found by sys.path
from plugin_folders import plugins  # noqa: E402  # found by sys.path

DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(
        path
        for folder in ("docs", "deploy", "editors", "examples", "plugins")
        for path in sorted((ROOT / folder).rglob("*.md"))
    ),
]
SHELL = re.compile(r"^( *)(```|~~~) *sh\n(.*?)^ *\2$", re.MULTILINE | re.DOTALL)
IN_TEXT = re.compile(r"`(corepy (?:-|[a-z])[^`]*)`")
WORD_OF_A_COMMAND = re.compile(r"(?:^|[|;&] *|-- )(?:\S*/)?corepy((?: .*)?)$")
FLAGS = {name for action in cli._parser()._actions for name in action.option_strings}
COMMANDS = {entry.name: entry for entry in entry_points(group=plugin_commands.GROUP)}


def lines(text):
    """Yield what follows `corepy` in each command line of a document."""
    for *_, block in SHELL.findall(text):
        for line in block.splitlines():
            found = WORD_OF_A_COMMAND.search(line.split("#")[0].rstrip())
            if found:
                yield found[1]
    for line in IN_TEXT.findall(" ".join(text.split())):
        yield line.removeprefix("corepy")


def help_of(name, words):
    """What a plugin's command says of itself, or of its command that `words` are."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        COMMANDS[name].load()([*words, "-h"])
    return said.getvalue()


def unknown(arguments):
    """The words of a command line that corepy does not know."""
    words = [word.strip("[]") for word in shlex.split(arguments)]
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    if not words or words[0].startswith("-"):
        return [flag for flag in flags if flag not in FLAGS]
    name, *rest = words
    if name not in COMMANDS:
        return [name]
    choices = [word for word in rest[:1] if not word.startswith("-")]
    helps = [help_of(name, [word]) for word in "|".join(choices).split("|") if word]
    known = "".join(helps or [help_of(name, [])])
    return [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}\b", known)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_are_of_this_corepy(path):
    assert [line for line in lines(path.read_text()) if unknown(line)] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (" -conf Corefile -check", []),
        (" -confg Corefile", ["-confg"]),
        (" nodecache status -json", []),
        (" nodecache status -jsn", ["-jsn"]),
        (" nodcache status", ["nodcache"]),
        (" cache purge -zone example.org", []),
    ],
)
def test_what_is_wrong_is_seen(arguments, words):
    assert unknown(arguments) == words


def test_command_lines_are_found():
    assert len([line for path in DOCUMENTS for line in lines(path.read_text())]) > 25


def test_every_flag_is_documented():
    manual = (ROOT / "docs/command.md").read_text()
    short = {name for name in FLAGS if not name.startswith("--")}
    assert {name for name in short if f"`{name}`" not in manual} == set()


OWN = {"blocklist", "console", "no_aaaa", "search_guard"}


def test_the_table_of_directives_is_true():
    """docs/migrating.md says of each directive of CoreDNS whether it is here."""
    text = plugin_index.directives(plugins())
    rows = dict(re.findall(r"^\| ([^|]+) \| ((?:\*\w+\*(?:, )?)+) \|$", text, re.MULTILINE))
    said = {kind: set(re.findall(r"\w+", row)) for kind, row in rows.items()}
    here = {path.parent.name for path in ROOT.glob("plugins/*/README.md")}
    assert said["here"] == here & {*DIRECTIVES} - {"nodecache"} - OWN
    assert said["here, of coredns-nodecache"] == {"nodecache"}
    assert said["here, of corepy"] == OWN
    assert said.get("not here", set()) == {*DIRECTIVES} - here


def test_what_differs_from_coredns_is_one_table():
    """Each row names the matter and both behaviours; a list beside it would soon be half of it."""
    text = (ROOT / "docs/migrating.md").read_text()
    section = text.partition("\n## From CoreDNS\n")[2].partition("\n## ")[0]
    assert re.findall(r"^[*-] ", section, re.MULTILINE) == []
    head, rule, *rows = re.findall(r"^\|.*\|$", section, re.MULTILINE)
    assert (head, rule) == ("| | CoreDNS | corepy |", "| --- | --- | --- |")
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    headings = [row for row in cells if row[1:] == ["", ""]]
    assert all(re.fullmatch(r"\*\*.+\*\*", row[0]) for row in headings)
    assert [row for row in cells if len(row) != 3 or (row not in headings and not all(row))] == []


def test_only_flags_that_node_cache_has_are_explained():
    """Those of its cmd/node-cache/main.go, and CoreDNS's, which it inherits."""
    main = (
        "localip setupinterface interfacename syncinterval metrics-listen-address"
        " prometheus-listen-address setupiptables basecorefile corefile kubednscm upstreamsvc"
        " health-port skipteardown reloadwithsignal"
    )
    text = (ROOT / "docs/migrating.md").read_text()
    section = text.partition("| flag of node-cache |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`-([a-z.-]+)", cell)}
    assert named - {"conf", "dns.port", "pidfile"} == set(main.split())
