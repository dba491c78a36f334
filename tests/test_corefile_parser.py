"""Server blocks, snippets and imports; the cases of Caddy's parse_test.go, and what they leave out."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import Corefile, CorefileError, expansion, load, parse


def keys(corefile: Corefile) -> list[list[str]]:
    return [[key.text for key in block.keys] for block in corefile.blocks]


def sizes(corefile: Corefile) -> dict[str, int]:
    """The number of tokens of each directive of the first block."""
    if not corefile.blocks:
        return {}
    return {name: len(tokens) for name, tokens in corefile.blocks[0].directives.items()}


def messages(text: str | bytes, filename: str = "Corefile") -> list[str]:
    with pytest.raises(CorefileError) as caught:
        parse(text, filename)
    return [diagnostic.message for diagnostic in caught.value.diagnostics]


def places(text: str, filename: str = "Corefile") -> list[str]:
    with pytest.raises(CorefileError) as caught:
        parse(text, filename)
    return [each.token.place if each.token else "" for each in caught.value.diagnostics]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files to import, which is the current one."""
    (tmp_path / "testdata").mkdir()
    for name, content in {
        "testdata/import_test1.txt": "dir2 arg1 arg2\ndir3",
        "testdata/import_test2.txt": "host1 {\n\tdir1\n\tdir2 arg1\n}",
        "testdata/import_glob0.txt": "glob0.host0 {\n\tdir2 arg1\n}\n\nglob0.host1 {\n}\n",
        "testdata/import_glob1.txt": "glob1.host0 {\n\tdir1\n\tdir2 arg1\n}\n",
        "testdata/import_glob2.txt": "glob2.host0 {\n\tdir2 arg1\n}\n",
        "testdata/props": "prop1 1\n\tprop2 2",
        "testdata/recursive1": "localhost\ndir1\nimport recursive2",
        "testdata/recursive2": "dir2 1",
        "testdata/.hidden.txt": "hidden",
    }.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected_keys", "expected_sizes"),
    [
        ("localhost", [["localhost"]], {}),
        ("localhost\n dir1", [["localhost"]], {"dir1": 1}),
        ("localhost:1234\n dir1 foo bar", [["localhost:1234"]], {"dir1": 3}),
        ("localhost {\n dir1\n }", [["localhost"]], {"dir1": 1}),
        (
            "localhost:1234 {\n dir1 foo bar\n dir2\n }",
            [["localhost:1234"]],
            {"dir1": 3, "dir2": 1},
        ),
        ("http://a https://a\n dir1 foo bar", [["http://a", "https://a"]], {"dir1": 3}),
        ("http://a https://a {\n dir1 foo bar\n}", [["http://a", "https://a"]], {"dir1": 3}),
        ("http://a, https://a {\n dir1 foo bar\n}", [["http://a", "https://a"]], {"dir1": 3}),
        ("a:80, b\n dir1 foo bar\n dir2 baz", [["a:80", "b"]], {"dir1": 3, "dir2": 2}),
        ("a,\n b,\n c", [["a", "b", "c"]], {}),
        ("a, b\n dir1 foo {\n bar baz\n }\n dir2", [["a", "b"]], {"dir1": 6, "dir2": 1}),
        (
            "127.0.0.1\n dir1 {\n bar baz\n }\n dir2 {\n foo bar\n }",
            [["127.0.0.1"]],
            {"dir1": 5, "dir2": 5},
        ),
        ("localhost\n dir1 {\n }", [["localhost"]], {"dir1": 3}),
        (
            "localhost\n dir1 {\n nested {\n foo\n }\n }\n dir2 foo bar",
            [["localhost"]],
            {"dir1": 7, "dir2": 3},
        ),
        ("", [], {}),
        ('""', [], {}),
        (
            "localhost\n dir1 arg1\n import testdata/import_test1.txt",
            [["localhost"]],
            {"dir1": 2, "dir2": 3, "dir3": 1},
        ),
        ("import testdata/import_test2.txt", [["host1"]], {"dir1": 1, "dir2": 2}),
        ("localhost:1234 {\n}\nlocalhost:2015 {\n}", [["localhost:1234"], ["localhost:2015"]], {}),
        ("a, b {\n}\nc, d {\n}", [["a", "b"], ["c", "d"]], {}),
        (
            "import testdata/import_glob*.txt",
            [["glob0.host0"], ["glob0.host1"], ["glob1.host0"], ["glob2.host0"]],
            {"dir2": 2},
        ),
        ("import notfound/*", [], {}),
        ("import testdata/recursive1", [["localhost"]], {"dir1": 1, "dir2": 2}),
        (
            "localhost\n dir1\n proxy {\n import testdata/props\n transparent\n }",
            [["localhost"]],
            {"dir1": 1, "proxy": 8},
        ),
        ("a {\n dir1 1\n dir2\n dir1 3 4\n}", [["a"]], {"dir1": 5, "dir2": 1}),
        # The closing brace of a directive passes for the block's at the end of the file.
        ("a {\n dir1 {\n }", [["a"]], {"dir1": 3}),
        # An import that is no directive.
        ("a {\n basicauth / import password\n}", [["a"]], {"basicauth": 4}),
        # A brace within a word, or as one.
        ("1053{\n log\n}", [["1053{"]], {"log": 1}),
        ('a "{"\n log\n "}"\nb', [["a"], ["b"]], {"log": 1}),
        ("(alone)", [["(alone)"]], {}),
        (",", None, {}),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_accepted(
    text: str, expected_keys: list[list[str]] | None, expected_sizes: dict[str, int]
) -> None:
    if expected_keys is None:
        assert "expected" in messages(text)[0]
        return
    corefile = parse(text)
    assert keys(corefile) == expected_keys
    assert sizes(corefile) == expected_sizes


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("localhost, {\n}", "1:12", "another zone"),
        ("localhost:1234, http://host2,", "1:17", "the file ends"),
        ("localhost\n dir1 {\n foo", "2:7", "never closed"),
        ("localhost\n dir1 {\n } }", "3:4", "unexpected '}'"),
        ("a {\n b", "1:3", "never closed"),
        ("a {", "1:3", "never closed"),
        ("(a)\nfoo", "2:1", "expecting '{'"),
        ("(a) {\n b", "1:5", "never closed"),
        ("(a) {\n}\n(a) {\n}", "3:1", "defined twice"),
        ("(loop) {\nimport loop\n}\nimport loop", "2:8", "imports itself"),
        ("(loop) {\n{ }\nimport loop\n}\nimport loop", "3:8", "imports itself"),
        ("import testdata/import_test1.txt testdata/import_test2.txt", "1:34", "only one argument"),
        ("import testdata/not_found.txt", "1:8", "no file"),
        ("import notfound/file.conf", "1:8", "no file"),
        ("import", "1:1", "import of what"),
        ("import\nfoo", "1:1", "import of what"),
        ('import }{$"', "1:8", "no snippet or file"),
        ('import ""', "1:8", "non-empty"),
        ("import {$NOT_SET}", "1:8", "non-empty"),
        ("import /*/*.txt", "1:8", "too many wildcards"),
        ("import /???/?*?o", "1:8", "too many wildcards"),
        ("import /??", "1:8", "too many wildcards"),
        ("import /[a-z]", "1:8", "too many wildcards"),
        ("import a[", "1:8", "bad import pattern"),
        ("import a*\\", "1:8", "bad import pattern"),
        ("import {$}", "1:8", "no snippet or file"),
        ("import {%}", "1:8", "no snippet or file"),
        ("import {$$}", "1:8", "non-empty"),
        ("import {%%}", "1:8", "no snippet or file"),
        ("import testdata", "1:8", "is a directory"),
        ("import a\0b", "1:8", "no snippet or file"),
        ("a\ndir1\nproxy {\n import testdata/nope\n transparent\n}", "4:9", "no file"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_refused(text: str, place: str, message: str) -> None:
    assert places(text)[0] == f"Corefile:{place}"
    assert message in messages(text)[0]


def test_variables_are_replaced_where_caddy_does() -> None:
    env = {"PORT": "8080", "ADDRESS": "servername.com", "FOOBAR": "foobar", "PART": "r1"}
    for text, expected in {
        "{$ADDRESS}": "servername.com",
        "di{$PART}": "dir1",
        "{$ADDRESS}:{$PORT}": "servername.com:8080",
        "{%ADDRESS%}:{$PORT}": "servername.com:8080",
        "{$ADDRESS}:{%PORT%}": "servername.com:8080",
        ":{$PORT$}": ":",
        ":{%PORT%}\ndir1 {$FOOBAR}": ":8080",
    }.items():
        assert keys(parse(text, env=env)) == [[expected]]
    for text, expected in {
        "{$FOOBAR}": "foobar",
        "{%ADDRESS%}/{%FOOBAR%}": "servername.com/foobar",
        "{%ADDRESS}": "{%ADDRESS}",
        '"Test {$FOOBAR} test"': "Test foobar test",
        '"{{ .Name }} {$FOOBAR}"': "{{ .Name }} foobar",
    }.items():
        token = parse(f":1234\ndir1 {text}", env=env).blocks[0].directives["dir1"][1]
        assert token.text == expected
        assert token.raw == text.strip('"')


def test_variables_in_directives_and_braces() -> None:
    corefile = parse("a {\n{$D} {$BRACE}\n}", env={"D": "log", "BRACE": "{"})
    directive = corefile.blocks[0].statements[0]
    assert directive.name == "log"
    assert [token.text for token in directive.tokens] == ["{$D}", "{"]
    assert [token.text for token in corefile.blocks[0].directives["log"]] == ["{$D}", "{"]


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREPY_TEST_ZONE", "example.org")
    assert keys(parse("{$COREPY_TEST_ZONE}")) == [["example.org"]]
    assert keys(parse("a{$COREPY_TEST_ZONE}", env={})) == [["a"]]


@pytest.mark.parametrize(
    "env",
    [{"A": "{$A}"}, {"A": "{$B}", "B": "{$A}"}, {"A": "{$A}{$A}"}, {"A": "x{$A}"}],
)
def test_a_variable_that_mentions_itself_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(CorefileError, match="mentions itself"):
        parse(". {\n log {$A}\n}", env=env)


def test_snippets() -> None:
    corefile = parse("(common) {\n gzip foo\n errors stderr\n}\nexample.com {\n import common\n}")
    assert keys(corefile) == [["example.com"]]
    assert sizes(corefile) == {"gzip": 2, "errors": 2}
    token = corefile.blocks[0].directives["gzip"][1]
    assert token.place == "Corefile:2:7"
    assert [site.place for site in token.imports] == ["Corefile:6:9"]


def test_a_snippet_is_known_in_imported_files(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("example.com {\n import common\n}")
    corefile = parse(f"(common) {{\n gzip foo\n}}\nimport {tmp_path}/site\n")
    assert keys(corefile) == [["example.com"]]
    gzip = corefile.blocks[0].directives["gzip"][0]
    assert [site.place for site in gzip.imports] == ["Corefile:4:8", f"{tmp_path}/site:2:9"]


def test_a_file_that_is_a_chain_of_imports_names_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("import sub/b")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("import c")
    (tmp_path / "sub" / "c").write_text(". {\n log }\n}")
    (tmp_path / "Corefile").write_text("import a\n")
    with pytest.raises(CorefileError) as caught:
        load(tmp_path / "Corefile")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/sub/c:2:6: unexpected '}}' because no matching opening brace",
        "  2 |  log }",
        "    |      ^",
        f"  imported at {tmp_path}/sub/b:1:8",
        f"  imported at {tmp_path}/a:1:8",
        f"  imported at {tmp_path}/Corefile:1:8",
        "  hint: a closing brace stands on a line of its own",
    ]


def test_load_names_every_file_once(folder: Path) -> None:
    (folder / "Corefile").write_text(
        "import testdata/import_test2.txt\n. {\n import testdata/props\n import testdata/props\n}"
    )
    corefile = load("Corefile")
    assert corefile.files == [
        str(folder / name) for name in ("Corefile", "testdata/import_test2.txt", "testdata/props")
    ]
    assert corefile.sources[0].name == "Corefile"
    assert parse("import testdata/props").files == [str(folder / "testdata/props")]


def test_load_raises_what_the_system_says(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("x*", ["x1", "x2", "xa"]),
        ("x?", ["x1", "x2", "xa"]),
        ("?1", ["x1"]),
        ("*", None),
        (".*", [".dot"]),
        ("*t", [".dot"]),
        ("x\\1", ["x1"]),
        ("\\x*", ["x1", "x2", "xa"]),
        ("sub*/y", ["y"]),
        ("sub?/?", None),
        ("sub*//y", []),
        ("x*/", []),
        ("./x1", ["x1"]),
        ("nothing/../x2", ["x2"]),
        ("w]x", ["w]x"]),
        ("w]y", []),
    ],
)
def test_globs(tmp_path: Path, pattern: str, found: list[str] | None) -> None:
    (tmp_path / "sub1").mkdir()
    for name in ("x1", "x2", "xa", ".dot", "sub1/y", "w]x"):
        (tmp_path / name).write_text(f"{Path(name).name}\n")
    path = str(tmp_path / "Corefile")
    if found is None:
        with pytest.raises(CorefileError):
            parse(f". {{\nimport {pattern}\n}}", path)
        return
    absolute = f"{tmp_path}/{pattern}" if pattern.endswith("/") or "//" in pattern else pattern
    corefile = parse(f". {{\nimport {absolute}\n}}", path)
    assert list(corefile.blocks[0].directives) == found
    assert bool(corefile.warnings) == (not found)


def test_two_blocks_share_nothing() -> None:
    first, second = parse("(s) {\n log a\n}\na {\n import s\n}\nb {\n import s\n log b\n}").blocks
    assert len(first.directives["log"]) == 2
    assert len(second.directives["log"]) == 4


# -- more than one mistake


def test_the_parser_goes_on_after_a_mistake() -> None:
    text = ". {\n import nofile\n log }\n}\nexample.org { errors }\nb, {\n}\nc {\n import\n}\n"
    assert places(text) == [f"Corefile:{place}" for place in ("2:9", "3:6", "5:22", "6:4", "9:2")]


def test_what_follows_from_a_mistake_is_not_reported() -> None:
    # The missing file may have defined the snippet, and its brace may have closed the block.
    assert places("import snippets/all\n. {\n import common\n}\n") == ["Corefile:1:8"]
    assert places(". {\n log }\nexample.org {\n errors {\n") == ["Corefile:2:6"]


def test_mistakes_are_counted_no_further_than_people_read() -> None:
    assert len(messages(". {\n" + " import nofile\n" * 1000 + "}\n")) == 50


def test_an_open_quote_is_shown_before_what_it_causes() -> None:
    with pytest.raises(CorefileError) as caught:
        parse('. {\n log "a\n}\n')
    first, second = caught.value.diagnostics
    assert (first.message, first.severity) == ("the quote is never closed", "warning")
    assert "never closed" in second.message


# -- hints


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("(common) {\n}\n. {\n import comon\n}", "did you mean 'common'?"),
        (". {\n import common\n}\n(common) {\n}", "defined at Corefile:4:1"),
        ("import testdata/import_test1.tx", "did you mean 'testdata/import_test1.txt'?"),
        ("import testdat/import_test1.txt", "there is no folder"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_hints_of_imports(text: str, hint: str) -> None:
    with pytest.raises(CorefileError) as caught:
        parse(text)
    assert hint in (caught.value.diagnostics[0].hint or "")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("1053{\n log\n}", "1:1", "with the brace as its last character"),
        ("1053 {\n}", "1:1", "not as a port"),
        ("127.0.0.1:53 {\n}", "1:1", "not as an address"),
        ("[::1]:53 {\n}", "1:1", "not as an address"),
        ("::1 {\n}", "1:1", "not as an address"),
        ("a,b {\n}", "1:1", "comma included"),
        ("http://a {\n}", "1:1", "scheme included"),
        ("unix://a {\n}", "1:1", "nothing is served"),
        (". {\n}\n}\n", "3:1", "no block is open"),
        ("a\nlog\n}\n", "3:1", "no brace began"),
        ("a {\n dir1 {\n }", "1:3", "never closed"),
        ("(b) {\nx\n}\n(a) {\nimport b\n}\nimport a", "5:1", "not as an import"),
        ("import nothing*", "1:8", "no file matches"),
    ],
)
def test_warnings(text: str, place: str, message: str) -> None:
    (warning,) = parse(text).warnings
    assert warning.token is not None
    assert warning.token.place == f"Corefile:{place}"
    assert warning.severity == "warning"
    assert message in warning.message


def test_no_warnings_for_what_is_usual() -> None:
    text = ".:53 example.org, 10.0.0.0/8 tls://a dns://b:1053 {\n log # x\n}\n(s) {\n}\n"
    assert parse(text).warnings == []


# -- hostile input


def parsed_or_refused(
    content: str | bytes, name: str, env: dict[str, str]
) -> Corefile | CorefileError:
    try:
        return parse(content, name, env)
    except CorefileError as error:
        return error


def test_an_import_cycle_is_named(tmp_path: Path) -> None:
    for name, other in ("a", "b"), ("b", "c"), ("c", "a"):
        (tmp_path / name).write_text(f"import {other}")
    (message,) = messages("import a", str(tmp_path / "Corefile"))
    assert message.startswith("import cycle: ")
    steps = message.removeprefix("import cycle: ").split(" imports ")
    assert len(steps) == 4
    assert steps[0] == steps[-1]


def test_a_file_that_imports_itself(tmp_path: Path) -> None:
    (tmp_path / "Corefile").write_text(". {\n log {\n import Corefile\n }\n}\n")
    with pytest.raises(CorefileError, match="import cycle"):
        load(tmp_path / "Corefile")


def test_a_self_import_that_ends_is_accepted(tmp_path: Path) -> None:
    # The second time, the import stands in a snippet's definition, and is not followed.
    (tmp_path / "caps").write_text("}\n}\n(a) {\n import caps\n")
    corefile = parse("x {\n d {\n d2 {\n import caps\n}\n", str(tmp_path / "Corefile"))
    assert keys(corefile) == [["x"]]


def test_snippets_that_import_each_other() -> None:
    text = "(a) {\n import b\n}\n(b) {\n log\n import a\n}\n. {\n import a\n}\n"
    (message,) = messages(text)
    assert message == "import cycle: (b) imports (a) imports (b)"


def test_snippets_that_double_stop_at_the_limit() -> None:
    doubling = "".join(f"(s{i}) {{\nimport s{i - 1}\nimport s{i - 1}\n}}\n" for i in range(1, 60))
    (message,) = messages(f"(s0) {{\nlog\n}}\n{doubling}. {{\nimport s59\n}}\n")
    assert "more than 10000 imports" in message


def test_ten_thousand_snippets_are_the_most() -> None:
    text = "(s) {{\nlog\n}}\n. {{\n{}}}\n"
    assert sizes(parse(text.format("import s\n" * 10_000))) == {"log": 10_000}
    assert "more than 10000" in messages(text.format("import s\n" * 10_001))[0]


def test_the_number_of_imported_files_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "MAX_FILE_IMPORTS", 1000)
    (tmp_path / "x").write_text("log")
    text, name = "import x\n" * 1000, str(tmp_path / "Corefile")
    assert sizes(parse(f". {{\n{text}}}", name)) == {"log": 1000}
    assert "more than 1000 imports" in messages(f". {{\n{text}import x\n}}", name)[0]


def test_one_pattern_may_bring_more_files_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "MAX_FILE_IMPORTS", 10)
    for number in range(100):
        (tmp_path / f"x{number}").write_text("")
    assert parse(f"import {tmp_path}/*").blocks == []


@pytest.mark.parametrize("lines", ["import x\n" * 3, "word\n" * 1001])
def test_what_is_too_long_with_its_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    monkeypatch.setattr(expansion, "MAX_TOKENS", 1000)
    (tmp_path / "x").write_text("log\n" * 400)
    text = f". {{\n{lines}}}\n"
    assert "words with all imports" in messages(text, str(tmp_path / "Corefile"))[0]


def test_a_long_chain_of_imports() -> None:
    chain = "".join(f"(s{i}) {{\nimport s{i - 1}\n}}\n" for i in range(1, 5000))
    text = f"(s0) {{\nlog {{\n}}\n}}\n{chain}. {{\nimport s4999\n}}\n"
    tokens = parse(text).blocks[0].directives["log"]
    assert len(tokens[0].imports) == 5000
    assert tokens[0] != tokens[1]
    assert "log" in repr(tokens[0])
    # A mistake at its end shows both ends of the chain only.
    with pytest.raises(CorefileError) as caught:
        parse(text.replace("log {\n}\n", "import nofile\n"))
    assert "4992 more imports" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "{" * (1 << 20),
        "{\n" * (1 << 14),
        "}\n" * (1 << 14),
        ". { " * (1 << 14),
        '"' * (1 << 16),
        '"' + '\\"' * (1 << 19),
        "#" * (1 << 20),
        "a#" * (1 << 19),
        "\0" * (1 << 20),
        b"\xff" * (1 << 16),
        "a\r" * (1 << 19),
        "a,\n" * (1 << 15),
        "{$A" * (1 << 18),
        "".join(f"{{$A{i}}}" for i in range(100_000)),
        "a {\n b }\n" * (1 << 12),
        ". {\n" + "a {\n" * 20_000 + "}\n" * 20_001,
    ],
    ids=lambda content: repr(content[:6]),
)
def test_hostile_input_comes_to_an_end(content: str | bytes) -> None:
    outcome = parsed_or_refused(content, "Corefile", {})
    if isinstance(outcome, CorefileError):
        assert len(str(outcome)) < 100_000


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert parse(f"import {tmp_path}/pipe\n").blocks == []


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "no current folder" in messages("import x")[0]


def test_a_file_without_end_is_refused() -> None:
    assert "larger than" in messages("import /dev/zero")[0]
    assert parse("import /dev/null").blocks == []


PIECES = st.sampled_from(
    ["{", "}", "\n", " ", "import", "(s)", "s", '"', "\\", "#", "a", ",", "{$A}", "{%A%}", "log"]
)


@given(st.lists(PIECES, max_size=40).map("".join) | st.text() | st.binary())
@settings(max_examples=300, deadline=None)
def test_any_text_is_parsed_or_refused(content: str | bytes) -> None:
    outcome = parsed_or_refused(content, "/nowhere/Corefile", {"A": "{"})
    if isinstance(outcome, CorefileError):
        assert outcome.diagnostics
        assert all(diagnostic.token for diagnostic in outcome.diagnostics)
        assert str(outcome)
        return
    for block in outcome.blocks:
        assert block.keys
        assert sum(map(len, block.directives.values())) == sum(
            len(statement.tokens) for statement in block.statements
        )
