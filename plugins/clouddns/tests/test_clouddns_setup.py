"""The directive: the cases of plugin/clouddns/setup_test.go, and every option with its mistakes."""

import json

import pytest

from corepy.dns.names import to_text
from corepy.plugin import Root
from corepy.testing import controller_for, refusal, set_up
from corepy_clouddns import setup
from corepy_clouddns.tokens import INSTANCE_METADATA, NO_CREDENTIALS

ZONE = "clouddns example.org.:example-project:zone-name"
COUNT = "wrong argument count or unexpected line ending after"
VARIABLES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GCE_METADATA_HOST",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
    "CLOUDSDK_CONFIG",
)
ADC = "application_default_credentials.json"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch, tmp_path):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def credentials(tmp_path):
    """Write a file with credentials; return its path."""

    def write(content):
        path = tmp_path / "credentials.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def handlers_of(text):
    """Set up directives; return the handlers and the messages of the warnings."""
    controller = set_up(text)
    return controller.handlers, [warning.message for warning in controller.warnings]


def account_of(text):
    (handler,), _ = handlers_of(text)
    return handler._settings.key


def zones_of(handler):
    return [(to_text(zone.origin), zone.id) for zone in handler._polled]


PLAIN = [("example.org.", "example-project:zone-name")]


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        ("clouddns", []),
        (ZONE, PLAIN),
        (f"{ZONE} {{ }}", PLAIN),
        (f"{ZONE} {{\nfallthrough\n}}", PLAIN),
    ],
)
def test_what_coredns_accepts_is_accepted(text, zones):
    (handler,), _ = handlers_of(text)
    assert zones_of(handler) == zones


def test_a_file_with_a_known_type_is_accepted(credentials):
    """As in CoreDNS, the rest of it is read when a token is needed."""
    path = credentials({"type": "service_account"})
    assert account_of(f"{ZONE} {{\ncredentials {path}\n}}").file == path
    controller = controller_for(f"{ZONE} {{\ncredentials credentials.json\n}}")
    controller.configure(Root(path.parent))
    setup(controller)
    assert controller.handlers[0]._settings.key.file == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clouddns :", "invalid zone ':'"),
        ("clouddns ::", "invalid zone '::'"),
        ("clouddns example.org.:example-project: { }", "invalid zone 'example.org.:example-proj"),
        (f"{ZONE} {{ wat\n}}", "unknown option 'wat'"),
        (f"{ZONE} {{\ncredentials\n}}", f"{COUNT} 'credentials'"),
        (f"{ZONE} example.org.:example-project:zone-name {{\n}}", "conflict zone 'example.org.:"),
        ("clouddns example.org {\n}", "invalid zone 'example.org'"),
    ],
)
def test_what_coredns_refuses_is_refused(text, message):
    assert message in refusal(text).message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param({"type": "bad_type"}, "unknown credential type: 'bad_type'", id="type"),
        pytest.param({}, "missing `type` field in credential", id="empty"),
        pytest.param("{", "it is not JSON", id="JSON"),
        pytest.param("[]", "it is not a JSON object", id="array"),
        pytest.param("[" * 100_000, "it is not JSON", id="deep"),
        pytest.param({"type": 3}, "missing `type` field in credential", id="number"),
    ],
)
def test_unusable_files_are_refused(credentials, content, problem):
    path = credentials(content)
    message = refusal(f"{ZONE} {{\ncredentials {path}\n}}").message
    assert message.startswith(f"invalid credentials file '{path}': {problem}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clouddns a:b", "invalid zone 'a:b'"),
        ("clouddns :p:z", "invalid zone ':p:z'"),
        ("clouddns a::z", "invalid zone 'a::z'"),
        ("clouddns a..b:p:z", "invalid zone 'a..b'"),
        (f"{ZONE} {{\ncredentials /nowhere/file\n}}", "No such file or directory"),
        (f"{ZONE} {{\ncredentials /dev/null\n}}", "a device"),
        (f"{ZONE} {{\nendpoint\n}}", f"{COUNT} 'endpoint'"),
        (f"{ZONE} {{\nendpoint ftp://x\n}}", "a URL begins with http:// or https://"),
        (f"{ZONE} {{\nendpoint http://dns.example\n}}", "is not protected"),
        (f"{ZONE} {{\nendpoint https://u:p@dns.example\n}}", "has no user name, password or query"),
        (
            f"{ZONE} {{\nendpoint https://dns.example/?a=b\n}}",
            "has no user name, password or query",
        ),
        (f"{ZONE} {{\ninstance_metadata x\n}}", f"{COUNT} 'x'"),
        (f"{ZONE} {{\nrefresh 1ms\n}}", "refresh '1ms' is too short"),
    ],
)
def test_further_mistakes(text, message):
    assert message in refusal(text).message


def test_each_directive_has_a_handler_of_its_own():
    text = "clouddns a:p:z {\nfallthrough a\n}\nclouddns a:p:z b:p:z a.:p:z {\nrefresh 5m\n}"
    (first, second), _ = handlers_of(text)
    assert zones_of(first) == [("a.", "p:z")]
    assert zones_of(second) == [("a.", "p:z"), ("b.", "p:z")]
    assert (first._fallthrough.zones, second._fallthrough.zones) == (("a.",), ())
    assert (first._settings.refresh, second._settings.refresh) == (60, 300)


def test_new_credentials_keep_the_copies():
    settings, renewed, other = (
        handlers_of(f"{ZONE} {{\n{option}\n}}")[0][0]._settings
        for option in ("", "instance_metadata", "endpoint https://dns-mine.p.googleapis.com")
    )
    assert settings != renewed
    assert settings.has_zones_of(renewed)
    assert not settings.has_zones_of(other)


def test_the_id_of_a_project_may_have_a_domain():
    (handler,), _ = handlers_of("clouddns Example.ORG:example.com:my-project:my-zone")
    assert zones_of(handler) == [("example.org.", "example.com:my-project:my-zone")]


def test_upstream_is_ignored():
    _, warnings = handlers_of(f"{ZONE} {{\nupstream 192.0.2.1\ninstance_metadata\n}}")
    assert warnings == ["upstream is ignored"]


def test_endpoint():
    account = account_of(f"{ZONE} {{\nendpoint https://dns-mine.p.googleapis.com/x\n}}")
    assert account.server.url == "https://dns-mine.p.googleapis.com/x"
    assert account_of(f"{ZONE} {{\nendpoint http://127.0.0.1:80\n}}").server.scheme == "http"
    assert account_of(ZONE).server.url == "https://dns.googleapis.com/"


def test_the_metadata_server_is_used_when_asked_for(monkeypatch, credentials):
    assert account_of(ZONE).instance is None
    text = f"{ZONE} {{\ninstance_metadata\n}}"
    assert account_of(text).instance == INSTANCE_METADATA
    monkeypatch.setenv("GCE_METADATA_HOST", "metadata.google.internal:8080")
    assert account_of(text).instance.url == "http://metadata.google.internal:8080/"
    monkeypatch.setenv("GCE_METADATA_HOST", "[")
    assert "GCE_METADATA_HOST" in refusal(text).message
    monkeypatch.delenv("GCE_METADATA_HOST")
    path = credentials({"type": "authorized_user"})
    _, warnings = handlers_of(f"{ZONE} {{\ncredentials {path}\ninstance_metadata\n}}")
    assert warnings == ["instance_metadata has no effect: the option credentials is used"]


def test_missing_credentials_are_warned_of(monkeypatch, tmp_path):
    """As in CoreDNS's tests of the setup, they are no mistake: the environment may differ."""
    assert handlers_of(ZONE)[1] == [NO_CREDENTIALS]
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    assert handlers_of(ZONE)[1] == [NO_CREDENTIALS]
    (tmp_path / "gcloud").mkdir()
    (tmp_path / "gcloud" / ADC).write_text("{}")
    assert handlers_of(ZONE)[1] == []
    monkeypatch.delenv("CLOUDSDK_CONFIG")
    monkeypatch.delenv("HOME")
    assert handlers_of(ZONE)[1] == [NO_CREDENTIALS]
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/to/be/mounted.json")
    assert handlers_of(ZONE)[1] == []
    assert handlers_of("clouddns")[1] == ["clouddns has no zones, so it has no effect"]
