"""Parsing the directive: the cases of CoreDNS (plugin/route53/setup_test.go), and more."""

import pytest

from corepy.corefile import CorefileError
from corepy.dns.names import from_text
from corepy.testing import refusal, set_up
from corepy_route53.handler import Route53
from corepy_route53.options import Environment

ZONE = "route53 example.org:12345678"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """The environment of the tests may have credentials."""
    monkeypatch.setattr(Environment, "current", classmethod(lambda cls: cls()))


ACCEPTED = [
    "route53",
    ZONE,
    f"{ZONE} {{ }}",
    f"{ZONE} {{\naws_access_key ACCESS_KEY_ID SEKRIT_ACCESS_KEY\n}}",
    f"{ZONE} {{\nfallthrough\n}}",
    f"{ZONE} {{\ncredentials default\n}}",
    f"{ZONE} {{\ncredentials default credentials\n}}",
    f"{ZONE} {{\nrefresh 90\n}}",
    f"{ZONE} {{\nrefresh 5m\n}}",
    f"{ZONE} {{\naws_endpoint https://localhost\n}}",
    f"{ZONE} {{\nupstream 192.0.2.1\n}}",
    f"{ZONE} {{\ninstance_metadata\n}}",
    "route53 example.org:1 example.org:2 example.org.:1 example.gov.:/hostedzone/3",
]
REFUSED = {
    "route53 :": "invalid zone ':'",
    "route53 example.org": "invalid zone 'example.org'",
    "route53 example.org:": "invalid zone 'example.org:'",
    "route53 :12345678": "invalid zone ':12345678'",
    "route53 a..b:1": "invalid zone: empty label in name 'a..b'",
    "route53 example.org:1 example.org:1": "conflict zone 'example.org:1'",
    f"{ZONE} {{ wat\n}}": "unknown option 'wat'",
    f"{ZONE} {{\naws_access_key\n}}": "aws_access_key requires a key ID and a secret key",
    f"{ZONE} {{\naws_access_key ID\n}}": "aws_access_key requires a key ID and a secret key",
    f"{ZONE} {{\ncredentials\n}}": "wrong argument count or unexpected line ending after 'credentials'",
    f"{ZONE} {{\ncredentials default credentials extra-arg\n}}": "unknown option 'extra-arg'",
    f"{ZONE} {{\nrefresh\n}}": "wrong argument count or unexpected line ending after 'refresh'",
    f"{ZONE} {{\nrefresh foo\n}}": "invalid duration 'foo'",
    f"{ZONE} {{\nrefresh -1m\n}}": "refresh interval must be greater than 0: '-1m'",
    f"{ZONE} {{\nrefresh 0\n}}": "refresh interval must be greater than 0: '0'",
    f"{ZONE} {{\naws_endpoint\n}}": "wrong argument count or unexpected line ending after 'aws_endpoint'",
    f"{ZONE} {{\naws_endpoint localhost\n}}": "endpoint 'localhost': a URL begins with http:// or https://",
    f"{ZONE} {{\naws_endpoint https://u:p@h\n}}": "an endpoint has no user name and password",
    f"{ZONE} {{\ninstance_metadata yes\n}}": "wrong argument count or unexpected line ending after 'yes'",
}  # fmt: skip


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text):
    controller = set_up(text)
    assert [type(it) for it in controller.handlers] == [Route53]


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    assert refusal(text).message.startswith(REFUSED[text])


def handlers_of(text):
    return set_up(text).handlers


def test_the_order_of_hosted_zones_is_kept_and_names_have_one_form():
    (handler,) = handlers_of("route53 Example.ORG:Z2 example.org.:Z1 gov.:/hostedzone/Z3")
    zones = [(zone.origin, zone.id) for zone in handler._polled]
    org = from_text("example.org.")
    assert zones == [(org, "Z2"), (org, "Z1"), (from_text("gov."), "Z3")]


def test_each_directive_has_its_options():
    text = "route53 a.org:Z1 {\nrefresh 3m\n}\nroute53 b.org:Z2 {\ncredentials other\n}"
    settings = [it._settings for it in handlers_of(text)]
    assert [it.refresh for it in settings] == [180.0, 60.0]
    assert [it.key.profile for it in settings] == ["", "other"]
    assert settings[0] != settings[1]
    assert handlers_of("route53 a.org:Z1")[0]._settings == handlers_of("route53 b:Z")[0]._settings


def test_a_secret_is_shown_nowhere():
    text = f"{ZONE} {{\naws_access_key AKIDEXAMPLE tiny extra\nrefresh foo\n}}"
    with pytest.raises(CorefileError) as caught:
        set_up(text)
    assert "tiny" not in str(caught.value)
    with pytest.raises(CorefileError) as caught:
        set_up(f"{ZONE} {{\naws_access_key tiny\n}}")
    assert "tiny" not in str(caught.value)
    controller = set_up(f"{ZONE} {{\naws_access_key AKIDEXAMPLE tiny\n}}")
    (handler,) = controller.handlers
    assert "tiny" not in repr(handler._settings)
    assert "tiny" not in repr(handler._settings.key)
    assert "tiny" not in "".join(map(str, controller.warnings))


@pytest.mark.parametrize(
    ("option", "warning"),
    [
        ("aws_access_key A B", "aws_access_key is deprecated"),
        ("aws_endpoint http://192.0.2.1", "the endpoint is not encrypted"),
        ("refresh 1ms", "refresh 1ms is taken as 1s"),
        ("upstream", "upstream is ignored"),
        ("aws_endpoint http://127.0.0.1:4566", None),
        ("refresh 1s", None),
    ],
)
def test_warnings(option, warning):
    controller = set_up(f"{ZONE} {{\n{option}\n}}")
    messages = [it.message for it in controller.warnings]
    assert [it.startswith(warning) for it in messages] == ([] if warning is None else [True])


def test_a_directive_without_zones_has_no_effect():
    (warning,) = set_up("route53").warnings
    assert warning.message == "route53 has no zones, so it has no effect"


@pytest.mark.parametrize(
    ("variables", "warning"),
    [
        ({"AWS_ENDPOINT_URL": "http://192.0.2.1"}, "AWS_ENDPOINT_URL is not encrypted"),
        ({"AWS_ENDPOINT_URL_ROUTE_53": "ftp://x"}, "AWS_ENDPOINT_URL_ROUTE_53: a URL begins"),
        ({"AWS_ENDPOINT_URL_ROUTE_53": "https://x", "AWS_ENDPOINT_URL": "http://y"}, None),
        ({"AWS_ENDPOINT_URL_STS": "http://192.0.2.1"}, None),
        ({}, None),
    ],
)
def test_warnings_of_the_environment(variables, warning, monkeypatch):
    environment = Environment(tuple(variables.items()))
    monkeypatch.setattr(Environment, "current", classmethod(lambda cls: environment))
    messages = [it.message for it in set_up(ZONE).warnings]
    assert [it.startswith(warning) for it in messages] == ([] if warning is None else [True])
    assert set_up(f"{ZONE} {{\naws_endpoint https://localhost\n}}").warnings == []
