"""Files with credentials, and the tokens that are got with them, with a stub over real sockets."""

import asyncio
import json
import sys
import time
from contextlib import suppress
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.http.http_client import parse_url
from corepy.testing import helper_module
from corepy.zone.polled_api import PollError
from corepy_clouddns import credentials as files
from corepy_clouddns.credentials import ServiceAccount, UnusableFile
from corepy_clouddns.tokens import SCOPE, Account, Tokens, rs256, signed_request

QUIET = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
stub = helper_module(__file__, "clouddns_api")
CLOUD = "https://www.googleapis.com/auth/cloud-platform"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch, tmp_path):
    for name in (files.FILE_VARIABLE, "CLOUDSDK_CONFIG", "GOOGLE_CLOUD_QUOTA_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def google():
    with stub.CloudDNSAPI() as server:
        yield server


def write(folder, content, name="credentials.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def token_of(path=None, **account):
    """Get a token with the credentials in a file."""
    tokens = Tokens(Account(parse_url("https://dns.googleapis.com"), path, **account))
    return asyncio.run(tokens.fetch())


def failure_of(path=None, **account):
    """The error instead of a token, which has no secrets."""
    with pytest.raises(PollError) as error:
        token_of(path, **account)
    text = str(error.value)
    for secret in (stub.TOKEN, stub.CLIENT_SECRET, stub.REFRESH_TOKEN, "PRIVATE KEY", "eyJ"):
        assert secret not in text
    assert "\n" not in text
    return text


def form_of(request):
    return {name: value for name, (value,) in parse_qs(request.body.decode()).items()}


# -- a key of a service account


def test_rs256_of_rfc_7515_appendix_a_2():
    signed = (
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcG"
        "xlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    signature = (
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W"
        "2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkS"
        "jtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnv"
        "Wh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    )
    assert rs256(signed.encode(), stub.pem()) == stub.decoded(signature)


def test_the_request_in_googles_documents():
    """OAuth 2.0 for server-to-server applications: the example of a JWT."""
    account = ServiceAccount(
        email="761326798069-r5mljlln1rd4lrbhg75efgigp36m78j5@developer.gserviceaccount.com",
        key_id="",
        private_key=stub.pem(),
        url=parse_url("https://accounts.google.com/o/oauth2/token"),
        audience="https://accounts.google.com/o/oauth2/token",
    )
    request = signed_request(account, "https://www.googleapis.com/auth/prediction", now=1328569781)
    head, claims, signature = request.split(".")
    assert head == "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9"
    assert claims == (
        "eyJpc3MiOiI3NjEzMjY3OTgwNjktcjVtbGpsbG4xcmQ0bHJiaGc3NWVmZ2lncDM2bTc4ajVAZGV2ZWxvcGVyLmdz"
        "ZXJ2aWNlYWNjb3VudC5jb20iLCJzY29wZSI6Imh0dHBzOi8vd3d3Lmdvb2dsZWFwaXMuY29tL2F1dGgvcHJlZGlj"
        "dGlvbiIsImF1ZCI6Imh0dHBzOi8vYWNjb3VudHMuZ29vZ2xlLmNvbS9vL29hdXRoMi90b2tlbiIsImV4cCI6MTMy"
        "ODU3MzM4MSwiaWF0IjoxMzI4NTY5NzgxfQ"
    )
    stub.private_key().public_key().verify(
        stub.decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )


def test_a_service_account(google, tmp_path):
    before = int(time.time())
    token = token_of(write(tmp_path, google.service_account()))
    assert token.value == stub.TOKEN
    (request,) = google.requests
    assert (request.method, request.target) == ("POST", "/token")
    form = form_of(request)
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, claims, _ = form["assertion"].split(".")
    assert json.loads(stub.decoded(head))["kid"] == "the-key-id"
    fields = json.loads(stub.decoded(claims))
    assert (fields["iss"], fields["scope"]) == (stub.EMAIL, SCOPE)
    assert fields["aud"] == f"{google.url}/token"
    assert fields["exp"] - fields["iat"] == 3600
    assert before <= fields["iat"] <= int(time.time())


def other_key():
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


UNKNOWN_KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDKgMEBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB
-----END PRIVATE KEY-----
"""
"""A key of the algorithm 1.2.3.4."""


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"private_key": "x"}, "is not a usable key", id="not a key"),
        pytest.param({"private_key": UNKNOWN_KEY}, "is not a usable key", id="unknown algorithm"),
        pytest.param({"private_key": other_key}, "is not an RSA key", id="EC"),
        pytest.param({"private_key": None}, "private_key is missing", id="no key"),
        pytest.param({"client_email": ""}, "client_email is missing", id="no email"),
        pytest.param({"token_uri": None}, "token_uri is missing", id="no URL"),
        pytest.param({"token_uri": "http://oauth2.googleapis.com/token"}, "https://", id="http"),
        pytest.param(
            {"token_uri": "https://evil.example/token"}, "not one of Google's", id="another host"
        ),
        pytest.param(
            {"token_uri": "https://googleapis.com.evil.example/"}, "not one of Google", id="prefix"
        ),
        pytest.param(
            {"token_uri": "https://evilgoogleapis.com/"}, "not one of Google's", id="suffix"
        ),
        pytest.param({"token_uri": "nonsense"}, "token_uri: a URL begins", id="no scheme"),
        pytest.param({"universe_domain": "x.example"}, "'x.example' is not supported", id="cloud"),
    ],
)
def test_an_unusable_service_account(google, tmp_path, changes, problem):
    changes = {name: value() if callable(value) else value for name, value in changes.items()}
    path = write(tmp_path, google.service_account(**changes))
    assert problem in failure_of(path)
    assert google.requests == []


def test_google_s_hosts():
    for host in ("oauth2.googleapis.com", "accounts.google.com", "www.googleapis.com"):
        assert files.google_url(f"https://{host}/token", "token_uri").host == host


def test_without_the_package(google, tmp_path, monkeypatch):
    path = write(tmp_path, google.service_account())  # with the package
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    text = failure_of(path)
    assert "needs the package cryptography: pip install 'corepy-dns[clouddns]'" in text


# -- other credentials


def test_a_user(google, tmp_path, monkeypatch):
    path = write(tmp_path, google.authorized_user(quota_project_id="billed"))
    token = token_of(path)
    assert (token.value, token.headers) == (stub.TOKEN, (("X-Goog-User-Project", "billed"),))
    assert form_of(google.requests[0]) == {
        "grant_type": "refresh_token",
        "client_id": "764.apps.googleusercontent.com",
        "client_secret": stub.CLIENT_SECRET,
        "refresh_token": stub.REFRESH_TOKEN,
    }
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "another")
    assert token_of(path).headers == (("X-Goog-User-Project", "another"),)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_workload_outside_google_cloud(google, tmp_path, form):
    content = "the.own-token\n" if form == "text" else {"id": "the.own-token"}
    fields = {"type": form, "subject_token_field_name": "id"}
    source = {"file": str(write(tmp_path, content, "own")), "format": fields}
    path = write(tmp_path, google.external_account("", credential_source=source))
    assert token_of(path).value == stub.TOKEN
    (request,) = google.requests
    assert request.target == "/v1/token"
    assert form_of(request) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
        "scope": SCOPE,
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": "the.own-token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }


def test_a_workload_with_the_token_of_a_service_account(google, tmp_path):
    own = write(tmp_path, "the.own-token", "own")
    fields = google.external_account(
        own, service_account_impersonation_url=google.impersonation_url
    )
    assert token_of(write(tmp_path, fields)).value == stub.TOKEN
    exchange, impersonation = google.requests
    assert form_of(exchange)["scope"] == CLOUD
    assert impersonation.target.endswith(":generateAccessToken")
    assert impersonation.headers["authorization"] == f"Bearer {stub.TOKEN}"
    body = {"scope": [SCOPE], "delegates": [], "lifetime": "3600s"}
    assert json.loads(impersonation.body) == body


def test_an_impersonated_service_account(google, tmp_path):
    fields = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": google.impersonation_url,
        "delegates": ["projects/-/serviceAccounts/between@p.iam.gserviceaccount.com"],
        "source_credentials": google.authorized_user(),
    }
    assert token_of(write(tmp_path, fields)).value == stub.TOKEN
    assert json.loads(google.requests[1].body)["delegates"] == fields["delegates"]
    google.requests.clear()
    google.requests.clear()
    token_of(write(tmp_path, {**fields, "source_credentials": google.service_account()}))
    _, claims, _ = form_of(google.requests[0])["assertion"].split(".")
    assert json.loads(stub.decoded(claims))["scope"] == CLOUD
    google.token_fault = stub.http(404, {"error": {"status": "NOT_FOUND", "message": "No."}})
    assert failure_of(write(tmp_path, fields)).endswith("HTTP status 404: NOT_FOUND: No")
    google.requests.clear()
    nested = {**fields, "source_credentials": fields}
    assert "impersonated themselves" in failure_of(write(tmp_path, nested))
    assert "delegates is not" in failure_of(write(tmp_path, {**fields, "delegates": [1]}))
    assert google.requests == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"credential_source": {"environment_id": "aws1", "url": "http://169.254.169.254"}},
            "other than file (environment_id, url) is not supported",
        ),
        ({"credential_source": {"executable": {"command": "sh"}}}, "(executable) is not supported"),
        ({"credential_source": None}, "(none) is not supported"),
        ({"credential_source": {"file": "/x", "format": 1}}, "is malformed"),
        (
            {"credential_source": {"file": "/x", "format": {"type": "json"}}},
            "subject_token_field_name is missing",
        ),
        ({"token_url": "https://sts.evil.example/v1/token"}, "not one of Google's"),
        ({"service_account_impersonation_url": "https://evil.example/x"}, "not one of Google's"),
        ({"audience": None}, "audience is missing"),
    ],
)
def test_an_unusable_external_account(google, tmp_path, changes, problem):
    path = write(tmp_path, google.external_account(tmp_path / "own", **changes))
    assert problem in failure_of(path)


@pytest.mark.parametrize(
    ("content", "form"), [("", "text"), ("{", "json"), ("[]", "json"), ('{"id": 3}', "json")]
)
def test_a_file_without_a_token(google, tmp_path, content, form):
    own = tmp_path / "own"
    fields = {"type": form, "subject_token_field_name": "id"}
    source = {"file": str(own), "format": fields}
    path = write(tmp_path, google.external_account(own, credential_source=source))
    assert failure_of(path) == f"{own}, the token of the workload: No such file or directory"
    own.write_text(content)
    assert failure_of(path) == f"{own} has no token"


def test_the_metadata_server(google):
    assert token_of(instance=google.target()).value == stub.TOKEN
    (request,) = google.requests
    assert request.headers["metadata-flavor"] == "Google"
    assert request.target == "/computeMetadata/v1/instance/service-accounts/default/token"
    google.token_fault = stub.http(404, b"not found", kind="text/html")
    assert failure_of(instance=google.target()).endswith(
        "does the machine or the pod have a service account?"
    )


def test_the_usual_files(google, tmp_path, monkeypatch):
    assert failure_of().startswith("no credentials: name a file with the option credentials")
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    write(folder, google.authorized_user(), "application_default_credentials.json")
    assert token_of().value == stub.TOKEN
    monkeypatch.setenv(files.FILE_VARIABLE, str(tmp_path / "other.json"))
    assert failure_of() == f"credentials file {tmp_path}/other.json: No such file or directory"
    write(tmp_path, "{", "other.json")
    assert failure_of() == f"credentials file {tmp_path}/other.json: it is not JSON"


def test_a_file_is_preferred_to_the_metadata_server(google, tmp_path):
    path = write(tmp_path, google.authorized_user())
    token_of(path, instance=google.target())
    assert google.requests[0].target == "/token"


SIGNATURE = "Invalid JWT Signature."
REVOKED = "Token has been expired or revoked."


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        pytest.param(
            stub.http(400, {"error": "invalid_grant", "error_description": SIGNATURE}),
            "HTTP status 400: invalid_grant: Invalid JWT Signature; the key was deleted, or is of"
            " another account: make a new one",
            id="a deleted key",
        ),
        pytest.param(
            stub.http(400, {"error": "invalid_grant", "error_description": REVOKED}),
            "expired or revoked; the login has ended: gcloud auth application-default login",
            id="an old login",
        ),
        pytest.param(
            stub.http(400, {"error": "invalid_grant", "error_description": "Bad Request"}),
            "invalid_grant: Bad Request; the login has ended: gcloud auth application-default",
            id="another old login",
        ),
        pytest.param(
            stub.http(502, b"<html>", kind="text/html"),
            "502: the content is not from the API",
            id="a page of a proxy",
        ),
        pytest.param(
            stub.http(200, b"<html>"), "no token from Google: the response is not JSON", id="HTML"
        ),
        pytest.param(
            stub.http(200, {}),
            "no token from Google: the response has no usable access token",
            id="empty",
        ),
        pytest.param(
            stub.http(400, {"error": stub.CLIENT_SECRET, "error_description": stub.REFRESH_TOKEN}),
            "HTTP status 400: ***: ***",
            id="secrets",
        ),
    ],
)
def test_failures(google, tmp_path, response, problem):
    google.token_fault = response
    assert problem in failure_of(write(tmp_path, google.authorized_user()))


def test_a_token_with_any_time_of_its_end(google, tmp_path):
    own = write(tmp_path, "the.own-token", "own")
    fields = google.external_account(
        own, service_account_impersonation_url=google.impersonation_url
    )
    path = write(tmp_path, fields)
    exchange = google._token("")
    for moment in (None, "x", 3, "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00"):
        answer = stub.http(200, {"accessToken": "abc", "expireTime": moment})
        google.recorder.response = lambda request, answer=answer: (
            answer if "generate" in request.target else exchange
        )
        before = time.monotonic()
        token = token_of(path)
        assert token.value == "abc"
        assert before + 150 <= token.until <= time.monotonic() + 3300


FIELDS = st.sampled_from(
    [
        *("type", "client_email", "private_key", "token_uri", "client_id", "client_secret"),
        *("refresh_token", "audience", "subject_token_type", "token_url", "credential_source"),
        *("source_credentials", "delegates", "universe_domain"),
    ]
)
VALUES = (
    st.sampled_from([*files._READERS, "https://oauth2.googleapis.com/x", {"file": "/x"}])
    | st.text(max_size=20)
    | st.integers()
    | st.none()
    | st.dictionaries(st.sampled_from(["file", "format", "type"]), st.text(max_size=5))
)


@QUIET
@given(st.dictionaries(FIELDS, VALUES), st.sampled_from(sorted(files._READERS)))
def test_any_file_is_read_or_refused(fields, kind):
    with suppress(UnusableFile):
        files._credentials({**fields, "type": kind})
