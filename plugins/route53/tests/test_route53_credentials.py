"""Credentials: the places in their order, roles, renewal, and what is refused."""

import asyncio
import json
import stat
import time
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.http.http_client import parse_url
from corepy.testing import helper_module
from corepy.zone.polled_api import PollError
from corepy_route53 import credentials as chain_module
from corepy_route53 import metadata
from corepy_route53.credentials import CredentialChain
from corepy_route53.options import VARIABLES, Environment, Options
from corepy_route53.shared_files import parse_profiles

api = helper_module(__file__, "route53_api")
Told, http_response, environment = api.Told, api.http_response, api.environment

ENV_KEYS = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s"}
ROLE = "arn:aws:iam::123456789012:role/dns"


def role_response(action="AssumeRoleWithWebIdentity", expires="2030-01-01T00:00:00.5Z"):
    return http_response(
        f"<{action}Response><{action}Result><Credentials><AccessKeyId>ROLE</AccessKeyId>"
        "<SecretAccessKey>rs</SecretAccessKey><SessionToken>rt</SessionToken>"
        f"<Expiration>{expires}</Expiration></Credentials></{action}Result></{action}Response>"
    )


def json_response(access_key, expires="2030-01-01T00:00:00Z"):
    document = {"AccessKeyId": access_key, "SecretAccessKey": "s", "Token": "t"}
    return http_response(json.dumps({**document, "Expiration": expires}))


def find(options, **chain_options):
    return asyncio.run(CredentialChain(options, **chain_options).get())


def problem_of(options):
    with pytest.raises(PollError) as caught:
        find(options)
    return str(caught.value)


def options(tmp_path, *, config="", credentials="", variables=None, **more):
    """Options with shared files in a folder."""
    folder = tmp_path / ".aws"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(config)
    (folder / "credentials").write_text(credentials)
    values = {"HOME": str(tmp_path), **(variables or {})}
    return Options(environment=environment(**values), **more)


def section(name, access_key, **more):
    lines = {"aws_access_key_id": access_key, "aws_secret_access_key": "s", **more}
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


# -- the order


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"keys": ("OPTION", "s"), "variables": ENV_KEYS, "profile": "other"}, "OPTION"),
        ({"profile": "other", "variables": ENV_KEYS}, "OTHER"),
        ({"variables": ENV_KEYS}, "ENV"),
        ({"variables": {"AWS_ACCESS_KEY": "OLD", "AWS_SECRET_KEY": "s"}}, "OLD"),
        ({"variables": {"AWS_ACCESS_KEY_ID": "HALF"}}, "DEFAULT"),
        ({"variables": {"AWS_PROFILE": "other"}}, "OTHER"),
        ({"variables": {"AWS_DEFAULT_PROFILE": "other"}}, "OTHER"),
        ({"variables": {"AWS_PROFILE": "other", **ENV_KEYS}}, "ENV"),
        ({}, "DEFAULT"),
    ],
)
def test_the_first_place_with_keys_counts(tmp_path, more, expected):
    files = section("default", "DEFAULT") + section("other", "OTHER")
    found = find(options(tmp_path, credentials=files, **more))
    assert found.access_key == expected


def test_keys_of_the_credentials_file_precede_those_of_the_config_file(tmp_path):
    config = section("default", "CONFIG", region="cn-north-1") + section("profile p", "P")
    both = options(tmp_path, config=config, credentials=section("default", "CREDENTIALS"))

    async def run():
        chain = CredentialChain(both)
        return (await chain.get()).access_key, chain.region

    assert asyncio.run(run()) == ("CREDENTIALS", "cn-north-1")
    assert find(options(tmp_path, config=config, profile="p")).access_key == "P"


def test_other_files_are_named_by_the_option_or_the_environment(tmp_path):
    path = tmp_path / "elsewhere"
    path.write_text(section("team", "TEAM", aws_session_token="tt"))
    found = find(options(tmp_path, profile="team", file=path))
    assert (found.access_key, found.token) == ("TEAM", "tt")
    variables = {"AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_PROFILE": "team"}
    assert find(options(tmp_path, variables=variables)).access_key == "TEAM"
    variables = {"AWS_CONFIG_FILE": str(path), "AWS_PROFILE": "team"}
    assert find(options(tmp_path, variables=variables)).access_key == "TEAM"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({}, "no credentials of AWS: set AWS_ACCESS_KEY_ID"),
        ({"profile": "absent"}, "the profile 'absent' is not in"),
        ({"variables": {"AWS_PROFILE": "absent"}}, "the profile 'absent' is not in"),
        ({"config": "[default]\ncredential_process = rm"}, "does not support credential_process"),
        ({"config": "[default]\nsso_session = x"}, "does not support sso_session"),
        ({"config": f"[default]\nrole_arn = {ROLE}\nmfa_serial = 1"}, "needs a device"),
        (
            {"config": f"[default]\nrole_arn = {ROLE}\nsource_profile = absent"},
            "the profile 'absent' is not in",
        ),
        (
            {
                "config": f"[default]\nrole_arn = {ROLE}\nsource_profile = b\n"
                f"[profile b]\nrole_arn = {ROLE}\nsource_profile = default"
            },
            "refers to itself",
        ),
        (
            {"config": f"[default]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata"},
            "use the option instance_metadata to permit it",
        ),
        (
            {"config": f"[default]\nrole_arn = {ROLE}\ncredential_source = Environment"},
            "the environment variables have no keys",
        ),
        (
            {"config": f"[default]\nrole_arn = {ROLE}\ncredential_source = Moon"},
            "unknown credential_source 'Moon'",
        ),
        (
            {"variables": {"AWS_WEB_IDENTITY_TOKEN_FILE": "/absent"}},
            "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not",
        ),
        (
            {"variables": {"AWS_WEB_IDENTITY_TOKEN_FILE": "/absent", "AWS_ROLE_ARN": ROLE}},
            "cannot read /absent (AWS_WEB_IDENTITY_TOKEN_FILE): No such file",
        ),
    ],
)
def test_places_without_keys_are_explained(tmp_path, more, problem):
    assert problem in problem_of(options(tmp_path, **more))


def test_a_file_that_cannot_be_read_is_explained(tmp_path):
    with pytest.raises(PollError, match=r"cannot read .*/absent: No such file"):
        find(options(tmp_path, profile="default", file=tmp_path / "absent"))
    folder = tmp_path / "folder"
    folder.mkdir(mode=stat.S_IRWXU)
    with pytest.raises(PollError, match=r"cannot read .*/folder: "):
        find(options(tmp_path, profile="default", file=folder))


def test_keys_of_a_file_are_read_again(tmp_path):
    now = 1000.0

    async def run():
        nonlocal now
        place = options(tmp_path, credentials=section("default", "ONE"))
        chain = CredentialChain(place, now=lambda: now)
        found = [(await chain.get()).access_key]
        options(tmp_path, credentials=section("default", "TWO"))
        found.append((await chain.get()).access_key)
        now += chain_module.KEPT
        return [*found, (await chain.get()).access_key]

    assert asyncio.run(run()) == ["ONE", "ONE", "TWO"]


def test_only_variables_of_aws_are_kept_and_not_shown():
    variables = Environment.current({"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "tiny"})
    assert variables.values == (("AWS_SECRET_ACCESS_KEY", "tiny"),)
    assert "tiny" not in repr(variables)
    assert "tiny" not in repr(Options(environment=variables, keys=("a", "tiny")))
    assert len(set(VARIABLES)) == len(VARIABLES)


# -- shared files


def test_sections_have_several_forms():
    text = (
        "stray = 1\n# comment\n; comment\n[default]\nRegion=eu-west-1 # comment\nnot a pair\n"
        "s3 =\n  addressing_style = path\n[profile  a b ]\nx = y=z\n[sso-session s]\nx = 1\n"
        "[services s]\nx = 1\n[broken\nx = 1\n['quoted']\nk=v;w\n[default]\noutput = json\n"
    )
    assert parse_profiles(text) == {
        "default": {"region": "eu-west-1", "s3": "", "output": "json"},
        "a b": {"x": "y=z"},
        "quoted": {"k": "v;w"},
    }


@given(st.text("[]=#; \t\nab\"'\r\x0b\u2028é", max_size=40))
def test_any_text_is_a_file_of_profiles(text):
    parse_profiles(text)


# -- roles


def irsa(tmp_path, server, **more):
    token = tmp_path / "token"
    token.write_text("the.web.identity\n")
    variables = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_ROLE_ARN": ROLE,
        "AWS_ENDPOINT_URL_STS": server.url,
        **more,
    }
    return options(tmp_path, variables=variables)


def test_a_pod_gets_the_role_of_its_service_account(tmp_path):
    with Told(role_response()) as server:
        found = find(irsa(tmp_path, server, AWS_ROLE_SESSION_NAME="me"))
    assert found[:3] == ("ROLE", "rs", "rt")
    assert found.expires == 1893456000.5
    (request,) = server.seen
    assert dict(parse_qsl(request.body.decode())) == {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": ROLE,
        "RoleSessionName": "me",
        "WebIdentityToken": "the.web.identity",
    }
    assert "authorization" not in request.headers


def test_a_profile_assumes_a_role_with_the_keys_of_another(tmp_path):
    config = (
        f"[profile dns]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = e\n"
        "region = eu-west-1\n"
    )
    with Told(role_response("AssumeRole")) as server:
        place = options(
            tmp_path,
            config=config,
            credentials=section("base", "BASE"),
            profile="dns",
            variables={"AWS_ENDPOINT_URL": server.url},
        )
        assert find(place).access_key == "ROLE"
    (request,) = server.seen
    assert "Credential=BASE/" in request.headers["authorization"]
    assert "/eu-west-1/sts/aws4_request" in request.headers["authorization"]
    assert dict(parse_qsl(request.body.decode()))["ExternalId"] == "e"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http_response(api.error_page("AccessDenied"), 403), "trust policy must allow"),
        (http_response(api.error_page("ExpiredTokenException"), 400), "token in the file has exp"),
        (http_response(b"<html>", 502), "HTTP status 502; the service fails"),
        (http_response(b"<a/>"), "the response has no credentials"),
        (b"", "the connection was closed without a response"),
    ],
    ids=["denied", "expired", "HTML", "empty", "closed"],
)
def test_a_role_that_cannot_be_assumed_is_explained(tmp_path, answer, problem):
    with Told(answer) as server, pytest.raises(PollError) as caught:
        find(irsa(tmp_path, server))
    assert problem in str(caught.value)
    assert "the.web.identity" not in str(caught.value)


def test_secrets_are_not_sent_without_encryption_to_other_hosts(tmp_path):
    with Told(b"") as server, pytest.raises(PollError, match="need https, except on localhost"):
        find(irsa(tmp_path, server, AWS_ENDPOINT_URL_STS="http://192.0.2.1"))


# -- renewal


def test_temporary_keys_are_renewed_ahead_of_their_end(tmp_path, caplog):
    start = 1_893_456_000.0 - 3600
    now = start

    async def run(place, server):
        nonlocal now
        chain = CredentialChain(place, now=lambda: now)
        await chain.get()
        now = start + 3600 - chain_module.AHEAD - 1
        await chain.get()
        assert len(server.seen) == 1
        now += 2
        for _ in range(3):  # the service fails, and is not asked again at once
            assert (await chain.get()).access_key == "ROLE"
        assert len(server.seen) == 2
        now += chain_module.PAUSE
        assert (await chain.get()).access_key == "ROLE"
        assert len(server.seen) == 3
        now = start + 3601
        with pytest.raises(PollError, match="HTTP status 500"):
            await chain.get()
        server.answers = [role_response(expires="2031-01-01T00:00:00Z")]
        assert (await chain.get()).expires > now

    with Told(role_response(), http_response(b"", 500)) as server:
        asyncio.run(run(irsa(tmp_path, server), server))
    assert len([it for it in caplog.records if "cannot be renewed" in it.message]) == 1


# -- containers and instances


def test_a_container_gets_credentials_from_its_agent(tmp_path):
    token = tmp_path / "token"
    with Told(json_response("POD")) as server:
        variables = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/v1/credentials?x=y",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "not this one",
        }
        place = options(tmp_path, variables=variables)
        with pytest.raises(PollError, match=r"cannot read .*token"):
            find(place)
        token.write_text("bad\nline")
        with pytest.raises(PollError, match="has no token"):
            find(place)
        token.write_text("secret-token\n")
        assert find(place)[:3] == ("POD", "s", "t")
    (request,) = server.seen
    assert (request.target, request.headers["authorization"]) == (
        "/v1/credentials?x=y",
        "secret-token",
    )


def test_the_agent_of_ecs_has_a_relative_address(tmp_path, monkeypatch):
    with Told(json_response("TASK")) as server:
        monkeypatch.setattr(metadata, "CONTAINER", server.url)
        monkeypatch.setattr(metadata, "_CONTAINER_HOSTS", frozenset(["127.0.0.1"]))
        variables = {
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/x",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "tok",
        }
        assert find(options(tmp_path, variables=variables)).access_key == "TASK"
        variables["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "x@192.0.2.1/"
        with pytest.raises(PollError, match="AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
            find(options(tmp_path, variables=variables))
    assert server.seen[0].headers["authorization"] == "tok"


@pytest.mark.parametrize("url", ["http://192.0.2.1/", "http://169.254.170.3/", "http://[::2]/"])
def test_other_hosts_do_not_get_the_token_of_a_container(tmp_path, url):
    variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
    with pytest.raises(PollError, match="http is only for this host and the agents"):
        find(options(tmp_path, variables=variables))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http_response(b"", 404), "cannot get the container's credentials at 127"),
        (http_response(b"[]"), "has sent no credentials"),
        (http_response(b"{"), "has sent no credentials"),
        (http_response(b"[" * 60000), "has sent no credentials"),
        (http_response(b" " * 70000), "more than 65536 bytes"),
    ],
    ids=["404", "array", "half", "deep", "long"],
)
def test_an_agent_that_fails_is_explained(tmp_path, answer, problem):
    with Told(answer) as server:
        variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url}
        assert problem in problem_of(options(tmp_path, variables=variables))


def test_an_instance_gets_the_credentials_of_its_role_if_the_option_permits_it(tmp_path):
    answers = [http_response("imds-token"), http_response("dns\n"), json_response("EC2")]
    with Told(*answers) as server:
        variables = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url}
        with pytest.raises(PollError, match="no credentials of AWS"):
            find(options(tmp_path, variables=variables))
        found = find(options(tmp_path, variables=variables, instance_metadata=True))
        assert found.access_key == "EC2"
        disabled = {**variables, "AWS_EC2_METADATA_DISABLED": "true"}
        with pytest.raises(PollError, match="AWS_EC2_METADATA_DISABLED forbids"):
            find(options(tmp_path, variables=disabled, instance_metadata=True))
    requests = [(it.method, it.target) for it in server.seen]
    assert requests == [
        ("PUT", "/latest/api/token"),
        ("GET", "/latest/meta-data/iam/security-credentials/"),
        ("GET", "/latest/meta-data/iam/security-credentials/dns"),
    ]
    assert server.seen[0].headers["x-aws-ec2-metadata-token-ttl-seconds"] == "300"
    assert {it.headers["x-aws-ec2-metadata-token"] for it in server.seen[1:]} == {"imds-token"}


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([http_response(b"", 403)], "cannot get a session token at 127"),
        ([http_response("t"), http_response(b"", 404)], "the instance has no role"),
        ([http_response(b"\xff")], "sends a malformed response"),
        ([http_response("t"), http_response(b"")], "sends a malformed response"),
    ],
    ids=["disabled", "no role", "binary", "empty"],
)
def test_an_instance_without_a_role_is_explained(tmp_path, answers, problem):
    with Told(*answers) as server:
        variables = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url}
        place = options(tmp_path, variables=variables, instance_metadata=True)
        assert problem in problem_of(place)


@pytest.mark.parametrize("place", ["EcsContainer", "Ec2InstanceMetadata", "Environment"])
def test_a_role_is_assumed_with_credentials_of_another_place(tmp_path, place):
    sources = {
        "EcsContainer": [json_response("BASE")],
        "Ec2InstanceMetadata": [http_response("t"), http_response("r"), json_response("BASE")],
        "Environment": [],
    }
    with Told(*sources[place], role_response("AssumeRole")) as server:
        variables = {
            "AWS_ACCESS_KEY_ID": "BASE",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.url,
            "AWS_ENDPOINT_URL_STS": server.url,
        }
        config = f"[profile p]\nrole_arn = {ROLE}\ncredential_source = {place}\n"
        more = {"config": config, "variables": variables, "profile": "p"}
        assert find(options(tmp_path, **more, instance_metadata=True)).access_key == "ROLE"
    assert "Credential=BASE/" in server.seen[-1].headers["authorization"]


def test_the_time_of_day_is_the_default_clock(tmp_path):
    past = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 10))
    with Told(role_response(expires=past)) as server:

        async def run():
            chain = CredentialChain(irsa(tmp_path, server))
            await chain.get()

        asyncio.run(run())
    assert parse_url(server.url).scheme == "http"
