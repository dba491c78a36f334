"""Lists and watches, with an API server that does all that a real one does, and worse."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from corepy.plugin import metrics
from corepy.testing import helper_module, until
from corepy_kubernetes import api_client, api_credentials, api_metrics, api_watch
from corepy_kubernetes.api_client import APIClient
from corepy_kubernetes.api_problems import explain
from corepy_kubernetes.objects import Kind, Needs

fake = helper_module(__file__, "kubernetes_api_server")
feeds = helper_module(__file__, "kubernetes_feed")

ONLY_SERVICES = Needs(slices=False)
FAILED = fake.status(500, "InternalError", "an error on the server")


@pytest.fixture(autouse=True)
def _without_delays(monkeypatch):
    monkeypatch.setattr(api_watch, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(api_watch, "LONGEST_DELAY", 0.001)
    monkeypatch.setattr(api_watch, "SHORTEST_WATCH", 0.0)


def run(main):
    asyncio.run(main())


def web(*addresses):
    return fake.service("web", "default", list(addresses) or ["10.0.0.1"])


def queries_of(api, resource="services"):
    return [query for path, query, _ in api.requests if path.endswith(resource)]


def lists_of(api, resource="services"):
    return [it for it in queries_of(api, resource) if "watch" not in it]


@asynccontextmanager
async def followed(*services, **options):
    """An API with these services, and a feed that has them and has recorded no call since."""
    async with fake.serving(fake.FakeAPI(**options)) as api:
        for it in services:
            api.put("services", it)
        async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
            await feed.until_synced()
            await api.watched("services")
            del feed.calls[:]
            yield api, feed


@pytest.mark.parametrize("watch_list", [False, True])
def test_objects_and_their_changes(watch_list):
    async def main():
        async with fake.serving(fake.FakeAPI(watch_list=watch_list)) as api:
            api.put("services", web())
            api.put("namespaces", fake.namespace("default"))
            async with feeds.started(feeds.config_for(api.url)) as feed:
                await feed.until_synced()
                assert (feed.names(), feed.names(Kind.NAMESPACE)) == (["web"], ["default"])
                await api.watched("services", "endpointslices", "namespaces")
                api.put("services", fake.service("new", addresses=["10.0.0.2"]))
                await feed.until_names("new", "web")
                api.delete("services", "default", "web")
                await feed.until_names("new")
                slice_ = fake.endpoint_slice("a", "new", triggered="2026-11-30T08:00:00.5Z")
                api.put("endpointslices", slice_)
                await feed.until_names("a", kind=Kind.SLICE)
                assert ("put", "a", 1796025600.5) in feed.calls
            assert bool(lists_of(api)) is not watch_list

    run(main)


def test_a_watch_list_that_is_refused_is_tried_once():
    async def main():
        async with followed(web()) as (api, _):
            api.compact()
            api.end_watches()
            await api.requested(lambda _: len(lists_of(api)) == 2)
        assert sum("sendInitialEvents" in it for it in queries_of(api)) == 1

    run(main)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param((200, [], fake.event("services", "ERROR", FAILED).decode()), id="error event"),
        pytest.param((400, [], fake.status(400, "BadRequest", "no")), id="bad request"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            id="no end of the first events",
        ),
    ],
)
def test_servers_without_watch_lists(fault, monkeypatch):
    monkeypatch.setattr(api_watch, "INITIAL_SILENCE", 0.01)

    async def main():
        async with fake.serving(fake.FakeAPI(watch_list=True)) as api:
            api.put("services", web())
            if isinstance(fault, bytes):
                api.watch_list = True
                api.hold("services", fault)
            else:
                api.fail(fault, "services", watch=True)
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_names("web")
                await api.requested(lambda _: lists_of(api))

    run(main)


def test_a_busy_server_without_watch_lists(monkeypatch):
    """Its first events are followed by others, and now and then by a bookmark."""
    monkeypatch.setattr(api_watch, "INITIAL_SILENCE", None)
    lines = [
        fake.event("services", "ADDED", web()),
        fake.event("services", "BOOKMARK", {"metadata": {"resourceVersion": "1001"}}),
    ]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)

    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.put("services", web())
            api.hold("services", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_synced()
            assert len(lists_of(api)) == 1

    run(main)


def test_a_list_comes_in_pages_and_the_pages_are_one_request_for_the_limit():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.largest_page = 3
            for number in range(10):
                api.put("services", fake.service(f"s{number}"))
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_synced()
                assert len(feed.names()) == 10
            pages = lists_of(api)
            assert [it["limit"] for it in pages] == ["500"] * 4
            assert ["continue" in it for it in pages] == [False, True, True, True]

    run(main)


def test_a_list_whose_rest_has_expired_is_read_at_once_instead():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.largest_page = 2
            for number in range(5):
                api.put("services", fake.service(f"s{number}"))
            api.fail((410, [], fake.expired()), "services", page=True)
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_synced()
                assert len(feed.names()) == 5
            assert ["limit" in it for it in lists_of(api)] == [True, True, False]

    run(main)


@pytest.mark.parametrize("as_event", [True, False])
@pytest.mark.parametrize("watch_list", [False, True])
def test_after_410_only_what_is_different_changes(as_event, watch_list):
    async def main():
        async with followed(
            *(fake.service(name, addresses=["10.0.0.1"]) for name in ("stays", "changes", "goes")),
            watch_list=watch_list,
        ) as (api, feed):
            api.silence()
            api.put("services", fake.service("changes", addresses=["10.0.0.9"]))
            api.put("services", fake.service("comes"))
            api.delete("services", "default", "goes")
            if not as_event:
                api.fail((410, [], fake.expired()), "services", watch=True)
            api.compact()
            api.end_silently()
            await feed.until_names("changes", "comes", "stays")
            await api.watched("services")
        assert sorted(feed.calls) == [
            ("put", "changes", None), ("put", "comes", None), ("remove", "goes"),
        ]  # fmt: skip

    run(main)


def test_a_watch_continues_at_its_last_event_without_a_list():
    async def main():
        async with followed(web()) as (api, feed):
            version = api.put("services", fake.service("a"))
            await feed.until_names("a", "web")
            api.end_watches()
            await api.requested(
                lambda _: version == int(queries_of(api)[-1].get("resourceVersion", 0))
            )
            await api.watched("services")
            api.version += 100
            api.bookmark("services")
            api.end_watches(fake.CUT)
            await api.requested(
                lambda _: queries_of(api)[-1].get("resourceVersion") == str(api.version)
            )
            await api.watched("services")
            api.put("services", fake.service("b"))
            await feed.until_names("a", "b", "web")
        assert len(lists_of(api)) == 1
        watch = queries_of(api)[-1]
        assert (watch["allowWatchBookmarks"], watch["watch"]) == ("true", "true")
        assert 300 <= int(watch["timeoutSeconds"]) <= 600

    run(main)


def test_events_that_are_repeated_late_or_split_anywhere():
    async def main():
        async with followed(web("10.0.0.1")) as (api, feed):

            def send(kind, name, version, address):
                content = fake.service(name, addresses=[address])
                content["metadata"]["resourceVersion"] = str(version)
                line = fake.event("services", kind, content)
                for at in range(0, len(line), 50):
                    api.send("services", line[at : at + 50])

            send("MODIFIED", "web", 5000, "10.0.0.2")
            send("MODIFIED", "web", 5000, "10.0.0.2")
            send("MODIFIED", "web", 4000, "10.0.0.3")
            send("DELETED", "web", 4500, "10.0.0.3")
            send("ADDED", "gone", 5001, "10.0.0.4")
            send("DELETED", "gone", 5003, "10.0.0.4")
            send("MODIFIED", "gone", 5002, "10.0.0.5")
            send("DELETED", "never", 5004, "10.0.0.6")
            send("ADDED", "last", 5005, "10.0.0.7")
            await feed.until_names("last", "web")
        assert feed.calls == [
            ("put", "web", None), ("put", "gone", None), ("remove", "gone"), ("put", "last", None),
        ]  # fmt: skip
        (item,) = [it for it in feed.objects[Kind.SERVICE].values() if it.name == "web"]
        assert item.addresses == (b"\x0a\0\0\2",)

    run(main)


def test_a_stream_that_is_silent_begins_anew(monkeypatch):
    monkeypatch.setattr(api_watch, "SILENCE", 0.05)

    async def main():
        async with followed() as (api, feed):
            api.silence()
            api.put("services", web())
            await feed.until_names("web")
        assert len(lists_of(api)) == 1

    run(main)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param((500, [], FAILED), id="500"),
        pytest.param((503, [], "<html>proxy</html>"), id="page of a proxy"),
        pytest.param((429, [("Retry-After", "1")], fake.status(429, "TooManyRequests", "")), id="429"),
        pytest.param((200, [], "[]"), id="another document"),
        pytest.param((200, [], '{"items": [{"metadata": {"name": "x"}}'), id="cut off"),
        pytest.param((200, [], '{"items": [], "metadata": {}}'), id="no version"),
        pytest.param((200, [], "{" * 100_000), id="nested"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", id="within the response"),
        pytest.param(b"SSH-2.0\r\n\r\n", id="not HTTP"),
        pytest.param(fake.CUT, id="no response"),
    ],
)  # fmt: skip
def test_a_list_that_fails_takes_nothing_away_and_is_repeated(fault, monkeypatch):
    monkeypatch.setattr(api_watch, "LONGEST_PAUSE", 0.001)

    async def main():
        async with followed(web()) as (api, feed):
            api.silence()
            api.delete("services", "default", "web")
            api.put("services", fake.service("new"))
            api.compact()
            api.fail(fault, "services", watch=False)
            api.end_silently()
            await feed.until(lambda: "new" in feed.names())
            await feed.until_names("new")
        assert len(lists_of(api)) == 3

    run(main)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"[1]\n", id="no object"),
        pytest.param(b'{"type": "RENAMED", "object": {}}\n', id="unknown type"),
        pytest.param(b'{"type": "ADDED", "object": 7}\n', id="no content"),
        pytest.param(b"{]\n", id="malformed"),
        pytest.param(b'{"type": "ERROR", "object": {"code": 500}}\n', id="error"),
    ],
)
def test_a_watch_with_malformed_events_continues_at_the_last_good_one(line):
    async def main():
        async with followed() as (api, feed):
            api.put("services", web())
            await feed.until_names("web")
            api.send("services", line)
            await api.requested(
                lambda _: queries_of(api)[-1].get("resourceVersion") == str(api.version)
            )
            await api.watched("services")
            api.put("services", fake.service("new"))
            await feed.until_names("new", "web")
        assert len(lists_of(api)) == 1

    run(main)


def test_a_version_from_the_future_is_replaced_by_a_list():
    """The API was restored from a backup: its versions have gone back, and the list is right."""

    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.version = 9000
            api.put("services", web("10.0.0.1"))
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_synced()
                await api.watched("services")
                causes = [
                    {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
                ]
                api.silence()
                api.version = 10
                api.put("services", web("10.0.0.2"))
                message = "Too large resource version: 9001, current: 11"
                content = fake.status(504, "Timeout", message, causes=causes, retryAfterSeconds=0)
                api.fail((504, [], content), "services", watch=True)
                api.end_silently()
                await feed.until(
                    lambda: (
                        feed.objects[Kind.SERVICE]["default", "web"].addresses == (b"\x0a\0\0\2",)
                    )
                )

    run(main)


def test_a_server_that_stops_and_returns(caplog):
    async def main():
        api = fake.FakeAPI()
        async with fake.serving(api):
            api.put("services", web())
            port = api.port
            config = feeds.config_for(api.url, needs=ONLY_SERVICES)
            async with feeds.started(config) as feed:
                await feed.until_synced()
                await api.watched("services")
                await api.stop()
                await until(lambda: feed.source.status()["problems"])
                assert feed.source.status()["state"].startswith("API failing since ")
                assert feed.names() == ["web"]
                api.put("services", fake.service("new"))
                await api.start(port)
                await feed.until_names("new", "web")
                await until(lambda: feed.source.status()["state"] == "synced")
                assert len(lists_of(api)) == 1

    with caplog.at_level("INFO", "corepy"):
        run(main)
    assert any("answers again" in it.message for it in caplog.records)


def test_of_several_servers_one_that_answers_is_used():
    async def main():
        async with fake.serving(fake.FakeAPI()) as first, fake.serving(fake.FakeAPI()) as second:
            for api in (first, second):
                api.put("services", web())
            async with feeds.started(
                feeds.config_for(first.url, second.url, needs=ONLY_SERVICES)
            ) as feed:
                await feed.until_synced()
                await first.watched("services")
                assert not second.requests
                await first.stop()
                await second.watched("services")
                second.put("services", fake.service("new"))
                await feed.until_names("new", "web")

    run(main)


def test_a_server_error_sends_the_next_request_to_another_server():
    async def main():
        async with fake.serving(fake.FakeAPI()) as first, fake.serving(fake.FakeAPI()) as second:
            second.put("services", web())
            first.fail((503, [], "x"), "services")
            async with feeds.started(
                feeds.config_for(first.url, second.url, needs=ONLY_SERVICES)
            ) as feed:
                await feed.until_names("web")

    run(main)


def test_a_token_file_that_was_replaced_is_read_again_after_401(tmp_path):
    token = tmp_path / "token"
    token.write_text("old\n")

    async def main():
        async with fake.serving(fake.FakeAPI(token="old")) as api:
            config = feeds.config_for(api.url, needs=ONLY_SERVICES, token_file=token)
            async with feeds.started(config) as feed:
                await feed.until_synced()
                await api.watched("services", "namespaces")
                api.token = "new"
                token.write_text("new")
                api.end_watches()
                await api.watched("services", "namespaces")
                api.put("services", web())
                await feed.until_names("web")
                assert feed.source.status()["problems"] == []
            assert len(lists_of(api)) == 1
            sent = [headers["authorization"] for _, _, headers in api.requests]
            assert {"Bearer old", "Bearer new"} == set(sent)

    run(main)


def test_a_token_stays_in_use_while_its_file_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(api_credentials, "TOKEN_AGE", 0)
    token = tmp_path / "token"
    token.write_text("old")

    async def main():
        async with fake.serving(fake.FakeAPI(token="old")) as api:
            config = feeds.config_for(api.url, needs=ONLY_SERVICES, token_file=token)
            async with feeds.started(config) as feed:
                await feed.until_synced()
                await api.watched("services", "namespaces")
                token.unlink()
                api.end_watches()
                await api.watched("services", "namespaces")
                assert feed.source.status()["problems"] == []

    run(main)


def test_a_refusal_closes_its_connection_if_there_is_no_other_token(tmp_path):
    async def main():
        async with fake.serving(fake.FakeAPI(token="new")) as api:
            token = tmp_path / "token"
            token.write_text("old")
            config = feeds.config_for(api.url, needs=ONLY_SERVICES, token_file=token)
            client = APIClient(config.access, config.limits)
            await client._authorization.headers()
            token.unlink()
            with pytest.raises(OSError, match="No such file") as caught:
                await client.get("/api/v1/services", {})
            assert api.connections == 1
            await until(lambda: not api._tasks)
            del caught  # its frames have the response

    run(main)


@pytest.mark.parametrize("content", ["", "zwei\nworte", "ü"])
def test_a_token_file_without_a_token(tmp_path, content):
    token = tmp_path / "token"
    token.write_text(content)

    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            config = feeds.config_for(api.url, needs=ONLY_SERVICES, token_file=token)
            async with feeds.started(config) as feed:
                await until(lambda: len(feed.source.status()["problems"]) == 2)
                assert all(f"{token} has no token" in it for it in feed.source.status()["problems"])
            assert not api.requests

    run(main)


def test_what_the_api_refuses_is_logged_once_with_the_remedy(caplog):
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.forbidden = {"endpointslices"}
            api.put("services", web())
            async with feeds.started(feeds.config_for(api.url)) as feed:
                await feed.until_names("web")
                await api.requested(lambda _: len(queries_of(api, "endpointslices")) > 3)
                assert not feed.synced
                (problem,) = feed.source.status()["problems"]
                api.forbidden = set()
                await feed.until_synced()
                return problem

    problem = asyncio.run(main())
    rule = (
        'apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list", "watch"]'
    )
    assert problem.endswith(f"; add this rule to the ClusterRole of corepy: {rule}")
    assert sum("forbidden" in it.message for it in caplog.records) == 1


@pytest.mark.parametrize(
    ("fault", "resource", "hint"),
    [
        ((401, [], fake.status(401, "Unauthorized", "Unauthorized")), "services", "does not accept the token"),
        ((404, [], "404 page not found\n"), "serviceimports", "install the custom resources"),
    ],
)  # fmt: skip
def test_other_refusals(fault, resource, hint):
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            for _ in range(2):
                api.fail(fault, f"/{resource}")
            config = feeds.config_for(api.url, needs=Needs(imports=True))
            async with feeds.started(config) as feed:
                await until(lambda: feed.source.status()["problems"])
                assert hint in feed.source.status()["problems"][0]
                await feed.until_synced()

    run(main)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (OSError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"), "CA certificate that is configured"),
        (OSError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "the port for https?"),
        (ConnectionError("the connection was closed during the TLS handshake"), "the port for https?"),
        (ConnectionRefusedError(111, "Connection refused"), "services: Connection refused"),
    ],
    ids=["certificate", "version", "closed", "refused"],
)  # fmt: skip
def test_failures_of_connections(error, hint):
    assert hint in explain(Kind.SERVICE, error)


def test_selectors():
    async def main():
        needs = Needs(
            slices=False,
            pods=True,
            imports=True,
            labels="app=web",
            namespace_labels="team in (a,b)",
        )
        async with fake.serving(fake.FakeAPI()) as api:
            label = {"app": "web"}
            imported = {**label, "multicluster.kubernetes.io/service-name": "x"}
            api.put("services", fake.service("in", labels=label))
            api.put("services", fake.service("out"))
            api.put("endpointslices", fake.endpoint_slice("in", "x", labels=imported))
            api.put("endpointslices", fake.endpoint_slice("out", "x", labels=label))
            api.put("pods", fake.pod("in", labels=label))
            finished = fake.pod("out", labels=label)
            finished["status"]["phase"] = "Succeeded"
            api.put("pods", finished)
            api.put("namespaces", fake.namespace("in", labels={"team": "b"}))
            api.put("namespaces", fake.namespace("out"))
            async with feeds.started(feeds.config_for(api.url, needs=needs)) as feed:
                await feed.until_synced()
                for kind in (Kind.SERVICE, Kind.SLICE, Kind.POD, Kind.NAMESPACE):
                    assert feed.names(kind) == ["in"], kind

    run(main)


def test_a_terminating_pod_stays_until_it_is_deleted():
    async def main():
        needs = Needs(slices=False, pods=True)
        async with fake.serving(fake.FakeAPI()) as api:
            api.put("pods", fake.pod("known", addresses=["10.1.0.1"]))
            api.put("pods", fake.pod("late", deletionTimestamp="2026-11-30T08:00:00Z"))
            async with feeds.started(feeds.config_for(api.url, needs=needs)) as feed:
                await feed.until_synced()
                await api.watched("pods")
                assert feed.names(Kind.POD) == ["known"]
                ending = fake.pod("known", deletionTimestamp="2026-11-30T08:00:00Z")
                api.put("pods", ending)
                api.compact()
                api.end_watches()
                await api.watched("pods")
                api.put("pods", fake.pod("new"))
                await feed.until_names("known", "new", kind=Kind.POD)
                api.delete("pods", "default", "known")
                await feed.until_names("new", kind=Kind.POD)

    run(main)


def test_a_long_list_leaves_turns_to_others(monkeypatch):
    """The decoder pauses between objects, so that queries are answered meanwhile."""
    monkeypatch.setattr("corepy_kubernetes.api_turns.WORK", 0.0)

    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with fake.serving(fake.FakeAPI()) as api:
            for number in range(300):
                api.put("services", fake.service(f"s{number}"))
            counting = asyncio.create_task(count())
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until(lambda: feed.calls)
                before = turns
                await feed.until_synced()
                assert turns - before >= 299
            counting.cancel()

    run(main)


@pytest.fixture
def _zero():
    """Forget what was counted: the port of an API may be that of an earlier test."""
    for metric in metrics.registered():
        if metric.name.startswith("coredns_kubernetes_rest_client_"):
            for values, _ in metric.children():
                metric.remove(*values)


@pytest.mark.usefixtures("_zero")
def test_metrics_of_requests():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.fail((503, [], "x"), "services", watch=False)
            async with feeds.started(feeds.config_for(api.url, needs=ONLY_SERVICES)) as feed:
                await feed.until_synced()
                host = f"127.0.0.1:{api.port}"
                answered = api_metrics.REQUESTS.labels("200", "GET", host)
                await until(lambda: answered.value == 4)
            counts = {
                code: api_metrics.REQUESTS.labels(code, "GET", host).value
                for code in ("200", "422", "503")
            }
            assert counts == {"200": 4, "422": 2, "503": 1}
            assert sum(api_metrics.REQUEST_SECONDS.labels("GET", host).counts) == 3
            assert sum(api_metrics.RATE_LIMITER_SECONDS.labels("GET", host).counts) == 7

    run(main)


def test_an_error_has_the_text_of_the_status():
    error = api_client.APIError(403, fake.status(403, "Forbidden", "no\nway"), None)
    assert (str(error), error.is_expired, error.retry_after) == (
        "HTTP status 403: no way",
        False,
        None,
    )
    assert str(api_client.APIError(502, None)) == "HTTP status 502"
    assert (
        api_client.APIError(429, fake.status(429, "", "", retryAfterSeconds=3)).retry_after == 3.0
    )
    assert api_client.APIError(200, json.loads('{"reason": 7, "details": []}')).reason == ""
