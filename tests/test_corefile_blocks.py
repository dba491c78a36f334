"""What a plugin's one-shot command is told of a Corefile."""

import importlib.metadata

import pytest

from corepy.commands import corefile_blocks
from corepy.commands.corefile_blocks import controllers_of
from corepy.loading.registry import GROUP, FoundPlugin
from corepy.plugin import CorefileError, ListenHosts

TWO = """\
.:5300 example.org {
    bind 127.0.0.1 ::1
    whoami
}
a.example {
    whoami
}
b.example {
    log
    nobody_has_this
}
"""


@pytest.fixture
def corefile(tmp_path):
    def write(text):
        path = tmp_path / "Corefile"
        path.write_text(text)
        return str(path)

    return write


def test_each_block_with_the_directive_knows_where_it_listens(corefile):
    blocks = controllers_of(corefile(TWO), "whoami", 5399, after=["bind"])
    assert [(list(it.config.get(ListenHosts).hosts), it.config.zones) for it in blocks] == [
        (["127.0.0.1", "::1"], [".", "example.org."]),
        ([""], ["a.example."]),
    ]
    assert [[key.port for key in it.config.keys] for it in blocks] == [[5300, 5399], [5399]]


def test_a_directive_that_stands_nowhere_has_no_blocks(corefile):
    assert controllers_of(corefile(TWO), "nodecache", after=["bind"]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (". {\n whoami\n", "this brace is never closed"),
        (". {\n bind nowhere0\n whoami\n}\n", "not a valid IP address or interface name"),
        ("a..b {\n whoami\n}\n", "a..b"),
    ],
)
def test_mistakes_are_those_of_the_server(corefile, text, message):
    with pytest.raises(CorefileError, match=message):
        controllers_of(corefile(text), "whoami", after=["bind"])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        controllers_of(str(tmp_path / "none"), "whoami", after=["bind"])


BROKEN = importlib.metadata.EntryPoint("bind", "no_such_module_anywhere", GROUP)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "bind is not installed"),
        ({"bind": FoundPlugin("bind", "dist", "1", BROKEN)}, "cannot be imported"),
    ],
)
def test_a_bind_that_cannot_be_had(corefile, monkeypatch, found, message):
    monkeypatch.setattr(corefile_blocks, "find", lambda: found)
    with pytest.raises(CorefileError, match=f"Corefile:2:5.*{message}"):
        controllers_of(corefile(TWO), "whoami", after=["bind"])
