"""Every Corefile in a document is valid, and every mistake in the golden file says what it says there."""

import os
import re
import tempfile
import textwrap
from pathlib import Path

import pytest

from corepy import corefile
from corepy.server.build.builder import build
from corepy.testing.tls import CERTIFICATE, KEY
from corepy.testing.zone_keys import write_key

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "deploy", "editors", "examples", "plugins")
THIRD_PARTY = ROOT / "examples" / "corepy-example"
"""Its plugin is not installed here; `test_author_kit.py` installs it and checks its Corefiles."""
DOCUMENTS = [
    ROOT / "README.md",
    *(
        path
        for name in FOLDERS
        for path in (ROOT / name).rglob("*.md")
        if not path.is_relative_to(THIRD_PARTY)
    ),
]
FENCED = re.compile(r"^( *)(```|~~~) *corefile\n(.*?)^ *\2$", re.MULTILINE | re.DOTALL)
COREFILES = [
    path
    for path in sorted((ROOT / "examples").rglob("*Corefile*"))
    if not path.is_relative_to(THIRD_PARTY)
]


def blocks(document):
    return [textwrap.dedent(block) for *_, block in FENCED.findall(document.read_text())]


EXAMPLES = [
    pytest.param(block, id=f"{document.relative_to(ROOT)}:{number}")
    for document in sorted(DOCUMENTS)
    for number, block in enumerate(blocks(document), 1)
]
SET_BY_KUBERNETES = ("KUBE_DNS_UPSTREAM_SERVICE_HOST", "CLUSTER_DNS", "READY_ADDRESS")
CERTIFICATES = ("cert.pem", "key.pem", "clients.pem")
"""The files that the examples of encrypted transports name."""
ZONE_KEY = re.compile(r"\b(K([a-z.]+)\.\+013\+[0-9]+)\b")
"""Key files as dnssec-keygen names them, with their zones."""
GOLDEN = Path(__file__).parent / "golden" / "mistakes.txt"


@pytest.mark.parametrize("text", EXAMPLES)
def test_corefiles_in_documents_are_valid(text, tmp_path, monkeypatch):
    """As `corepy -check` does: what they need of the host may be missing here."""
    monkeypatch.chdir(tmp_path)
    for name in SET_BY_KUBERNETES:
        monkeypatch.setenv(name, "10.96.0.11")
    for name in CERTIFICATES:
        (tmp_path / name).write_text(KEY if name == "key.pem" else CERTIFICATE)
    for name, zone in ZONE_KEY.findall(text):
        write_key(tmp_path, zone, name)
    build(corefile.parse(text), checking=True)


@pytest.mark.parametrize("path", COREFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_are_valid(path):
    build(corefile.load(path))


def test_corefiles_are_found():
    assert len(EXAMPLES) > 40
    assert ROOT / "examples/Corefile" in COREFILES


def golden():
    """The cases of the golden file: (title, Corefile, what is printed)."""
    titles_and_bodies = re.split(r"^=== (.*)\n", GOLDEN.read_text(), flags=re.MULTILINE)[1:]
    for title, body in zip(titles_and_bodies[::2], titles_and_bodies[1::2], strict=True):
        text, _, printed = re.split(r"^(---)\n", body, maxsplit=1, flags=re.MULTILINE)
        yield title, text, printed


def prepare(folder):
    """Write what the cases import."""
    (folder / "loop-a").write_text("import loop-b\n")
    (folder / "loop-b").write_text("import loop-a\n")
    (folder / "inner.conf").write_text("    whoami extra\n")
    (folder / "outer.conf").write_text("import inner.conf\n")
    (folder / "folder").mkdir()
    (folder / "empty.conf").write_text("# no name servers\n")
    return folder


def printed_for(text, folder):
    """What the command prints for a Corefile in `folder`, whose name is taken out."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        content = text.encode().decode("unicode_escape").encode("latin-1")
        warnings = corefile.render(build(corefile.parse(content)).warnings)
        return f"{warnings}\nvalid\n" if warnings else "valid\n"
    except corefile.CorefileError as error:
        printed = str(error).replace(f"{folder}/", "") + "\n"
        return re.sub("interfaces of this host: .*", "interfaces of this host: ...", printed)
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("mistakes"))


CASES = list(golden())


def test_there_are_enough_mistakes():
    assert len([printed for *_, printed in CASES if not printed.endswith("valid\n")]) >= 60


@pytest.mark.parametrize(("title", "text", "printed"), CASES, ids=[title for title, *_ in CASES])
def test_mistakes_are_explained(title, text, printed, folder):
    assert printed_for(text, folder) == printed


def update():
    """Write the golden file anew: `python tests/test_docs_corefiles.py`; then read the difference."""
    with tempfile.TemporaryDirectory() as name:
        folder = prepare(Path(name))
        parts = [f"=== {title}\n{text}---\n{printed_for(text, folder)}" for title, text, _ in CASES]
    GOLDEN.write_text("".join(parts))


if __name__ == "__main__":
    update()
