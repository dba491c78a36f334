"""Server blocks, snippets and imports; the cases of Caddy's parse_test.go, and what they leave out."""

from pathlib import Path

import pytest

from corepy.corefile import Corefile, CorefileError, load, parse
from corepy.corefile.diagnostics import quote


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


def locations(text: str, filename: str = "Corefile") -> list[str]:
    with pytest.raises(CorefileError) as caught:
        parse(text, filename)
    return [each.token.location if each.token else "" for each in caught.value.diagnostics]


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
    ("text", "location", "message"),
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
        ("import testdata/not_found.txt", "1:8", "no such file"),
        ("import notfound/file.conf", "1:8", "no such file"),
        ("import", "1:1", "import needs an argument"),
        ("import\nfoo", "1:1", "import needs an argument"),
        ('import }{$"', "1:8", "no such snippet or file"),
        ('import ""', "1:8", "non-empty"),
        ("import {$NOT_SET}", "1:8", "non-empty"),
        ("import /*/*.txt", "1:8", "too many wildcards"),
        ("import /???/?*?o", "1:8", "too many wildcards"),
        ("import /??", "1:8", "too many wildcards"),
        ("import /[a-z]", "1:8", "too many wildcards"),
        ("import a[", "1:8", "bad import pattern"),
        ("import a*\\", "1:8", "bad import pattern"),
        ("import {$}", "1:8", "no such snippet or file"),
        ("import {%}", "1:8", "no such snippet or file"),
        ("import {$$}", "1:8", "non-empty"),
        ("import {%%}", "1:8", "no such snippet or file"),
        ("import testdata", "1:8", "is a directory"),
        ("import a\0b", "1:8", "no such snippet or file"),
        ("a\ndir1\nproxy {\n import testdata/nope\n transparent\n}", "4:9", "no such file"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_refused(text: str, location: str, message: str) -> None:
    assert locations(text)[0] == f"Corefile:{location}"
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
    with pytest.raises(CorefileError, match="contains the variable itself"):
        parse(". {\n log {$A}\n}", env=env)


def test_snippets() -> None:
    corefile = parse("(common) {\n gzip foo\n errors stderr\n}\nexample.com {\n import common\n}")
    assert keys(corefile) == [["example.com"]]
    assert sizes(corefile) == {"gzip": 2, "errors": 2}
    token = corefile.blocks[0].directives["gzip"][1]
    assert token.location == "Corefile:2:7"
    assert [site.location for site in token.imports] == ["Corefile:6:9"]


def test_a_snippet_is_known_in_imported_files(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("example.com {\n import common\n}")
    corefile = parse(f"(common) {{\n gzip foo\n}}\nimport {tmp_path}/site\n")
    assert keys(corefile) == [["example.com"]]
    gzip = corefile.blocks[0].directives["gzip"][0]
    assert [site.location for site in gzip.imports] == ["Corefile:4:8", f"{tmp_path}/site:2:9"]


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
        "  hint: put the closing brace on a line of its own",
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
    assert locations(text) == [
        f"Corefile:{location}" for location in ("2:9", "3:6", "5:22", "6:4", "9:2")
    ]


def test_what_follows_from_a_mistake_is_not_reported() -> None:
    # The missing file may have defined the snippet, and its brace may have closed the block.
    assert locations("import snippets/all\n. {\n import common\n}\n") == ["Corefile:1:8"]
    assert locations(". {\n log }\nexample.org {\n errors {\n") == ["Corefile:2:6"]


ONE_ARGUMENT = "import takes only one argument (a file, a pattern or a snippet)"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import nofile a b c\n. {\n}\n", {"Corefile:1:15": ONE_ARGUMENT}),
        (". {\n import nofile a b c\n}\n", {"Corefile:2:16": ONE_ARGUMENT}),
        (". {\n import nofile a {\n  x\n }\n}\n", {"Corefile:2:16": ONE_ARGUMENT}),
        (". {\n import nofile {\n  x\n }\n}\n", {"Corefile:2:16": ONE_ARGUMENT}),
        (". {\n import nofile }\nb {\n}\n", {"Corefile:2:16": ONE_ARGUMENT}),
        ("import nofile {\n x\n}\n. {\n}\n", {"Corefile:1:15": ONE_ARGUMENT}),
        (
            ". {\n import {$NOTHING} {\n  x\n }\n}\n",
            {"Corefile:2:9": "import requires a non-empty path, and '{$NOTHING}' is empty"},
        ),
        (
            ". {\n import\n errors {\n }\n}\n",
            {"Corefile:2:2": "import needs an argument: a file, a pattern or a snippet"},
        ),
    ],
)
def test_nothing_follows_from_a_wrong_import(text: str, found: dict[str, str]) -> None:
    """The words behind it are passed over, but for the braces, which others depend on."""
    assert dict(zip(locations(text), messages(text), strict=True)) == found


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
        (
            ". {\n import common\n}\n(common) {\n}",
            "the snippet is defined at Corefile:4:1; move it above the import",
        ),
        ("import testdata/import_test1.tx", "did you mean 'testdata/import_test1.txt'?"),
        ("import testdat/import_test1.txt", "the folder {folder} does not exist"),
        ("import testdata/something_else", None),
        ("import something_else", None),
        ("import testdata", None),
    ],
)
def test_hints_of_imports(text: str, hint: str | None, folder: Path) -> None:
    with pytest.raises(CorefileError) as caught:
        parse(text)
    found = caught.value.diagnostics[0].hint
    assert found == (hint and hint.format(folder=quote(f"{folder}/testdat")))


@pytest.mark.parametrize(
    ("text", "location", "message"),
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
        ("a\nlog\n}\n", "3:1", "without an opening brace"),
        ("a {\n dir1 {\n }", "1:3", "never closed"),
        ("(b) {\nx\n}\n(a) {\nimport b\n}\nimport a", "5:1", "not as an import"),
        ("import nothing*", "1:8", "no file matches"),
    ],
)
def test_warnings(text: str, location: str, message: str) -> None:
    (warning,) = parse(text).warnings
    assert warning.token is not None
    assert warning.token.location == f"Corefile:{location}"
    assert warning.severity == "warning"
    assert message in warning.message


def test_no_warnings_for_what_is_usual() -> None:
    text = ".:53 example.org, 10.0.0.0/8 tls://a dns://b:1053 {\n log # x\n}\n(s) {\n}\n"
    assert parse(text).warnings == []
