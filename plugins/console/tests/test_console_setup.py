"""What *console* accepts."""

import re
from pathlib import Path

import pytest

from corepy import corefile
from corepy.server.build.builder import build
from corepy.testing import refusal, set_up
from corepy_console.endpoint import Console
from corepy_console.token_file import digest_of

TOKEN = "s3cr3t-t0ken-of-24-chars"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "token": f" {TOKEN}\n",
        "short": "fifteen-letters",
        "spaced": "a token with spaces in it",
        "empty": "",
        "control": "a-token-with-\x1b[31m-in-it",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "public").write_text(TOKEN)
    return tmp_path


def console_of(text):
    controller = set_up(text)
    (console,) = controller.hooks
    assert isinstance(console, Console)
    assert not controller.handlers
    return console, controller


@pytest.mark.parametrize(
    ("text", "address", "has_token", "hosts", "warnings"),
    [
        ("console", "localhost:8053", False, [], 0),
        ("console 127.0.0.1:80", "127.0.0.1:80", False, [], 0),
        ("console [::1]:80", "[::1]:80", False, [], 0),
        ("console LOCALHOST.:80", "LOCALHOST.:80", False, [], 0),
        ("console unix:/run/c.sock", "unix:/run/c.sock", False, [], 0),
        ("console {\nhost Dns.Example. 10.0.0.1\nhost x\n}", "localhost:8053", False,
         ["dns.example", "10.0.0.1", "x"], 0),
        ("console :8053 {\ntoken token\n}", ":8053", True, [], 0),
        ("console node.example:8053 {\ntoken token\n}", "node.example:8053", True, [], 0),
        ("console {\ntoken public\n}", "localhost:8053", True, [], 1),
    ],
)  # fmt: skip
def test_accepts(folder, text, address, has_token, hosts, warnings):
    console, controller = console_of(text)
    assert console.address == address
    assert console.access.token == (digest_of(TOKEN) if has_token else None)
    assert console.access.hosts == {*hosts}
    assert len(controller.warnings) == warnings
    assert [path.name for path in controller.files] == ([text.split()[-2]] if has_token else [])


@pytest.mark.parametrize(
    ("text", "message", "word"),
    [
        ("console :8053", "console at :8053 needs a token: every client", ":8053"),
        ("console 10.0.0.1:8053", "needs a token", "10.0.0.1:8053"),
        ("console 127.1:8053", "no IP address or host name: '127.1'", "127.1:8053"),
        ("console localhost.example:1", "needs a token", "localhost.example:1"),
        ("console a b", "wrong argument count", "b"),
        ("console /foo", "missing port", "/foo"),
        ("console unix:run/c.sock", "the path of a socket must be absolute", "unix:run/c.sock"),
        ("console unix:/run/", "cannot be the path of a socket", "unix:/run/"),
        (f"console unix:/{'x' * 100}", "at most 90 bytes", f"unix:/{'x' * 100}"),
        ("console {\ntoken\n}", "wrong argument count", "token"),
        ("console {\ntoken token twice\n}", "wrong argument count", "twice"),
        ("console {\ntoken none\n}", "none does not exist", "none"),
        ("console {\ntoken short\n}", "it has 15 characters, not 16 to 512", "short"),
        ("console {\ntoken empty\n}", "it has 0 characters", "empty"),
        ("console {\ntoken spaced\n}", "characters that a header cannot have", "spaced"),
        ("console {\ntoken control\n}", "characters that a header cannot have", "control"),
        ("console {\nhost\n}", "wrong argument count", "host"),
        ("console {\nhost http://dns.example\n}", "is not a host name", "http://dns.example"),
        ("console {\nhost dns.example:8053\n}", "is not a host name", "dns.example:8053"),
        ("console {\npassword x\n}", "unknown option 'password'", "password"),
        ("console\nconsole", "this plugin can only be used once", "console"),
    ],
)
def test_refuses(folder, text, message, word):
    diagnostic = refusal(text)
    assert message in diagnostic.message
    assert diagnostic.token is not None
    assert diagnostic.token.text == word


def test_a_check_accepts_a_file_that_only_the_server_has(folder):
    """Such as a Secret that is mounted into the pod."""
    parsed = corefile.parse(". {\n console :8053 {\n token none\n }\n whoami\n}")
    (warning,) = build(parsed, checking=True).warnings
    assert "none does not exist here" in warning.message


def test_the_example_with_a_token_is_valid(folder):
    """The other examples are Corefiles that tests/test_docs_corefiles.py finds."""
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (example,) = re.findall(r"~~~ txt\n(\. \{.*?)~~~", readme, re.DOTALL)
    build(corefile.parse(example.replace("/run/secrets/console-token", f"{folder}/token")))


def test_an_error_does_not_show_the_token(folder):
    for name in ("short", "spaced", "control"):
        diagnostic = refusal(f"console {{\ntoken {name}\n}}")
        assert "letters" not in f"{diagnostic.message} {diagnostic.hint}"
        assert "spaces" not in f"{diagnostic.message} {diagnostic.hint}"
        assert "\x1b" not in f"{diagnostic.message} {diagnostic.hint}"
