"""Prose is plain: rare are the words that make sentences hard to read; see `tools/language.py`."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import language  # noqa: E402  # found by sys.path

CODE = [
    path
    for folder in ("corepy", "plugins", "examples", "benchmarks", "tools")
    for path in language.files([str(ROOT / folder)])
    if path.suffix == ".py" and "tests" not in path.parts
]
DOCUMENTS = [
    path
    for name in (
        *(path.name for path in sorted(ROOT.glob("*.md"))),
        *("docs", "deploy", "editors", "examples", "plugins"),
    )
    for path in language.files([str(ROOT / name)])
    if path.suffix == ".md"
]


@pytest.mark.parametrize(
    ("files", "text_of"),
    [(CODE, language.prose), (DOCUMENTS, language.prose), (CODE, language.messages)],
    ids=["code", "documents", "messages"],
)
def test_words_that_make_sentences_hard_to_read_are_rare(files, text_of):
    assert len(files) > 20
    assert language.excess(map(text_of, files)) == {}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_is_wrapped(path):
    text = re.sub(r"(?ms)^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"))
    prose = [line for line in text.splitlines() if not re.match(r"\s*[|!<\[#]| {4}", line)]
    assert [line for line in prose if len(line) > 100 and " " in line.strip()[:90]] == []


def test_only_prose_is_measured(tmp_path):
    module = tmp_path / "module.py"
    module.write_text('"""Nobody."""\nwhat = "who"  # noqa: E501\nwho = 1  # what is it\n')
    page = tmp_path / "page.md"
    page.write_text("It lies\nhere.\n\n```\nwho\n```\nThat is\nno `what`.\n")
    ratios = language.ratios([language.prose(module)])
    assert [name for name, ratio in ratios.items() if ratio] == ["what", "(?:no|some|any)body"]
    assert ratios["what"] == 250
    ratios = language.ratios([language.prose(page)])
    assert [name for name, ratio in ratios.items() if ratio] == ["stands?|lies", "is no|is none"]


def test_messages_are_literals_of_three_words(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        '"""Who lies here."""\n'
        'log("what stands", f"{what}: who are {f(\'nobody reads this\')} now")\n'
        'class A:\n    x = 1\n    """What is it."""\n'
    )
    assert language.messages(module).split("\n\n") == [": who are   now", "nobody reads this"]
