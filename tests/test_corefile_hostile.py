"""Corefiles that are made to do harm, or end up as if they were: everything comes to an end."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import Corefile, CorefileError, expansion, load, parse
from corepy.corefile.files import read_import


def messages(text: str | bytes, filename: str = "Corefile") -> list[str]:
    with pytest.raises(CorefileError) as caught:
        parse(text, filename)
    return [diagnostic.message for diagnostic in caught.value.diagnostics]


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
    assert [key.text for block in corefile.blocks for key in block.keys] == ["x"]


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
    (block,) = parse(text.format("import s\n" * 10_000)).blocks
    assert len(block.directives["log"]) == 10_000
    assert "more than 10000" in messages(text.format("import s\n" * 10_001))[0]


def test_the_number_of_imported_files_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "MAX_FILE_IMPORTS", 1000)
    (tmp_path / "x").write_text("log")
    text, name = "import x\n" * 1000, str(tmp_path / "Corefile")
    (block,) = parse(f". {{\n{text}}}", name).blocks
    assert len(block.directives["log"]) == 1000
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
    assert "words, imports included" in messages(text, str(tmp_path / "Corefile"))[0]


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
    assert "cannot determine the current folder" in messages("import x")[0]


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


def test_a_folder_in_place_of_a_file_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """*reload* looks every few seconds."""
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        with pytest.raises(IsADirectoryError):
            read_import(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1
