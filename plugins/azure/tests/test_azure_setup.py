"""The directive: the cases of plugin/azure/setup_test.go, and every option with its mistakes."""

from pathlib import Path

import pytest

from corepy.corefile.redaction import redact
from corepy.dns.names import to_text
from corepy.testing import refusal, set_up
from corepy_azure.clouds import CLOUDS, PUBLIC
from corepy_azure.tokens import INSTANCE_METADATA

ZONE = "azure resource_set:zone"
COUNT = "wrong argument count or unexpected line ending after"
ALL = "tenant t\nclient c\nsecret hidden-word\nsubscription s\n"

VARIABLES = (
    "AZURE_SUBSCRIPTION_ID",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_ENVIRONMENT",
    "AZURE_ENVIRONMENT_FILEPATH",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def handler_of(text):
    """Set up directives; return the handler and the messages of the warnings."""
    controller = set_up(text)
    (handler,) = controller.handlers
    return handler, [warning.message for warning in controller.warnings]


def zones_of(handler):
    return [(to_text(zone.origin), zone.id) for zone in handler._polled]


def account_of(text):
    return handler_of(text)[0]._settings.key


PUBLIC_ZONE = [("zone.", "resource_set/dnsZones/zone")]


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        ("azure", []),
        (ZONE, PUBLIC_ZONE),
        (f"{ZONE} {{\ntenant abc\n}}", PUBLIC_ZONE),
        (f"{ZONE} {{\nclient abc\n}}", PUBLIC_ZONE),
        (f"{ZONE} {{\nsubscription abc\n}}", PUBLIC_ZONE),
        (
            f"{ZONE} {{\ntenant tenant_id\nclient client_id\nsecret client_secret\n"
            "subscription subscription_id\naccess public\n}",
            PUBLIC_ZONE,
        ),
        (f"{ZONE} {{\nfallthrough\n}}", PUBLIC_ZONE),
        (f"{ZONE} {{\nenvironment AZUREPUBLICCLOUD\n}}", PUBLIC_ZONE),
        (
            "azure resource_set:zone,zone2 {\naccess private\n}",
            [("zone,zone2.", "resource_set/privateDnsZones/zone,zone2")],
        ),
        (
            "azure resource-set:zone {\naccess public\n}",
            [("zone.", "resource-set/dnsZones/zone")],
        ),
        (
            "azure rg:zone1 rg:zone2 {\naccess private\n}",
            [("zone1.", "rg/privateDnsZones/zone1"), ("zone2.", "rg/privateDnsZones/zone2")],
        ),
        (
            "azure rg:zone1 {\naccess private\n}\nazure rg:zone2 {\n}",
            [("zone1.", "rg/privateDnsZones/zone1"), ("zone2.", "rg/dnsZones/zone2")],
        ),
        (
            "azure rg:zone1 rg:zone2 {\n}",
            [("zone1.", "rg/dnsZones/zone1"), ("zone2.", "rg/dnsZones/zone2")],
        ),
    ],
)
def test_what_coredns_accepts_is_accepted(text, zones):
    handler, _ = handler_of(text)
    assert zones_of(handler) == zones


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("azure :", "invalid resource group/zone: ':'"),
        (f"{ZONE} {{\ntenant\n}}", f"{COUNT} 'tenant'"),
        (f"{ZONE} {{\nclient\n}}", f"{COUNT} 'client'"),
        (f"{ZONE} {{\nsubscription\n}}", f"{COUNT} 'subscription'"),
        (f"{ZONE} {{\nfoo\n}}", "unknown option 'foo'"),
        (
            "azure resource_set:zone resource_set:zone {\nfallthrough\n}",
            "conflicting zone: 'resource_set:zone'",
        ),
        (
            "azure resource-set:zone {\naccess foo\n}",
            "invalid access value: can be public/private, found: 'foo'",
        ),
    ],
)
def test_what_coredns_refuses_is_refused(text, message):
    assert message in refusal(text).message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("azure group", "invalid resource group/zone: 'group'"),
        ("azure :zone", "invalid resource group/zone: ':zone'"),
        ("azure group:", "invalid resource group/zone: 'group:'"),
        ("azure a/b:zone", "the name of a resource group has no slash"),
        ("azure rg:a..b", "invalid zone 'a..b'"),
        ("azure rg:a\nazure rg:a", "conflicting zone: 'rg:a'"),
        (f"{ZONE} {{\nsecret\n}}", f"{COUNT} 'secret'"),
        (f"{ZONE} {{\naccess\n}}", f"{COUNT} 'access'"),
        (f"{ZONE} {{\nenvironment\n}}", f"{COUNT} 'environment'"),
        (f"{ZONE} {{\nenvironment Mars\n}}", "there is no cloud 'MARS'"),
        (f"{ZONE} {{\nenvironment AzureStackCloud\n}}", "AZURE_ENVIRONMENT_FILEPATH must name"),
        (f"{ZONE} {{\nrefresh 0\n}}", "refresh '0' is too short"),
        (f"{ZONE} {{\nrefresh soon\n}}", "soon"),
        (f"{ZONE} {{\ninstance_metadata now\n}}", f"{COUNT} 'now'"),
    ],
)
def test_further_mistakes(text, message):
    assert message in refusal(text).message


def test_an_unknown_cloud_is_marked():
    found = refusal(f"{ZONE} {{\nenvironment Mars\n}}")
    assert found.token is not None
    assert (found.token.text, found.message) == (
        *("Mars", "cannot set azure environment: there is no cloud 'MARS'"),
    )


def test_an_ambiguous_pair_is_no_conflict():
    """CoreDNS compares "ab" + "c" with "a" + "bc"."""
    handler, _ = handler_of("azure ab:c a:bc")
    assert len(zones_of(handler)) == 2


def test_the_dot_at_the_end_is_not_part_of_the_name_in_azure():
    assert zones_of(handler_of("azure rg:Example.ORG.")[0]) == [
        ("example.org.", "rg/dnsZones/Example.ORG")
    ]


def test_options_of_all_directives_apply_to_all_zones():
    text = (
        "azure rg:a {\ntenant one\nsecret abcdef\nfallthrough a\n}\n"
        "azure rg:b {\ntenant two\nfallthrough b\nrefresh 300\n}"
    )
    handler, warnings = handler_of(text)
    assert account_of(text).tenant == "two"
    assert account_of(text).secret == "abcdef"
    assert handler._fallthrough.zones == ("b.",)
    assert handler._settings.refresh == 300
    assert "this tenant replaces the one above, as in CoreDNS" in warnings
    text = "azure rg:a {\ntenant one\n}\nazure rg:b {\ntenant one\n}"
    assert [it for it in handler_of(text)[1] if "replaces" in it] == []


def test_new_credentials_keep_the_copies():
    settings, renewed, other = (
        handler_of(f"{ZONE} {{\nsubscription {name}\nsecret {secret}\n}}")[0]._settings
        for name, secret in (("s", "old"), ("s", "new"), ("t", "old"))
    )
    assert settings != renewed
    assert settings.has_zones_of(renewed)
    assert not settings.has_zones_of(other)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("AzurePublicCloud", "management.azure.com"),
        ("azurecloud", "management.azure.com"),
        ("AZURECHINACLOUD", "management.chinacloudapi.cn"),
        ("AzureGermanCloud", "management.microsoftazure.de"),
        ("AzureUSGovernment", "management.usgovcloudapi.net"),
        ("AzureUSGovernmentCloud", "management.usgovcloudapi.net"),
    ],
)
def test_the_clouds(name, host):
    account = account_of(f"{ZONE} {{\nenvironment {name}\n}}")
    assert account.cloud.manager.host == host
    assert account.cloud.manager.scheme == account.cloud.login.scheme == "https"
    assert account.cloud.audience == f"https://{host}/"


def test_a_cloud_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "cloud.json"
    monkeypatch.setenv("AZURE_ENVIRONMENT_FILEPATH", str(path))
    text = f"{ZONE} {{\nenvironment AzureStackCloud\n}}"
    for content, problem in [
        (None, "No such file or directory"),
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it is not a JSON object"),
        ("{}", "has no activeDirectoryEndpoint"),
        ('{"activeDirectoryEndpoint": "http://login.example/"}', "begins with https://"),
        ('{"activeDirectoryEndpoint": "https://a/", "resourceManagerEndpoint": 1}', "has no res"),
        (
            '{"activeDirectoryEndpoint": "https://a/", "resourceManagerEndpoint": "https://b/",'
            ' "tokenAudience": 3}',
            "tokenAudience is not a text",
        ),
    ]:
        if content is not None:
            path.write_text(content)
        assert problem in refusal(text).message
    path.write_text(
        '{"activeDirectoryEndpoint": "https://a/", "resourceManagerEndpoint": "https://b:8/"}'
    )
    cloud = account_of(text).cloud
    assert (cloud.login.host, cloud.manager.authority, cloud.audience) == (
        *("a", "b:8", "https://b:8/"),
    )


def test_credentials_of_the_environment(monkeypatch):
    for name in ("SUBSCRIPTION_ID", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"AZURE_{name}", name)
    account = account_of(ZONE)
    assert (account.subscription, account.tenant, account.client, account.secret) == (
        *("SUBSCRIPTION_ID", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"),
    )
    assert account.missing == ""
    written = account_of(f"{ZONE} {{\n{ALL}}}")
    assert (written.subscription, written.tenant, written.client) == ("s", "t", "c")
    assert written.secret == "hidden-word"


def test_a_workload_identity(monkeypatch):
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/token")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/")
    account = account_of(ZONE)
    assert account.token_file == Path("/var/run/secrets/token")
    assert account.cloud is CLOUDS["AZUREUSGOVERNMENT"]
    assert account_of(f"{ZONE} {{\n{ALL}}}").token_file is None
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.private.example/")
    cloud = account_of(ZONE).cloud
    assert (cloud.login.host, cloud.manager) == ("login.private.example", PUBLIC.manager)
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "http://login.private.example/")
    assert "AZURE_AUTHORITY_HOST" in refusal(ZONE).message


def test_the_metadata_service_is_used_when_asked_for(monkeypatch):
    assert account_of(ZONE).instance is None
    text = f"{ZONE} {{\nsubscription s\nclient c\ninstance_metadata\n}}"
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "of-something-else")
    account = account_of(text)
    assert (account.instance, account.secret, account.missing) == (INSTANCE_METADATA, "", "")
    _, warnings = handler_of(f"{ZONE} {{\n{ALL}instance_metadata\n}}")
    assert warnings == ["instance_metadata has no effect: the option secret is used"]
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://203.0.113.1")
    assert "AZURE_POD_IDENTITY_AUTHORITY_HOST" in refusal(text).message


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ("", "subscription is missing"),
        ("subscription s\n", "secret is missing"),
        ("subscription s\nsecret abc\n", "tenant is missing"),
        ("subscription s\nsecret abc\ntenant t\n", "client is missing"),
    ],
)
def test_missing_credentials_are_warned_of(options, start):
    """As in CoreDNS's tests of the parser, they are no mistake: the environment may differ."""
    _, warnings = handler_of(f"{ZONE} {{\n{options}}}")
    assert [it for it in warnings if it.startswith(start)] == warnings != []


def test_a_complete_directive_has_no_warnings():
    assert handler_of(f"{ZONE} {{\n{ALL}}}")[1] == []
    assert handler_of("azure")[1] == ["azure has no zones, so it has no effect"]


def test_the_secret_is_hidden():
    controller = set_up(f"{ZONE} {{\n{ALL}}}")
    source = controller.sibling("azure")[0].source
    assert [token.text for token in source.hidden] == ["hidden-word"]
    assert "hidden-word" not in redact(source.text).text
    assert "hidden-word" not in repr(controller.handlers[0]._settings)
    assert "hidden-word" not in repr(account_of(f"{ZONE} {{\n{ALL}}}"))
