"""The options about the API, kubeconfig files, certificates and limits."""

import asyncio
import base64
import json
import os
import ssl
import sys
import time

import pytest
import trustme
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.plugin import CorefileError
from corepy.testing import controller_for, helper_module
from corepy_kubernetes import api_config, api_watch
from corepy_kubernetes.api_client import APIClient
from corepy_kubernetes.api_config import Access, Limits, NotInCluster, in_cluster_access
from corepy_kubernetes.api_credentials import make_context
from corepy_kubernetes.api_kubeconfig import read_kubeconfig
from corepy_kubernetes.api_limits import RequestLimiter
from corepy_kubernetes.api_options import ApiOptions
from corepy_kubernetes.objects import Needs

fake = helper_module(__file__, "kubernetes_api_server")
feeds = helper_module(__file__, "kubernetes_feed")

ONLY_SERVICES = Needs(slices=False)
AUTHORITY = trustme.CA()
SERVER = AUTHORITY.issue_cert("api.example", "127.0.0.1")
CLIENT = AUTHORITY.issue_cert("corepy@example")
CA_PEM = AUTHORITY.cert_pem.bytes()
CERTIFICATE_PEM = CLIENT.cert_chain_pems[0].bytes()
KEY_PEM = CLIENT.private_key_pem.bytes()


@pytest.fixture
def pems(tmp_path):
    """A folder with the files of a client."""
    (tmp_path / "ca.crt").write_bytes(CA_PEM)
    (tmp_path / "tls.crt").write_bytes(CERTIFICATE_PEM)
    (tmp_path / "tls.key").write_bytes(KEY_PEM)
    (tmp_path / "token").write_text("secret\n")
    return tmp_path


def settled(*lines, checking=False):
    """The options in a directive, and the warnings."""
    inner = "\n".join(lines)
    controller = controller_for(f"kubernetes cluster.local {{\n{inner}\n}}")
    controller.checking = checking
    options = ApiOptions()
    for _ in controller.single():
        token = controller.token
        controller.remaining_args()
        controller.options(options.table(controller))
    assert token is not None
    options.settle(controller, token)
    return options, [it.message for it in controller.warnings]


def refused(*lines):
    with pytest.raises(CorefileError) as caught:
        settled(*lines)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic


def urls(options):
    return [it.url for it in options.access.endpoints]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("endpoint http://a:8080", ["http://a:8080/"]),
        ("endpoint https://a https://b:6443", ["https://a/", "https://b:6443/"]),
        ("endpoint a:8080", ["http://a:8080/"]),
        ("endpoint https://[2001:db8::1]/k8s/clusters/c", ["https://[2001:db8::1]/k8s/clusters/c"]),
    ],
)
def test_endpoints(line, expected):
    assert urls(settled(line)[0]) == expected


def test_endpoints_with_certificates(pems):
    line = f"tls {pems}/tls.crt {pems}/tls.key {pems}/ca.crt"
    options, warnings = settled("endpoint a:6443", line)
    assert (urls(options), warnings) == (["https://a:6443/"], [])
    assert options.access.files == (pems / "ca.crt", pems / "tls.crt", pems / "tls.key")


def test_certificates_without_endpoints():
    _, warnings = settled("tls a b c", checking=True)
    assert warnings[1:] == ["tls has no effect without endpoint"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], Limits(5.0, 10, 0)),
        (["apiserver_qps 0", "apiserver_burst 0", "apiserver_max_inflight 0"], Limits(5.0, 10, 0)),
        (
            ["apiserver_qps 2.5e1", "apiserver_burst 7", "apiserver_max_inflight 3"],
            Limits(25.0, 7, 3),
        ),
        (["apiserver_qps 1", "apiserver_qps 2"], Limits(2.0, 10, 0)),
    ],
)
def test_limits(lines, expected):
    assert settled("endpoint http://a", *lines)[0].limits == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("endpoint", "wrong argument count or unexpected line ending after 'endpoint'"),
        ("endpoint ftp://a", "'ftp://a' is not the URL of an API: "),
        ("endpoint http://a:99999", "'http://a:99999' is not the URL of an API: "),
        ("tls a b", "wrong argument count or unexpected line ending after 'b'"),
        ("tls a b c d", "wrong argument count or unexpected line ending after 'd'"),
        ("kubeconfig", "wrong argument count or unexpected line ending after 'kubeconfig'"),
        ("kubeconfig a b c", "wrong argument count or unexpected line ending after 'c'"),
        ("apiserver_qps", "wrong argument count"),
        ("apiserver_qps 1 2", "wrong argument count"),
        ("apiserver_qps x", "invalid apiserver_qps 'x': not a number"),
        ("apiserver_qps nan", "invalid apiserver_qps 'nan': not a number"),
        ("apiserver_qps 1_0", "invalid apiserver_qps '1_0': not a number"),
        ("apiserver_qps 1e999", "invalid apiserver_qps '1e999': too large"),
        ("apiserver_qps -1", "apiserver_qps must be >= 0"),
        ("apiserver_burst -1", "apiserver_burst must be >= 0"),
        ("apiserver_burst 1.5", "not a whole number: '1.5'"),
        ("apiserver_max_inflight -1", "apiserver_max_inflight must be >= 0"),
        ("apiserver_max_inflight x", "not a whole number: 'x'"),
        ("keep", "wrong argument count"),
        ("keep /tmp/a\nkeep /tmp/b", "keep can only be specified once"),
    ],
)
def test_refusals(line, message):
    lines = [line] if line.startswith("endpoint") else ["endpoint http://a", line]
    assert message in refused(*lines).message


@pytest.mark.parametrize("place", ["https://user:pass-word@a:x", "user:pass-word@a:x"])
def test_the_password_of_an_endpoint_is_not_shown(place):
    """Messages get into logs."""
    text = str(CorefileError(refused(f"endpoint {place} http://b")))
    assert "a:x' is not the URL of an API: " in text
    assert "pass-word" not in text


def test_the_file_to_keep(tmp_path):
    options, warnings = settled("endpoint http://a", f"keep {tmp_path}/kept")
    assert (options.keep, warnings) == (tmp_path / "kept", [])
    _, warnings = settled("endpoint http://a", f"keep {tmp_path}/no/kept")
    assert warnings == [f"the folder {tmp_path}/no does not exist here"]


def _become_fifo(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: (it / "tls.key").unlink(), "/tls.key: No such file or directory"),
        (lambda it: (it / "ca.crt").unlink(), "/ca.crt: No such file or directory"),
        (lambda it: _become_fifo(it / "tls.crt"), "/tls.crt: not a regular file"),
        (lambda it: _become_fifo(it / "tls.key"), "/tls.key: not a regular file"),
        (lambda it: _become_fifo(it / "ca.crt"), "/ca.crt: not a regular file"),
        (lambda it: (it / "ca.crt").write_text("x"), "/ca.crt has no certificate: "),
        (lambda it: (it / "tls.key").write_text("x"), "are no certificate and its key: "),
        (lambda it: (it / "tls.key").write_bytes(SERVER.private_key_pem.bytes()), "tls.key: not the key of "),
    ],
)  # fmt: skip
def test_certificates_that_cannot_be_used(pems, change, message):
    change(pems)
    line = f"tls {pems}/tls.crt {pems}/tls.key {pems}/ca.crt"
    diagnostic = refused("endpoint https://a", line)
    assert message in diagnostic.message
    assert diagnostic.token.text == f"{pems}/tls.crt"
    _, warnings = settled("endpoint https://a", line, checking=True)
    assert message in warnings[0]
    assert settled("endpoint http://a", line)[1] == []


# -- in a cluster


@pytest.fixture
def account(pems, monkeypatch):
    monkeypatch.setattr(api_config, "SERVICE_ACCOUNT", pems)
    return pems


@pytest.mark.parametrize(
    ("host", "url"), [("10.0.0.1", "https://10.0.0.1/"), ("fd00::1", "https://[fd00::1]/")]
)
def test_in_a_cluster(account, host, url):
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    access = in_cluster_access(environment, account)
    assert [it.url for it in access.endpoints] == [url]
    assert (access.authority, access.token_file) == (account / "ca.crt", account / "token")
    (account / "ca.crt").unlink()
    assert in_cluster_access(environment, account).authority is None


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set"),
        ({"KUBERNETES_SERVICE_HOST": "a"}, "are not set"),
        ({"KUBERNETES_SERVICE_HOST": "a", "KUBERNETES_SERVICE_PORT": "x"}, "is malformed"),
    ],
)
def test_not_in_a_cluster(account, environment, reason):
    with pytest.raises(NotInCluster, match=reason):
        in_cluster_access(environment, account)


def test_without_a_token(account):
    (account / "token").unlink()
    environment = {"KUBERNETES_SERVICE_HOST": "a", "KUBERNETES_SERVICE_PORT": "1"}
    with pytest.raises(NotInCluster, match="has no service account token"):
        in_cluster_access(environment, account)


def test_outside_of_a_cluster_the_api_must_be_named(monkeypatch):
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    diagnostic = refused()
    assert diagnostic.message.startswith("corepy does not run in a cluster: ")
    assert diagnostic.hint == "outside of a cluster, name the API with endpoint or kubeconfig"
    _, warnings = settled(checking=True)
    assert warnings == [diagnostic.message]


# -- kubeconfig


def kubeconfig(user=None, cluster=None, **more):
    """The document of a file with one context."""
    given = {"server": "https://127.0.0.1:6443", **(cluster or {})}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [
            {"name": "other", "context": {"cluster": "c2"}},
            {"name": "main", "context": {"cluster": "c1", "user": "u1", "namespace": "x"}},
        ],
        "clusters": [
            {"name": "c1", "cluster": given},
            {"name": "c2", "cluster": {"server": "http://127.0.0.2"}},
        ],
        "users": [{"name": "u1", "user": user or {}}],
        **more,
    }


@pytest.fixture
def written(pems):
    def write(document):
        path = pems / "kubeconfig"
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        path.write_text(text)
        return path

    return write


def data(pem):
    return base64.b64encode(pem).decode()


def test_a_kubeconfig_with_files(written, pems):
    user = {
        "client-certificate": "tls.crt",
        "client-key": str(pems / "tls.key"),
        "tokenFile": "token",
    }
    access = read_kubeconfig(written(kubeconfig(user, {"certificate-authority": "ca.crt"})))
    assert access.files == (pems / "ca.crt", pems / "tls.crt", pems / "tls.key")
    assert (access.token_file, access.cluster) == (pems / "token", "https://127.0.0.1:6443/")
    assert isinstance(make_context(access), ssl.SSLContext)


def test_a_kubeconfig_with_data(written):
    user = {
        "client-certificate-data": data(CERTIFICATE_PEM), "client-certificate": "ignored",
        "client-key-data": data(KEY_PEM), "token": "t",
    }  # fmt: skip
    cluster = {"certificate-authority-data": data(CA_PEM), "tls-server-name": "api.example"}
    access = read_kubeconfig(written(kubeconfig(user, cluster)))
    assert (access.files, access.token, access.server_name) == ((), "t", "api.example")
    assert make_context(access).verify_mode == ssl.CERT_REQUIRED


def test_other_credentials_and_contexts(written):
    path = written(
        kubeconfig({"username": "a", "password": "b"}, {"insecure-skip-tls-verify": True})
    )
    access = read_kubeconfig(path)
    assert (access.basic, access.is_insecure) == ("Basic YTpi", True)
    assert make_context(access).verify_mode == ssl.CERT_NONE
    assert read_kubeconfig(path, "other").cluster == "http://127.0.0.2/"
    written(json.dumps(kubeconfig()))
    assert make_context(read_kubeconfig(path)).verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        pytest.param("a: [", "it is not YAML: .*line 1", id="not YAML"),
        pytest.param("!!python/object:os.system {}", "it is not YAML", id="tag"),
        pytest.param("- 1", "the file has no keys and values", id="a list"),
        pytest.param("", "the file has no keys and values", id="empty"),
        pytest.param(kubeconfig(**{"current-context": ""}), "no current-context", id="no context"),
        pytest.param(kubeconfig(**{"current-context": "x"}), "no context 'x'", id="context"),
        pytest.param(kubeconfig(contexts=7), "contexts is not a list", id="contexts"),
        pytest.param(kubeconfig(contexts=[{"name": "main"}]), "names no cluster", id="no cluster"),
        pytest.param(kubeconfig(clusters=[]), "no cluster 'c1'", id="cluster"),
        pytest.param(kubeconfig(users=[]), "no user 'u1'", id="user"),
        pytest.param(kubeconfig(users=[{"name": "u1", "user": "x"}]), "the user 'u1' has no keys", id="user text"),
        pytest.param(kubeconfig(cluster={"server": ""}), "has no server", id="no server"),
        pytest.param(kubeconfig(cluster={"server": "ftp://x"}), "is not a URL", id="URL"),
        pytest.param(kubeconfig(cluster={"server": "ftp://u:p@x"}), "server 'ftp://x' is", id="password"),
        pytest.param(kubeconfig(cluster={"proxy-url": "http://p"}), "a proxy", id="proxy"),
        pytest.param(kubeconfig(cluster={"insecure-skip-tls-verify": "yes!"}), "not true or false", id="flag"),
        pytest.param(kubeconfig({"exec": {"command": "aws"}}), "would run a program", id="exec"),
        pytest.param(kubeconfig({"auth-provider": {"name": "gcp"}}), "auth-provider", id="provider"),
        pytest.param(kubeconfig({"as": "root"}), "impersonation", id="as"),
        pytest.param(kubeconfig({"client-key": "k"}), "has no client-certificate", id="no certificate"),
        pytest.param(kubeconfig({"client-certificate": "k"}), "has no client-key", id="no key"),
        pytest.param(kubeconfig({"client-key-data": "%"}), "client-key-data is not base64|has no", id="base64"),
        pytest.param(kubeconfig({"token": "a\nb"}), "token has characters", id="token"),
        pytest.param(kubeconfig({"token": 7}), "token is not a text", id="number"),
    ],
)  # fmt: skip
def test_kubeconfigs_that_cannot_be_used(written, document, problem):
    path = written(document)
    with pytest.raises(ValueError, match=problem):
        read_kubeconfig(path)
    assert str(path) in refused(f"kubeconfig {path}").message
    with pytest.raises(CorefileError):
        settled(f"kubeconfig {path}", checking=True)


def test_a_kubeconfig_that_is_not_there(tmp_path):
    message = f"cannot read {tmp_path}/x: No such file or directory"
    assert refused(f"kubeconfig {tmp_path}/x").message == message
    assert settled(f"kubeconfig {tmp_path}/x", checking=True)[1] == [message]


def test_a_kubeconfig_is_preferred_and_yaml_is_loaded_only_for_it(written):
    path = written(kubeconfig(cluster={"insecure-skip-tls-verify": True}))
    options, _ = settled("endpoint http://a", f"kubeconfig {path} other")
    assert urls(options) == ["http://127.0.0.2/"]
    loaded = sys.modules.pop("yaml")
    try:
        settled("endpoint http://a")
        assert "yaml" not in sys.modules
    finally:
        sys.modules["yaml"] = loaded


PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda it: st.lists(it, max_size=2) | st.dictionaries(st.text(max_size=5), it, max_size=2),
    max_leaves=4,
)
KEYS = [
    "server",
    "token",
    "exec",
    "certificate-authority-data",
    "client-key",
    "insecure-skip-tls-verify",
]


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), PARTS),
    st.dictionaries(st.sampled_from(KEYS), PARTS),
    st.dictionaries(st.sampled_from(["contexts", "clusters", "users", "current-context"]), PARTS),
)
def test_any_kubeconfig_is_an_access_or_an_error(tmp_path_factory, user, cluster, more):
    path = tmp_path_factory.getbasetemp() / "any-kubeconfig"
    path.write_text(json.dumps(kubeconfig(user, cluster, **more)))
    try:
        access = read_kubeconfig(path)
    except ValueError:
        return
    assert access.endpoints


# -- TLS


def server_context(*, with_client=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    SERVER.configure_cert(context)
    if with_client:
        AUTHORITY.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_a_client_certificate_that_is_renewed(pems, monkeypatch):
    monkeypatch.setattr(api_watch, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(api_watch, "LONGEST_DELAY", 0.001)
    stranger = trustme.CA().issue_cert("x@example")
    good = CERTIFICATE_PEM, KEY_PEM
    (pems / "tls.crt").write_bytes(stranger.cert_chain_pems[0].bytes())
    (pems / "tls.key").write_bytes(stranger.private_key_pem.bytes())

    async def main():
        async with fake.serving(fake.FakeAPI(tls=server_context(with_client=True))) as api:
            config = feeds.config_for(
                api.url, needs=ONLY_SERVICES, authority=pems / "ca.crt",
                certificate=pems / "tls.crt", key=pems / "tls.key", server_name="api.example",
            )  # fmt: skip
            async with feeds.started(config) as feed:
                await feeds.until(lambda: feed.source.status()["problems"])
                for name, pem in zip(("tls.crt", "tls.key"), good, strict=True):
                    (pems / name).write_bytes(pem)
                await feed.until_synced()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("access", "problem"),
    [
        ({"authority": CA_PEM}, None),
        ({"is_insecure": True}, None),
        ({"authority": CA_PEM, "server_name": "other.example"}, "Hostname mismatch"),
        ({}, "unable to get local issuer certificate|self-signed"),
    ],
)
def test_the_certificate_of_the_server(access, problem):
    async def main():
        async with fake.serving(fake.FakeAPI(tls=server_context())) as api:
            config = feeds.config_for(api.url, **access)
            client = APIClient(config.access, feeds.FAST)
            try:
                async with await client.get("/api/v1/services", {"limit": "1"}) as response:
                    return response.status
            finally:
                client.close()

    if problem is None:
        assert asyncio.run(main()) == 200
    else:
        with pytest.raises(OSError, match=problem):
            asyncio.run(main())


def test_the_path_of_an_endpoint_and_a_basic_authorization():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            config = feeds.config_for(f"{api.url}/prefix/?x=1", basic="Basic YTpi")
            client = APIClient(config.access, feeds.FAST)
            with pytest.raises(OSError, match="HTTP status 404"):
                await client.get("/api/v1/services", {"labelSelector": "a in (b, c)"})
            client.close()
            (path, query, headers) = api.requests[0]
            assert (path, query["labelSelector"]) == ("/prefix/api/v1/services", "a in (b, c)")
            assert headers["authorization"] == "Basic YTpi"

    asyncio.run(main())


# -- limits


def test_requests_are_limited_after_a_burst(monkeypatch):
    now = 1000.0
    slept = []

    async def sleep(seconds):
        nonlocal now
        slept.append(round(seconds, 6))
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr("corepy_kubernetes.api_limits.asyncio.sleep", sleep)

    async def main():
        nonlocal now
        limiter = RequestLimiter(Limits(qps=2.0, burst=3))
        waits = [await limiter.wait() for _ in range(5)]
        now += 0.75
        return [*waits, await limiter.wait(), await limiter.wait()]

    assert asyncio.run(main()) == [0, 0, 0, 0.5, 0.5, 0, 0.25]
    assert slept == [0.5, 0.5, 0.25]


def test_requests_in_flight_are_limited():
    async def main():
        limiter, running, most = RequestLimiter(Limits(max_inflight=2)), 0, 0

        async def request():
            nonlocal running, most
            async with limiter.in_flight():
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        await asyncio.gather(*(request() for _ in range(10)))
        return most

    assert asyncio.run(main()) == 2


def test_an_access_names_its_servers():
    assert Access().cluster == ""
