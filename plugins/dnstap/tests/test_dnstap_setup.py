"""The directive: the cases of plugin/dnstap/setup_test.go, and every mistake with its place."""

import socket
from pathlib import Path

import pytest

from corepy.plugin import Cacheability, CorefileError
from corepy.release import version
from corepy.testing import refusal, set_up
from corepy_dnstap.handler import Dnstap
from corepy_dnstap.settings import Endpoint, TLSFiles

HOST = socket.gethostname().encode()
VERSION = f"corepy-{version()}".encode()
SOCK = Endpoint("unix", "dnstap.sock")
LOCAL = Endpoint("tcp", "127.0.0.1", 6000)
SECURE = Endpoint("tls", "127.0.0.1", 6000)
CERT, KEY, CA = (Path(f"/path/to/{name}.pem") for name in ("cert", "key", "ca"))
NAMED = {"identity": b"NAME", "version": b"VER"}
EXTRA = NAMED | {"extra": "EXTRA"}


def directives(text):
    """Set up all directives; return the settings of each, with its defaults left out."""
    controller = set_up(text)
    found = []
    for handler in controller.handlers:
        assert isinstance(handler, Dnstap)
        it = handler.settings
        shown = {name: getattr(it, name) for name in it.__dataclass_fields__}
        defaults = {
            "listens": False, "full": False, "write_buffer": 1, "queue": 1, "identity": HOST,
            "version": VERSION, "extra": "", "skip_verify": False, "tls": None,
        }  # fmt: skip
        found.append({name: it for name, it in shown.items() if it != defaults.get(name, "")})
    return found, [warning.message for warning in controller.warnings]


ACCEPTED = [
    ("dnstap dnstap.sock full", [{"endpoint": SOCK, "full": True}]),
    ("dnstap unix://dnstap.sock", [{"endpoint": SOCK}]),
    ("dnstap tcp://127.0.0.1:6000", [{"endpoint": LOCAL}]),
    ("dnstap tcp://[::1]:6000", [{"endpoint": Endpoint("tcp", "::1", 6000)}]),
    ("dnstap tcp://example.com:6000", [{"endpoint": Endpoint("tcp", "example.com", 6000)}]),
    (
        "dnstap dnstap.sock full {\nidentity NAME\nversion VER\n}\n",
        [{"endpoint": SOCK, "full": True, **NAMED}],
    ),
    (
        "dnstap dnstap.sock full {\nidentity NAME\nversion VER\nextra EXTRA\n}\n",
        [{"endpoint": SOCK, "full": True, **EXTRA}],
    ),
    (
        "dnstap dnstap.sock {\nidentity NAME\nversion VER\nextra EXTRA\n}\n",
        [{"endpoint": SOCK, **EXTRA}],
    ),
    (
        "dnstap dnstap.sock full {\nidentity NAME\nversion VER\nextra EXTRA\n}\n"
        "dnstap tcp://127.0.0.1:6000 {\nidentity NAME2\nversion VER2\nextra EXTRA2\n}",
        [
            {"endpoint": SOCK, "full": True, **EXTRA},
            {"endpoint": LOCAL, "identity": b"NAME2", "version": b"VER2", "extra": "EXTRA2"},
        ],
    ),
    ("dnstap tls://127.0.0.1:6000", [{"endpoint": SECURE}]),
    (
        "dnstap dnstap.sock full 1024 2048",
        [{"endpoint": SOCK, "full": True, "write_buffer": 1024, "queue": 2048}],
    ),
    ("dnstap listen tcp://127.0.0.1:6000", [{"endpoint": LOCAL, "listens": True}]),
    (
        "dnstap listen tcp://127.0.0.1:6000 full",
        [{"endpoint": LOCAL, "listens": True, "full": True}],
    ),
    (
        "dnstap listen unix:///tmp/dnstap.sock",
        [{"endpoint": Endpoint("unix", "/tmp/dnstap.sock"), "listens": True}],
    ),
    (
        "dnstap listen /tmp/dnstap.sock full",
        [{"endpoint": Endpoint("unix", "/tmp/dnstap.sock"), "listens": True, "full": True}],
    ),
    (
        "dnstap listen tls://127.0.0.1:6000 full {\ntls /path/to/cert.pem /path/to/key.pem\n}\n",
        [{"endpoint": SECURE, "listens": True, "full": True, "tls": TLSFiles(CERT, KEY)}],
    ),
    (
        "dnstap listen tls://127.0.0.1:6000 {\n"
        "tls /path/to/cert.pem /path/to/key.pem /path/to/ca.pem\n}\n",
        [{"endpoint": SECURE, "listens": True, "tls": TLSFiles(CERT, KEY, CA)}],
    ),
    (
        "dnstap listen tls://127.0.0.1:6000 {\n"
        "tls /path/to/cert.pem /path/to/key.pem\nskipverify\n}\n",
        [{"endpoint": SECURE, "listens": True, "tls": TLSFiles(CERT, KEY), "skip_verify": True}],
    ),
    (
        "dnstap tcp://remote.example.com:6000 full\ndnstap listen tcp://127.0.0.1:6001",
        [
            {"endpoint": Endpoint("tcp", "remote.example.com", 6000), "full": True},
            {"endpoint": Endpoint("tcp", "127.0.0.1", 6001), "listens": True},
        ],
    ),
    ("dnstap dnstap1.sock\ndnstap dnstap2.sock\ndnstap dnstap3.sock", [
        {"endpoint": Endpoint("unix", f"dnstap{number}.sock")} for number in (1, 2, 3)
    ]),  # TestMultiDnstap
]  # fmt: skip
REFUSED = [
    ("dnstap", "wrong argument count or unexpected line ending after 'dnstap'"),
    (
        "dnstap {\nidentity NAME\nversion VER\nextra EXTRA\n}\n",
        "wrong argument count or unexpected line ending after 'dnstap'",
    ),
    (
        "dnstap dnstap.sock {\nidentity\n}\n",
        "wrong argument count or unexpected line ending after 'identity'",
    ),
    (
        "dnstap dnstap.sock {\nversion\n}\n",
        "wrong argument count or unexpected line ending after 'version'",
    ),
    (
        "dnstap dnstap.sock {\nextra\n}\n",
        "wrong argument count or unexpected line ending after 'extra'",
    ),
    ("dnstap dnstap.sock {\nidentitiy NAME\n}\n", "unknown option 'identitiy'"),
    ("dnstap dnstap.sock full 1025 1", "WRITEBUFFER 1025 is not between 1 and 1024"),
    ("dnstap dnstap.sock full 1 4097", "QUEUE 4097 is not between 1 and 4096"),
    ("dnstap dnstap.sock full 0 10", "WRITEBUFFER 0 is not between 1 and 1024"),
    ("dnstap dnstap.sock full 10 0", "QUEUE 0 is not between 1 and 4096"),
    ("dnstap dnstap.sock full x 10", "not a whole number: 'x'"),
    ("dnstap dnstap.sock full 10 y", "not a whole number: 'y'"),
    ("dnstap listen", "listen has no endpoint"),
    (
        "dnstap listen tcp://127.0.0.1:6000 {\ntls /path/to/cert.pem\n}\n",
        "wrong argument count or unexpected line ending after '/path/to/cert.pem'",
    ),
]


@pytest.mark.parametrize(("text", "expected"), ACCEPTED)
def test_coredns_accepts(text, expected):
    assert directives(text)[0] == expected


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_coredns_refuses(text, message):
    assert refusal(text).message == message


def test_all_cases_are_there():
    """33 in TestConfig, 14 of them refused, and TestMultiDnstap."""
    assert (len(ACCEPTED), len(REFUSED)) == (20, 14)


@pytest.mark.parametrize(
    ("text", "message", "token"),
    [
        ("dnstap unix://", "no path in 'unix://'", "unix://"),
        ("dnstap /" + "x" * 107, "the path of the socket has 108 bytes, more than 107", "/xx"),
        ("dnstap tcp://127.0.0.1", "no host and port in 'tcp://127.0.0.1'", "tcp://127.0.0.1"),
        ("dnstap tcp://::1:6000", "no host and port in 'tcp://::1:6000'", "tcp://::1:6000"),
        ("dnstap tcp://a:65536", "no host and port in 'tcp://a:65536'", "tcp://a:65536"),
        ("dnstap tcp://a:0", "no host and port in 'tcp://a:0'", "tcp://a:0"),
        ("dnstap tls://a:domain", "no host and port in 'tls://a:domain'", "tls://a:domain"),
        ("dnstap a full 1 1 1", "wrong argument count or unexpected line ending after '1'", "1"),
        ("dnstap a {\ntls b c\n}", "tls is an option of listen only", "tls"),
        ("dnstap a {\nskipverify b\n}", "wrong argument count or unexpected line ending after 'b'", "b"),
        (
            "dnstap listen tls://127.0.0.1:6000",
            "tls:// has no certificate to listen with", "tls://127.0.0.1:6000",
        ),
        *[
            (f"dnstap a {{\n{name} {text}\n}}", f"the {name} has {size} bytes, more than 65536", text)
            for name in ("identity", "version")
            for text, size in (("x" * 65537, 65537), ("ä" * 32769, 65538))
        ],
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(text, message, token):
    diagnostic = refusal(text)
    assert diagnostic.message == message
    assert diagnostic.token is not None
    assert diagnostic.token.text.startswith(token)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("dnstap a ful", ["'ful' has no meaning, so messages are not full"]),
        ("dnstap a - 2 3", ["'-' has no meaning, so messages are not full"]),
        ("dnstap tpc://a:1", ["'tpc://a:1' is taken as the path of a Unix socket"]),
        ("dnstap tcp://a:1/b", ["the path of 'tcp://a:1/b' has no meaning"]),
        ("dnstap tcp://:1", []),
        ("dnstap a {\nskipverify\n}", ["skipverify has an effect with tls:// only"]),
        ("dnstap a {\nextra {nmae}\n}", ["unknown placeholder {nmae}, sent unchanged"]),
        ("dnstap a {\nextra {name}{/forward/upstream}\n}", []),
        (
            "dnstap listen tcp://:0 {\ntls /nowhere/c /nowhere/k\n}",
            [
                "/nowhere/c does not exist; the server listens as soon as it does",
                "/nowhere/k does not exist; the server listens as soon as it does",
                "tls has an effect with tls:// only",
            ],
        ),
    ],
)
def test_warnings(text, warnings):
    assert directives(text)[1] == warnings


def test_every_mistake_is_reported_at_once():
    with pytest.raises(CorefileError) as caught:
        set_up("dnstap tcp://a full 0 0 {\nextr a\nversion\n}\ndnstap unix://")
    assert [it.message for it in caught.value.diagnostics] == [
        "no host and port in 'tcp://a'",
        "WRITEBUFFER 0 is not between 1 and 1024",
        "unknown option 'extr'",
        "wrong argument count or unexpected line ending after 'version'",
        "no path in 'unix://'",
    ]


@pytest.mark.parametrize(
    ("extra", "cacheability"),
    [
        ("", Cacheability.OBSERVES),
        ("{name} {remote} {>id} {rcode}", Cacheability.OBSERVES),
        ("{local}", Cacheability.UNSAFE),
        ("{/forward/upstream}", Cacheability.UNSAFE),
    ],
)
def test_cacheability(extra, cacheability):
    text = f'dnstap a {{\nextra "{extra}"\n}}' if extra else "dnstap a"
    (handler,) = set_up(text).handlers
    assert handler.cacheability is cacheability
