"""How Corefiles are formatted, and that it never changes what they say."""

import itertools
import os
import random
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from corepy import corefile
from corepy.commands import fmt
from corepy.corefile import CorefileError, format_text, parse
from corepy.corefile.lexer import source_of, tokenize

ROOT = Path(__file__).parent.parent
FENCED = re.compile(r"^(```|~~~) *corefile\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


def corefiles_of_the_tree():
    documents = [
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("plugins/*/README.md"),
    ]
    texts = [block for document in documents for _, block in FENCED.findall(document.read_text())]
    golden = (ROOT / "tests" / "golden" / "mistakes.txt").read_text()
    bodies = re.split(r"^=== .*\n", golden, flags=re.MULTILINE)[1:]
    texts += [re.split(r"^---\n", body, maxsplit=1, flags=re.MULTILINE)[0] for body in bodies]
    texts.append((ROOT / "examples" / "Corefile").read_text())
    for path in [*ROOT.glob("tests/*.py"), *ROOT.glob("plugins/*/tests/*.py")]:
        texts += re.findall(r'"""\\?\n?(\S[^"]*?\{\n[^"]*?)"""', path.read_text())
    return sorted(set(texts))


TREE = corefiles_of_the_tree()


def relations(tokens):
    """What tokens say, and what plugins can tell of the lines that they stand on."""
    told = [(token.text, token.quoted) for token in tokens]
    lines = [(one.same_line(two), one.before_line(two)) for one, two in itertools.pairwise(tokens)]
    return told, lines


def meaning(text):
    """All that a Corefile says; its mistakes, without their places, if it has any."""
    try:
        read = parse(text, "/nowhere/Corefile", {"ONE": "one", "BRACE": "{", "NONE": ""})
    except CorefileError as error:
        return sorted(diagnostic.message for diagnostic in error.diagnostics)
    return [
        (
            [key.text for key in block.keys],
            [(name, relations(tokens)) for name, tokens in block.statements],
        )
        for block in read.blocks
    ]


def comments(text):
    """The comments, in order, with single spaces."""
    source, found, end = source_of("x", text), [], 0
    lines = source.text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    ends = [(starts[token.line - 1] + token.column - 1, token.length) for token in tokenize(source)]
    for start, length in [*ends, (len(source.text), 0)]:
        gap = source.text[end:start].replace("\r", "")
        found += [" ".join(match.split()) for match in re.findall(r"#[^\n]*", gap)]
        end = start + length
    return found


def check(text):
    """Format `text`, and see that nothing is lost; return the result, None if it is refused."""
    refusal = None
    try:
        formatted = format_text(text)
    except CorefileError as error:
        refusal = str(error)
    if refusal is not None:
        assert refusal
        assert "mistake of corepy" not in refusal
        return None
    assert meaning(formatted) == meaning(text)
    assert format_text(formatted) == formatted
    assert '"' in text or "\n\n\n" not in formatted
    assert comments(formatted) == comments(text)
    return formatted


@pytest.mark.parametrize("text", TREE)
def test_corefiles_of_the_tree_mean_the_same(text):
    check(text)


def test_there_are_enough_of_them():
    assert sum(check(text) is not None for text in TREE) > 100


def test_the_example_is_formatted():
    assert fmt.main(["-check", str(ROOT / "examples" / "Corefile")]) == 0


WORDS = st.sampled_from(
    ["whoami", "example.org", ".:53", "import", "snip", "(snip)", "{$ONE}", "{%ONE%}", "{$NONE}",
     "{$BRACE}", "a,", "\\", '"a b"', '""', '"{"', '"}"', '"a\\"b"', '"a\n  b"', '"a\r\nb"', 'a"b', "a#b",
     "a\rb", "{", "}", "{", "}", "#", "\u00e9", "tls://x", "10.0.0.0/8", "\ufeff"]
)  # fmt: skip
GAPS = st.sampled_from(
    [
        " ",
        "\n",
        "  ",
        "\t",
        "\n\n",
        "\n\n\n\n",
        "\r\n",
        " # note\n",
        "# {\n",
        "\n  # }\r\n",
        "\n\u00a0",
        "",
    ]
)
ANYTHING = st.lists(st.tuples(WORDS, GAPS), max_size=30).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


@st.composite
def lines(draw, depth=0):
    """Lines of a block: directives, some with blocks of their own."""
    written = []
    for _ in range(draw(st.integers(0, 4))):
        arguments = draw(
            st.lists(st.sampled_from(["a", "30", '"x  y"', "{$ONE}", "b#c"]), max_size=3)
        )
        line = draw(st.sampled_from(["\t", "  ", ""])) + draw(st.sampled_from(["  ", " "])).join(
            [draw(st.sampled_from(["log", "cache", "import snip", "forward"])), *arguments]
        )
        end = draw(st.sampled_from(["\n", " # why\n", "\r\n", "\n\n\n", "\n# own line\n"]))
        if depth < 2 and "import" not in line and draw(st.booleans()):
            line += (
                " {"
                + draw(st.sampled_from(["\n", " # in\n", "\n\n"]))
                + draw(lines(depth + 1))
                + "}"
            )
        written.append(line + end)
    return "".join(written)


@st.composite
def blocks(draw):
    """Corefiles that are valid, in many ways of writing them."""
    text = draw(st.sampled_from(["", "\ufeff", "\n\n# head\n\n"]))
    text += "(snip)" + draw(st.sampled_from([" {\n", "\n{\n", " { "])) + "errors\n  whoami x\n}\n"
    for number in range(draw(st.integers(0, 3))):
        keys = draw(
            st.sampled_from(["k", "k a.k", "k, a.k", "k,\n a.k", "{$ONE}.k", "tls://k:853"])
        )
        text += keys.replace("k", f"z{number}")
        text += draw(
            st.sampled_from(
                [" {\n", "\n{\n", "\n\n{\n", " { ", " { # c\n", " # c\n{\n", "\n# c\n{\n"]
            )
        )
        text += draw(lines()) + draw(st.sampled_from(["}\n", "  }\n\n\n", "} "]))
    return text


@given(blocks())
@settings(deadline=None, max_examples=200)
def test_valid_corefiles_keep_their_meaning(text):
    if not any(isinstance(part, str) for part in meaning(text)):
        assert check(text) is not None
    check(text)


@given(ANYTHING)
@settings(deadline=None, max_examples=600)
@example("\ufeff\ufeffa {\n}\n")
@example("a {\n} b\n{ whoami }\n")
@example("a\ncache {\n x\n}\nforward . b { c\n}\n")
@example("} b\nwhoami { x\n}\n")
@example("(a)\n{ import b # c\n}\n")
@example("import x\n{\n}\n")
@example('a "{"\n"}"\n')
@example('whoami {$BRACE} "{" "}" ')
@example("{$BRACE}\n{ whoami }\n")
@example("{$ONE}\n{\nwhoami\n}\n")
@example("{$ONE} { whoami }\nb {\n}\n")
def test_any_text_keeps_its_meaning_or_is_refused(text):
    check(text)


@given(st.sampled_from(TREE), st.integers(0, 2**32))
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_corefiles_keep_their_meaning(text, seed):
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(text))
        cut = at + chance.choice([0, 0, 1, 5, 30])
        text = (
            text[:at]
            + chance.choice(["", "{", "}", "\n", " ", '"', "#", "\r", "\n\n\n", "\t", ","])
            + text[cut:]
        )
    check(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("\n\n", ""),
        ("# only\n", "# only\n"),
        (". {\n}", ". {\n}\n"),
        (".  {  whoami\n}\n", ". {\n    whoami\n}\n"),
        (".\n{\nwhoami\n}\n", ". {\n    whoami\n}\n"),
        ("a, b,\nc {\n}\n", "a, b,\nc {\n}\n"),
        (". # all\n{\nwhoami\n}\n", ". # all\n{\n    whoami\n}\n"),
        (".:53\nwhoami\nlog\n", ".:53\nwhoami\nlog\n"),
        (". {\ncache 30 {\nsuccess 10\n}\n}\n", ". {\n    cache 30 {\n        success 10\n    }\n}\n"),
        (". {\n forward . 1.1.1.1 { force_tcp }\n}", ". {\n    forward . 1.1.1.1 { force_tcp }\n}\n"),
        (". {\r\n\r\n  log # why\r\n\r\n\r\n errors\r\n\r\n}\r\n", ". {\n    log # why\n\n    errors\n}\n"),
        ("a {\n}\nb {\n}\n", "a {\n}\nb {\n}\n"),
        ("a {\n}\n\n\n\nb {\n}\n", "a {\n}\n\nb {\n}\n"),
        ("(s) {\nlog\n}\n. {\nimport s\n}\n", "(s) {\n    log\n}\n. {\n    import s\n}\n"),
        ("import  conf.d/*\n", "import conf.d/*\n"),
        ('. {\ntemplate IN A {\nanswer "a  b\n   c"   d\n}\n}\n',
         '. {\n    template IN A {\n        answer "a  b\n   c" d\n    }\n}\n'),
        ("{$HOST}:53  {\nlog {%X%}\n}\n", "{$HOST}:53 {\n    log {%X%}\n}\n"),
        (". {\nwhoami \\\nlog\n}\n", ". {\n    whoami \\\n    log\n}\n"),
        ("errors\n  cache {\n success 100\n}\n", "errors\ncache {\n    success 100\n}\n"),
    ],
)  # fmt: skip
def test_the_form(before, after):
    assert format_text(before) == after
    assert check(before) == after


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (". {\n whoami\n", "this brace is never closed"),
        ('. {\n log "a\n}\n', "the quote is never closed"),
        (". {\n whoami }\n", "unexpected '}'"),
        (b". {\n log \xff\n}\n", r"line 2 is not UTF-8 \(byte 9 of the file\)"),
        ("(a) {\n}\n(a) {\n}\n", "defined twice"),
    ],
)
def test_what_cannot_be_parsed_is_refused(text, message):
    with pytest.raises(CorefileError, match=message):
        format_text(text)


def test_imports_are_not_followed():
    text = ". {\n    import nowhere/at/all\n    import not_a_snippet\n}\n"
    assert format_text(text) == text


# -- the command


UGLY = ". {\n  whoami\n}"
PRETTY = ". {\n    whoami\n}\n"


def test_files_are_changed_where_they_lie(tmp_path, capsys):
    ugly, pretty, link = tmp_path / "ugly", tmp_path / "pretty", tmp_path / "link"
    ugly.write_text(UGLY)
    ugly.chmod(0o640)
    pretty.write_text(PRETTY)
    link.symlink_to("ugly")
    before = pretty.stat()
    assert fmt.main([str(link), str(pretty)]) == 0
    assert capsys.readouterr().out == f"{link}\n"
    assert ugly.read_text() == PRETTY
    assert stat.S_IMODE(ugly.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert pretty.stat().st_mtime_ns == before.st_mtime_ns
    assert pretty.stat().st_ino == before.st_ino
    assert sorted(os.listdir(tmp_path)) == ["link", "pretty", "ugly"]
    assert fmt.main([str(ugly)]) == 0
    assert capsys.readouterr().out == ""


def test_without_a_file_it_is_the_corefile(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fmt.main([]) == 1
    assert capsys.readouterr().err == "corepy fmt: Corefile: No such file or directory\n"
    Path("Corefile").write_text(UGLY)
    assert fmt.main([]) == 0
    assert Path("Corefile").read_text() == PRETTY


def test_check_shows_what_would_change_and_changes_nothing(tmp_path, capsys):
    path = tmp_path / "Corefile"
    path.write_text(UGLY)
    for spelling in ("-check", "--check"):
        assert fmt.main([spelling, str(path)]) == 1
        assert capsys.readouterr().out == (
            f"--- {path}\n+++ {path} (formatted)\n@@ -1,3 +1,3 @@\n . {{\n-  whoami\n-}}\n"
            "\\ No newline at end of file\n+    whoami\n+}\n"
        )
    assert path.read_text() == UGLY
    path.write_text(PRETTY)
    assert fmt.main(["-check", str(path)]) == 0
    assert capsys.readouterr().out == ""
    for odd in (b"\xef\xbb\xbf" + PRETTY.encode(), PRETTY.replace("\n", "\r\n").encode()):
        path.write_bytes(odd)
        assert fmt.main(["-check", str(path)]) == 1
        assert fmt.main([str(path)]) == 0
        assert path.read_text() == PRETTY


def test_what_is_refused_is_left_and_the_others_are_done(tmp_path, capsys):
    bad, ugly = tmp_path / "bad", tmp_path / "ugly"
    bad.write_text(". {\n  whoami\n")
    ugly.write_text(UGLY)
    assert fmt.main([str(bad), str(tmp_path), str(ugly)]) == 1
    assert bad.read_text() == ". {\n  whoami\n"
    assert ugly.read_text() == PRETTY
    err = capsys.readouterr().err
    assert f"{bad}:1:3: unexpected end of file: this brace is never closed\n  1 | . {{\n" in err
    assert f"corepy fmt: {tmp_path}: Is a directory\n" in err


MANIFEST = """\
apiVersion: v1
kind: ConfigMap
data:
  Corefile: |
    .:53 {
        whoami
    }
"""


@pytest.mark.parametrize(
    "text", [MANIFEST, '{"apiVersion": "v1", "kind": "ConfigMap", "data": {}}']
)
def test_a_manifest_is_not_changed(tmp_path, capsys, text):
    """Its words are those of a Corefile, but without the indentation it is another document."""
    path = tmp_path / "dns.yaml"
    path.write_text(text)
    assert fmt.main([str(path)]) == 1
    assert path.read_text() == text
    assert f"{path} is a Kubernetes manifest, not a Corefile\n" in capsys.readouterr().err


def test_standard_input():
    command = [sys.executable, "-m", "corepy", "fmt", "-"]
    done = subprocess.run(command, input=UGLY, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (PRETTY, "")
    done = subprocess.run([*command, "-check"], input=UGLY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith("--- stdin\n")
    done = subprocess.run(command, input=". {", capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "stdin:1:3: " in done.stderr


def test_a_reader_that_has_seen_enough(tmp_path):
    path = tmp_path / "Corefile"
    path.write_text(UGLY + "\n" * 2 + "# line\n   \n" * 50_000)
    command = [sys.executable, "-m", "corepy", "fmt", "-check", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        fmt.main(["-nonsense"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err == "corepy fmt: unrecognized arguments: -nonsense; see corepy fmt -help\n"


def test_what_the_module_offers():
    assert corefile.format_text is format_text


def test_the_manual_shows_what_becomes_of_a_corefile():
    text = (ROOT / "docs" / "corefile.md").read_text()
    *_, before, after = [block for _, block in FENCED.findall(text)]
    assert before != after
    assert format_text(before) == after
    for block in [block for _, block in FENCED.findall(text)][:-2]:
        assert len(format_text(block).splitlines()) == len(block.splitlines())


def test_the_manual_shows_a_mistake_as_it_is_printed():
    text = (ROOT / "docs" / "corefile.md").read_text()
    (shown,) = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert shown in (ROOT / "tests" / "golden" / "mistakes.txt").read_text()
