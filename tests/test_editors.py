"""The grammar for editors, tried with TextMate's rules on every Corefile of the repository.

What each word is, the project's own parser says; the grammar has to come to the same from the text.
"""

import json
import re
import textwrap
from pathlib import Path

import pytest

from corepy import corefile

ROOT = Path(__file__).parent.parent
EXTENSION = ROOT / "editors" / "vscode"
GRAMMAR = EXTENSION / "syntaxes" / "corefile.tmLanguage.json"
FOLDERS = ("docs", "deploy", "editors", "examples", "plugins")
FENCED = re.compile(r"^( *)(```|~~~) *corefile\n(.*?)^ *\2$", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    f"{path.relative_to(ROOT)}:{number}": textwrap.dedent(block)
    for path in [
        ROOT / "README.md",
        *(it for name in FOLDERS for it in (ROOT / name).rglob("*.md")),
    ]
    for number, (*_, block) in enumerate(FENCED.findall(path.read_text()), 1)
}
EXAMPLES |= {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "examples").rglob("*Corefile*")
}
EVERYTHING = """\
# a comment
(snippet) {
    log
}
import ./more/*.conf

a.example:53, b.example {$ZONE} {
    import snippet x # behind
    cache 30 {
        success 5000 1h30m # behind, too
        prefetch 3 60s 15%
    }
    forward . 192.0.2.1:53 [2001:db8::1]:53 {%UPSTREAM%}{$REST} {
        max_fails 1
    }
    template IN A {
        match "^ip-(?P<a>[0-9]{2})[.]\\"x$"
        answer "{{ .Name }} 60 IN A
            {$ADDRESS}"
        match ^a{2}$
    }
}
. { whoami }
"""


@pytest.fixture
def scopes(tmp_path, monkeypatch):
    """A function: the innermost scope of each character of a text, by line and column."""
    monkeypatch.chdir(tmp_path)  # the module makes a folder for its cache where it is imported
    from textmate_grammar.parsers.base import LanguageParser

    parser = LanguageParser(json.loads(GRAMMAR.read_text()))

    def of(text):
        parsed = parser.parse_string(text)
        return {
            (line + 1, column + offset + 1): names
            for (line, column), content, names in parsed.flatten()
            for offset in range(len(content))
        }

    return of


def is_a(found, place, name):
    return any(scope.startswith(name) for scope in found.get(place, ()))


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_the_grammar_sees_what_the_parser_sees(text, scopes):
    found = scopes(text)
    for block in corefile.parse(text).blocks:
        for key in block.keys:
            assert is_a(found, (key.line, key.column), ("entity.name.section", "variable")), key
        for directive in block.statements:
            name, *rest = directive.tokens
            assert is_a(found, (name.line, name.column), "keyword.other.directive"), name
            for before, token in zip(directive.tokens, rest, strict=False):
                kind = expected(before, token)
                assert is_a(found, (token.line, token.column), kind), (token, kind)


def expected(before, token):
    if token.raw in ("{", "}"):
        return "punctuation.section.options"
    if before.before_line(token) or before.raw == "{":
        return "support.type.property-name.option"
    return ("string", "constant", "variable")


def test_every_kind_of_word(scopes):
    found = scopes(EVERYTHING)
    lines = EVERYTHING.splitlines()
    for text, kind in (
        ("# a comment", "comment.line"),
        ("snippet)", "entity.name.label"),
        ("import ./more", "keyword.control.import"),
        ("./more", "string.unquoted"),
        ("b.example", "entity.name.section"),
        ("{$ZONE}", "variable.other.environment"),
        ("# behind\n", "comment.line"),
        ("success", "support.type.property-name"),
        ("5000", "constant.numeric"),
        ("1h30m", "constant.numeric"),
        ("15%", "constant.numeric"),
        ("# behind, too", "comment.line"),
        ("192.0.2.1:53", "constant.other.address"),
        ("[2001:db8::1]:53", "constant.other.address"),
        ("{%UPSTREAM%}", "variable.other.environment"),
        ("{$REST}", "variable.other.environment"),
        ('"^ip', "string.quoted"),
        ('\\"x', "constant.character.escape"),
        ("x$", "string.quoted"),
        ("{$ADDRESS}", "variable.other.environment"),
        ("^a{2}$", "string.unquoted"),
        ("whoami", "keyword.other.directive"),
    ):
        number = next(n for n, line in enumerate(lines, 1) if text in f"{line}\n")
        column = lines[number - 1].index(text.rstrip("\n")) + 1
        assert is_a(found, (number, column), kind), (text, found.get((number, column)))


def test_the_extension_names_files_that_are_there():
    package = json.loads((EXTENSION / "package.json").read_text())
    (language,) = package["contributes"]["languages"]
    (grammar,) = package["contributes"]["grammars"]
    assert (EXTENSION / grammar["path"]).samefile(GRAMMAR)
    assert json.loads((EXTENSION / language["configuration"]).read_text())["comments"]
    assert grammar["scopeName"] == json.loads(GRAMMAR.read_text())["scopeName"]
    assert grammar["language"] == language["id"]
