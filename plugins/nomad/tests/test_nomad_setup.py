"""The directive: the cases of plugin/nomad/setup_test.go, every option, and the environment."""

import pytest

from corepy.testing import refusal, set_up
from corepy.testing.tls import CERTIFICATE, KEY
from corepy_nomad.environment import Environment
from corepy_nomad.source import Settings
from corepy_nomad.tls import make_context

COUNT = "wrong argument count or unexpected line ending after"
DEFAULT = ["http://127.0.0.1:4646"]
VARIABLES = (
    *("ADDR", "TOKEN", "REGION", "NAMESPACE", "HTTP_AUTH", "CACERT", "CAPATH"),
    *("CLIENT_CERT", "CLIENT_KEY", "TLS_SERVER_NAME", "SKIP_VERIFY"),
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(f"NOMAD_{name}", raising=False)


def directive(text, zone="service.nomad"):
    """Set up a directive; return its handler and the messages of its warnings."""
    controller = set_up(text, zone)
    (handler,) = controller.handlers
    return handler, [warning.message for warning in controller.warnings]


def addresses(handler):
    return [str(it) for it in handler.settings.addresses]


@pytest.mark.parametrize(
    ("text", "urls", "ttl", "selected"),
    [
        # plugin/nomad/setup_test.go
        ("address http://127.0.0.1:4646\ntoken test-token", DEFAULT, 30, ""),
        (
            'address http://127.0.0.1:4646\nfilter "Tags not contains candidate"\n'
            "token test-token\nttl 60",
            *(DEFAULT, 60, "Tags not contains candidate"),
        ),
        (
            "address http://127.0.0.1:4646 http://127.0.0.2:4646\ntoken test-token",
            *(["http://127.0.0.1:4646", "http://127.0.0.2:4646"], 30, ""),
        ),
        # and more
        ("", DEFAULT, 30, ""),
        ("ttl 0", DEFAULT, 0, ""),
        ("ttl +3600", DEFAULT, 3600, ""),
        ("ADDRESS http://localhost:1\nTTL 1", ["http://localhost:1"], 1, ""),
        ("address http://[::1]:1\naddress https://a", ["http://[::1]:1", "https://a"], 30, ""),
        ("address unix:///secrets/api.sock", ["unix:///secrets/api.sock"], 30, ""),
        ("address unix:/secrets/a%20b.sock", ["unix:///secrets/a b.sock"], 30, ""),
        ("address http://localhost:1 http://localhost:1", ["http://localhost:1"], 30, ""),
    ],
)
def test_accepted(text, urls, ttl, selected):
    handler, warnings = directive(f"nomad service.nomad {{\n{text}\n}}")
    assert addresses(handler) == urls
    assert (handler.settings.ttl, handler.settings.access.filter) == (ttl, selected)
    assert warnings == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # plugin/nomad/setup_test.go
        ("ttl -1", "TTL '-1' is out of range"),
        ("ttl 3601", "TTL '3601' is out of range"),
        ("invalid_property", "unknown option 'invalid_property'"),
        # and more
        ("ttl", f"{COUNT} 'ttl'"),
        ("ttl 1 2", f"{COUNT} '2'"),
        ("ttl 30s", "invalid TTL '30s'"),
        ("ttl 1_0", "invalid TTL '1_0'"),
        ("address", f"{COUNT} 'address'"),
        ("filter", f"{COUNT} 'filter'"),
        ("filter a b", f"{COUNT} 'b'"),
        ("token", f"{COUNT} 'token'"),
        ("token first second", f"{COUNT} 'second'"),
        ('token "a\tb"', "the token has characters that no token has"),
        ("address 127.0.0.1:4646", "address '127.0.0.1:4646': a URL begins with http://"),
        ("address localhost:4646", "address 'localhost:4646': a URL begins with http://"),
        ("address ftp://a", "address 'ftp://a': a URL begins with http://"),
        ("address http://", "address 'http://': the URL names no host"),
        ("address http://u:pw@a:0", "address 'http://a:0': the port of the URL"),
        ("address unix://secrets/api.sock", "address 'unix://secrets/api.sock': the path"),
        ("address unix:///" + "a" * 107, "address 'unix:///a"),
    ],
)
def test_refused(options, message):
    assert refusal(f"nomad {{\n{options}\n}}").message.startswith(message)


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("nomad", b"\7service\5nomad\0"),
        ("nomad Example.ORG.", b"\7example\3org\0"),
        ("nomad .", b"\0"),
    ],
)
def test_the_zone(text, zone):
    assert directive(text)[0].zone == zone


def test_an_invalid_zone_is_refused():
    assert refusal("nomad a..b").message.startswith("invalid zone: empty label")


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("nomad a b", ["only the first zone has an effect"]),
        ("nomad a\nnomad b", ["only the first nomad of a block has an effect"]),
        (
            "nomad {\naddress http://127.0.0.1/v1\n}",
            ["the path of 'http://127.0.0.1/v1' is ignored"],
        ),
        (
            "nomad {\naddress http://192.0.2.1 https://192.0.2.1 http://localhost\ntoken t\n}",
            ["the token or password is sent to 192.0.2.1 without encryption"],
        ),
        (
            "nomad {\naddress http://u:p@nomad.example\n}",
            ["the token or password is sent to nomad.example without encryption"],
        ),
        ("nomad {\naddress http://192.0.2.1\n}", []),
    ],
)
def test_warnings(text, warnings):
    assert directive(text, ".")[1] == warnings


@pytest.mark.parametrize(
    ("block", "text", "zone"),
    [
        ("nomad.example.", "nomad", "service.nomad."),
        ("nomad.example.", "nomad a.example", "a.example."),
        ("nomad.example.", "nomad NOMAD.example", None),
        ("nomad.example.", "nomad service.nomad.example", None),
        ("web.default.service.nomad.", "nomad", None),
        (".", "nomad", None),
    ],
)
def test_a_zone_of_another_server_block(block, text, zone):
    expected = [f"no query for {zone} reaches this server block"] if zone else []
    assert directive(text, block)[1] == expected


def test_the_token_is_hidden():
    controller = set_up("nomad {\ntoken s3cret\naddress http://me:s3cret@localhost\n}")
    assert [it.text for it in controller.sibling("nomad")[0].source.hidden] == ["s3cret"]
    settings = repr(controller.handlers[0].settings)
    assert "s3cret" not in settings
    assert controller.handlers[0].settings.addresses[0].target.authorization not in settings
    assert "s3cret" not in refusal("nomad {\naddress unix://me:s3cret@b/x\n}").message


def test_the_environment(monkeypatch):
    for name, value in {
        "ADDR": "https://nomad.example:4646",
        "TOKEN": "of-environment",
        "REGION": "eu",
        "NAMESPACE": "ignored",
        "HTTP_AUTH": "me:pass:word",
        "TLS_SERVER_NAME": "server.global.nomad",
    }.items():
        monkeypatch.setenv(f"NOMAD_{name}", value)
    settings = directive("nomad")[0].settings
    assert [str(it) for it in settings.addresses] == ["https://nomad.example:4646"]
    assert (settings.access.token, settings.access.region) == ("of-environment", "eu")
    assert settings.access.authorization == "Basic bWU6cGFzczp3b3Jk"
    assert settings.tls.server_name == "server.global.nomad"
    settings = directive("nomad {\ntoken t\naddress http://localhost\n}")[0].settings
    assert [str(it) for it in settings.addresses] == ["http://localhost"]
    assert settings.access.token == "t"
    monkeypatch.setenv("NOMAD_ADDR", "127.0.0.1:4646")
    assert refusal("nomad").message.startswith("NOMAD_ADDR '127.0.0.1:4646': a URL begins")
    monkeypatch.setenv("NOMAD_ADDR", "")
    monkeypatch.setenv("NOMAD_TOKEN", "a\n")
    assert refusal("nomad").message == "NOMAD_TOKEN has characters that no token has"
    monkeypatch.setenv("NOMAD_TOKEN", "")
    monkeypatch.setenv("NOMAD_REGION", "\udcff")
    assert refusal("nomad").message == "NOMAD_REGION has characters that no region has"


@pytest.mark.parametrize(
    ("text", "skips", "warnings"),
    [
        *((it, True, 1) for it in ("1", "t", "T", "TRUE", "true", "True")),
        *((it, False, 0) for it in ("", "0", "f", "F", "FALSE", "false", "False")),
        *((it, False, 1) for it in ("yes", "tRUE", " 1")),
    ],
)
def test_skipping_verification(text, skips, warnings):
    environment = Environment({"NOMAD_SKIP_VERIFY": text})
    assert environment.tls.skips_verification == skips
    assert len(environment.warnings) == warnings
    context = make_context(environment.tls)
    assert context.check_hostname != skips
    assert (context.verify_mode == 0) == skips


def test_a_user_name_alone_has_an_empty_password():
    assert Environment({"NOMAD_HTTP_AUTH": "me"}).authorization == "Basic bWU6"
    assert Environment({}).authorization == ""


def test_files_of_the_environment(monkeypatch, tmp_path):
    certificate, key, folder = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca"
    certificate.write_text(CERTIFICATE)
    key.write_text(KEY)
    folder.mkdir()
    (folder / "one.pem").write_text(CERTIFICATE)
    (folder / "folder").mkdir()
    monkeypatch.setenv("NOMAD_CLIENT_CERT", str(certificate))
    needs = "TLS for Nomad: NOMAD_CLIENT_CERT and NOMAD_CLIENT_KEY need each other"
    assert refusal("nomad").message == needs
    monkeypatch.setenv("NOMAD_CLIENT_KEY", str(key))
    monkeypatch.setenv("NOMAD_CAPATH", str(folder))
    controller = set_up("nomad")
    assert controller.files == [certificate, key]
    # In place of the system's.
    assert len(make_context(controller.handlers[0].settings.tls).get_ca_certs()) == 1
    (folder / "two.pem").write_text(CERTIFICATE)
    assert len(make_context(controller.handlers[0].settings.tls).get_ca_certs()) == 1  # the same
    (folder / "two.pem").write_text("nothing")
    assert "no certificate in PEM form in" in refusal("nomad").message
    for name in ("one", "two"):
        (folder / f"{name}.pem").unlink()
    assert refusal("nomad").message == f"TLS for Nomad: no certificate in {folder}"
    monkeypatch.setenv("NOMAD_CACERT", str(certificate))  # has precedence over the folder
    assert set_up("nomad").handlers
    monkeypatch.setenv("NOMAD_CACERT", str(tmp_path / "absent"))
    assert refusal("nomad").message.endswith("absent: No such file or directory")


def test_settings_differ_by_all_that_matters():
    first = directive("nomad {\ntoken a\n}")[0].settings
    assert first == directive("nomad {\ntoken a\n}")[0].settings
    for options in (
        "token b",
        "token a\nttl 31",
        "token a\nfilter f",
        "token a\naddress https://a",
    ):
        assert directive(f"nomad {{\n{options}\n}}")[0].settings != first
    assert isinstance(first, Settings)
