"""The glossary is sorted, and defines terms that the documentation or the docstrings use."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import language  # noqa: E402  # found by sys.path

GLOSSARY = ROOT / "docs" / "glossary.md"
TERMS = re.findall(r"^\* \*\*(.+?)\*\*: ", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def prose():
    """Return all other documents and docstrings, as one line."""
    names = ("docs", "corepy", "README.md", *(str(it) for it in ROOT.glob("plugins/*")))
    paths = language.files([str(ROOT / name) for name in names])
    texts = (
        language.prose(path) for path in paths if path != GLOSSARY and "tests" not in path.parts
    )
    return " ".join(" ".join(texts).lower().split())


def test_terms_are_sorted_and_unique():
    assert len(TERMS) > 20
    assert sorted(set(TERMS)) == TERMS


def test_each_entry_is_one_sentence():
    entries = re.split(r"^\* ", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert [it for it in entries if len(re.findall(r"\.(?:\s|$)", it)) != 1] == []


@pytest.mark.parametrize("term", TERMS)
def test_terms_are_used(term, prose):
    stem = term.removesuffix("e").replace("reply", "repl")  # reconciles, replies
    assert re.search(rf"\b{re.escape(stem)}", prose)
