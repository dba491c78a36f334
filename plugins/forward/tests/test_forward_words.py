"""Words of a `forward` line, and what becomes of names and files: whole results of each function."""

import asyncio
import socket
import ssl
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.dns import Reply
from corepy.dns.form_error import FormError
from corepy.plugin.tls_client import TLSFiles
from corepy.testing import refusal, set_up, tls
from corepy_forward import resolve, targets
from corepy_forward import settings as settings_module
from corepy_forward.failures import explain
from corepy_forward.resolve import (
    _ask,
    _ask_resolvers,
    _explain,
    _nameserver,
    _read,
    _shortened,
    _target,
    read_resolv_conf,
)
from corepy_forward.settings import Random, Settings
from corepy_forward.setup import make_context
from corepy_forward.targets import Hostname, Target, flaw, parse_target


def settings(options: str, to: str = "192.0.2.1") -> Settings:
    handler: Any = set_up(f"forward . {to} {{\n{options}\n}}").handlers[0]
    found: Settings = handler.settings
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1:65535", Target("192.0.2.1", 65535)),
        ("192.0.2.1:1", Target("192.0.2.1", 1)),
        ("tls", Hostname("tls", 53, "dns", "")),
        ("dns.example", Hostname("dns.example", 53, "dns", "")),
        ("tls://dns.example", Hostname("dns.example", 853, "tls", "")),
        ("https://dns.example", Hostname("dns.example", 443, "https", "")),
        ("tls://dns.example:8853", Hostname("dns.example", 8853, "tls", "")),
    ],
)
def test_words_that_are_upstreams(text, expected):
    entry = parse_target(text)
    assert [entry.hostname, *entry.targets] == (
        [expected] if isinstance(expected, Hostname) else [None, expected]
    )


SEVERAL = "separate upstreams with spaces; the value of a variable stays one word"
FOUR = "an IPv4 address has four numbers from 0 to 255"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("192.0.2.1:0", "not a port number: '0'", None),
        ("192.0.2.1:65536", "not a port number: '65536'", None),
        ("foo://x", "not a port number: '//x'", None),
        ("192.0.2.1,::1", "more than one upstream in one word: '192.0.2.1,::1'", SEVERAL),
        ("192.0.2.1 ::1", "more than one upstream in one word: '192.0.2.1 ::1'", SEVERAL),
        ("192.0.2.300", "not an IP address: '192.0.2.300'", FOUR),
        ("10.", "not an IP address: '10.'", FOUR),
        (
            "2001:db8::1:530000",
            "not an IP address, file, or valid domain: '2001:db8::1:530000'",
            "an IPv6 address with a port is [ADDRESS]:PORT",
        ),
        (
            "dns!example",
            "not an IP address, file, or valid domain: 'dns!example'",
            "'!' is not allowed in a host name",
        ),
        (".", 'not an IP address, file, or valid domain: "."', None),
    ],
)
def test_words_that_are_none(text, message, hint):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        parse_target(text)
    assert (str(caught.value), getattr(caught.value, "hint", None)) == (message, hint)


def test_which_words_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dns").mkdir()
    Path("conf").touch()
    assert parse_target("conf").file == Path("conf")
    assert parse_target("dns").hostname == Hostname("dns", 53, "dns", "")
    assert parse_target("./dns").file == Path("dns")

    def denied(_path):
        raise PermissionError

    monkeypatch.setattr(targets, "os", SimpleNamespace(stat=denied))
    assert parse_target("/a/conf").file == Path("/a/conf")
    assert parse_target("conf").hostname == Hostname("conf", 53, "dns", "")


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (Target("192.0.2.1", 53), ""),
        (Target("169.254.0.1", 53), ""),
        (Target("2001:db8::1", 53), ""),
        (Target("fe80::1", 53, scope="eth0"), ""),
        (Target("224.0.0.1", 53), "224.0.0.1 is not the address of a single host"),
        (Target("255.255.255.255", 53), "255.255.255.255 is not the address of a single host"),
        (Target("fe80::1", 853, "tls"), "a link-local address cannot be used over tls: fe80::1"),
        (
            Target("fe80::1", 53),
            "a link-local address needs its network interface, such as fe80::1%eth0: fe80::1",
        ),
    ],
)
def test_flaws(target, problem):
    assert flaw(target) == problem


def test_addresses_of_sockets():
    link = Target("fe80::1", 53, scope="eth0", interface=2)
    assert (link.connect_host, link.sockaddr) == ("fe80::1%2", ("fe80::1", 53, 0, 2))
    plain = Target("192.0.2.1", 53)
    assert (plain.connect_host, plain.sockaddr) == ("192.0.2.1", ("192.0.2.1", 53))


@pytest.mark.parametrize("word", ["192.0.2.1", "dns://192.0.2.1:53", "{file}"])
def test_a_line_with_an_upstream_alone(tmp_path, word):
    path = tmp_path / "resolv.conf"
    path.touch()
    word = word.format(file=path)
    refused = refusal(f"forward {word}")
    assert (refused.message, refused.hint) == (
        "an upstream is missing after the zone",
        f"the zone is missing, '.' for all names: forward . {word}",
    )


def test_warnings_about_the_zone():
    assert set_up("forward example 192.0.2.1").warnings == []
    (warning,) = set_up("forward 192.0.2.1 192.0.2.2").warnings
    assert (warning.message, warning.hint) == (
        "'192.0.2.1' is taken as a zone, not as an upstream",
        "the first argument is a zone, '.' for all names: forward . 192.0.2.1",
    )


@pytest.mark.parametrize(
    ("network", "count", "zone"),
    [("10.9.3.0/18", 64, "0.9.10.in-addr.arpa."), ("10.9.2.0/23", 2, "2.9.10.in-addr.arpa.")],
)
def test_a_network_of_several_zones(network, count, zone):
    (warning,) = set_up(f"forward {network} 192.0.2.2").warnings
    assert warning.message == f"'{network}' expands to {count} zones; only '{zone}' is forwarded"


def test_the_most_upstreams_of_a_line():
    words = [f"192.0.2.{number}" for number in range(1, 17)]
    (handler,) = set_up(f"forward . {' '.join(words[:15])}").handlers
    assert len(handler.static_targets()) == 15
    assert refusal(f"forward . {' '.join(words)}").message == "more than 15 TOs configured: 16"


def test_a_missing_file_that_resembles_nothing(tmp_path):
    refused = refusal(f"forward . {tmp_path}/nothing")
    assert (refused.message, refused.hint) == (f"no such file: '{tmp_path}/nothing'", None)


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("max_concurrent 9223372036854775807", "max_concurrent", 2**63 - 1),
        ("max_concurrent +4", "max_concurrent", 4),
        ("max_fails 4294967295", "max_fails", 2**32 - 1),
        ("max_fails 0", "max_fails", 0),
        ("cookies on", "cookies", True),
        ("cookies off", "cookies", False),
        ("resolver 192.0.2.1 ::1", "resolvers", ["192.0.2.1", "::1"]),
    ],
)
def test_values_of_options(option, name, value):
    assert getattr(settings(option), name) == value


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("cookies maybe", "cookies must be either on or off: maybe"),
        (
            "resolver 192.0.2.1:99999",
            'resolver must be an IP address or IP:port: "192.0.2.1:99999"',
        ),
        ("max_concurrent x", "max_concurrent: invalid number 'x'"),
    ],
)
def test_values_that_are_refused(option, message):
    assert refusal(f"forward . 192.0.2.1 {{\n{option}\n}}").message == message


@pytest.fixture
def pem(tmp_path):
    """Return paths of a certificate, its key, and an authority."""
    paths = [tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem")]
    for path, text in zip(paths, (tls.CERTIFICATE, tls.KEY, tls.CERTIFICATE), strict=True):
        path.write_text(text)
    return paths


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_files_of_tls(pem, count):
    cert, key, ca = pem
    given = [[], [ca], [cert, key], [cert, key, ca]][count]
    controller = set_up(f"forward . 192.0.2.1 {{\ntls {' '.join(map(str, given))}\n}}")
    files = [TLSFiles(), TLSFiles(ca=ca), TLSFiles(cert, key), TLSFiles(cert, key, ca)][count]
    found = controller.handlers[0].settings
    assert found.tls == files
    assert list(found.tls_contexts) == (["tls"] if count else [])
    assert controller.files == given


def test_a_host_name_over_tls_has_a_context():
    assert list(settings("", "tls://dns.example").tls_contexts) == ["tls"]


def test_a_client_certificate_is_sent(pem):
    cert, key, ca = pem
    client_context = make_context(TLSFiles(cert, key, ca), "tls")
    assert client_context.minimum_version == ssl.TLSVersion.TLSv1_2
    context = tls.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=tls.CERTIFICATE)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=tls.SERVER_NAME)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
    assert server.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(tls.CERTIFICATE)


def test_without_an_authority_those_of_the_system_are_trusted(pem, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(pem[2]))
    trusted = make_context(TLSFiles(), "tls").get_ca_certs(binary_form=True)
    assert ssl.PEM_cert_to_DER_cert(tls.CERTIFICATE) in trusted


@pytest.mark.parametrize("code", range(25))
def test_certificates_of_an_unknown_authority(code):
    """OpenSSL's X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT (2), self-signed (18, 19), and so on."""
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = code, "A reason"
    expected = "tls: failed to verify certificate: x509: certificate verify failed: a reason"
    if code in (2, 18, 19, 20, 21):
        expected = (
            "tls: failed to verify certificate (certificate verify failed: a reason):"
            " x509: certificate signed by unknown authority"
        )
    assert explain(error, "connect") == expected


def test_an_error_of_tls_without_a_reason():
    error = ssl.SSLError(1, "Some Text")
    error.reason = None  # type: ignore[assignment]  # as OpenSSL may leave it
    assert explain(error, "connect") == "tls: some text"
    error.reason = "SOME_REASON"
    assert explain(error, "connect") == "tls: some_reason"


def test_random_policy(monkeypatch):
    asked = []

    def urandom(size):
        asked.append(size)
        return struct.pack(f"={size // 4}I", *range(size // 4))

    monkeypatch.setattr(settings_module.os, "urandom", urandom)
    policy = Random()
    assert [policy("a"), *(policy("ab") for _ in range(4))] == list("ababa")
    assert [policy("abc") for _ in range(3)] == list("acb")
    assert asked == [2048]


def test_a_long_word_is_shown_in_part():
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        _nameserver(["nameserver", "9" * 70])
    assert str(caught.value) == f"not an IP address: {'9' * 60!r}"


def test_how_many_problems_of_a_file_are_shown(tmp_path):
    for count, shown in ((5, 5), (6, 6), (7, 5), (9, 5)):
        problems = [f"p{number}" for number in range(count)]
        more = [] if shown == count else [f"conf: {count - 5} more lines like these are skipped"]
        assert _shortened(problems, Path("conf")) == [*problems[:shown], *more]
    path = tmp_path / "conf"
    path.write_text("".join(f"nameserver 192.0.2.{number}\n" for number in range(64)))
    contents = read_resolv_conf(path)
    assert (len(contents.servers), contents.problems) == (64, [])


@pytest.mark.parametrize(
    ("host", "address", "target"),
    [
        (Hostname("a.example.", 54, "dns", ""), "192.0.2.1", Target("192.0.2.1", 54)),
        (
            Hostname("a.example.", 854, "tls", ""),
            "::ffff:192.0.2.1",
            Target("192.0.2.1", 854, "tls", "a.example"),
        ),
        (Hostname("a.example", 854, "tls", "b"), "::1", Target("::1", 854, "tls", "b")),
    ],
)
def test_the_upstream_of_a_host(host, address, target):
    assert _target(host, address) == target


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or"), "lookup a: no such host"),
        (socket.gaierror(socket.EAI_NODATA, "No address"), "lookup a: no such host"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary"), "lookup a: temporary"),
        (UnicodeError("Too long"), "lookup a: too long"),
        (OSError(socket.EAI_NONAME, "Other"), "lookup a: other"),
    ],
)
def test_look_ups_that_fail(error, text):
    assert _explain(error, "a") == text


def test_resolvers_are_asked_in_turn(monkeypatch):
    """A resolver that fails for A is not asked for AAAA; what it has found before stays."""
    asked = []
    outcomes = {
        (1, "192.0.2.1"): ConnectionRefusedError(111, "x"),
        (1, "::1"): ["192.0.2.9"],
        (28, "::1"): TimeoutError(),
        (1, "::2"): FormError("cut off"),
    }

    async def ask(_name, qtype, host, port):
        asked.append((qtype, host, port))
        outcome = outcomes[qtype, host]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(resolve, "_ask", ask)
    found = asyncio.run(_ask_resolvers("a", ["192.0.2.1", "[::1]:5353", "::2"]))
    assert found == (["192.0.2.9"], "")
    assert asked == [(1, "192.0.2.1", 53), (1, "::1", 5353), (28, "::1", 5353)]
    found = asyncio.run(_ask_resolvers("a", ["192.0.2.1"]))
    assert found == ([], "lookup a on 192.0.2.1: read: connection refused")
    assert asyncio.run(_ask_resolvers("a", ["::2"])) == ([], "lookup a on ::2: cut off")


def record(rtype, rclass, rdata):
    return b"\xc0\x0c" + struct.pack("!HHIH", rtype, rclass, 60, len(rdata)) + rdata


def test_addresses_in_a_reply():
    answers = [
        record(5, 1, b"\xc0\x0c"),
        record(1, 3, b"\xc0\0\2\1"),
        record(1, 1, b"\xc0\0\2"),
        record(28, 1, bytes(15) + b"\1"),
        record(1, 1, b"\xc0\0\2\7"),
    ]
    header = b"ID\x81\x80\0\1\0\5\0\1\0\0"
    wire = header + b"\1a\0\0\1\0\1" + b"".join(answers) + record(1, 1, b"\xc0\0\2\x42")
    assert _read(Reply(wire), 1) == ["192.0.2.7"]
    assert _read(Reply(wire), 28) == ["::1"]


def test_how_long_a_resolver_is_waited_for(on_bench):
    async def test(bench):
        port = bench.sinks[0].target.port
        task = asyncio.ensure_future(_ask(b"\1a\0", 1, "127.0.0.1", port))
        await bench.turn()
        assert bench.counts() == [1]
        bench.loop.now += 1.999
        await bench.turn()
        assert not task.done()
        bench.loop.now += 0.002
        await bench.turn()
        assert isinstance(task.exception(), TimeoutError)

    on_bench(test)
