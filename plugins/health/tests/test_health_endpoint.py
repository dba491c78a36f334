"""/health of a running server, and what makes it say no."""

import asyncio
import re
import socket
import threading
import time

import pytest

from corepy.http import HTTPRequest
from corepy.plugin import Handler, ProcessGroup, StartupError, hookimpl
from corepy.testing import TestServer, http_get, serve
from corepy.testing.command import wait_until
from corepy.testing.inline import with_handlers
from corepy.testing.tls import CERTIFICATE, KEY
from corepy_health import overload, probe
from corepy_health.health import Health

TEXT = ". {\nbind 127.0.0.1\nhealth 127.0.0.1:0\nwhoami\n}\n"


def get(port: int) -> tuple[int, str]:
    return http_get(port, "/health")[:2]


def health_of(server: TestServer) -> Health:
    return server.plugins(Health)[0]


def port_of(server: TestServer) -> int:
    claim = health_of(server)._claim
    assert claim is not None
    return claim.address.port


def wait_for_answers(server: TestServer) -> None:
    """Wait until each address has answered once more."""
    for target in health_of(server)._targets:
        wait_until(lambda target=target, first=target._answered: target._answered > first)


@pytest.fixture
def impatient(monkeypatch):
    for name in ("INTERVAL", "PAUSE", "PATIENCE"):
        monkeypatch.setattr(probe, name, 0.1)
    monkeypatch.setattr(probe, "LAST_CHANCE", 1.0)
    monkeypatch.setattr(probe, "DEAD_AFTER", 0.4)
    monkeypatch.setattr(overload, "INTERVAL", 0.05)


@pytest.fixture
def forgiving(impatient, monkeypatch):
    """The same with a last chance that is long enough for a machine that is busy."""
    monkeypatch.setattr(probe, "LAST_CHANCE", 30.0)
    monkeypatch.setattr(overload, "TIMEOUT", 30.0)


class Deaf:
    """Lets one of the sockets of a server go unread."""

    def __init__(self, server: TestServer, protocol: str) -> None:
        (endpoint,) = server.server.endpoints.values()
        self.listener = endpoint.listener(protocol)
        self.sock = self.listener.sock
        self.server = server

    def __enter__(self) -> None:
        self.server.call(self.server._loop.remove_reader, self.sock)

    def __exit__(self, *error: object) -> None:
        self.server.call(self.listener.start)


def silent(page: tuple[int, str]) -> list[str]:
    """Return the addresses without an answer that a page with status 503 names."""
    found = re.findall(r"^(.*): no answer for [0-9.]+ s$", page[1], re.MULTILINE)
    assert page[0] == (503 if found else 200)
    return found


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_says_no_when_one_protocol_is_dead(impatient, protocol: str) -> None:
    with serve(TEXT) as server:
        port = port_of(server)
        wait_until(lambda: get(port) == (200, "OK"))
        with Deaf(server, protocol):
            label = f"{protocol} 127.0.0.1:{server.address[1]}"
            wait_until(lambda: silent(get(port)) == [label])
            failures = overload.FAILURES.labels().value
            wait_until(lambda: overload.FAILURES.labels().value > failures)
        wait_until(lambda: get(port) == (200, "OK"))


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_is_not_ready_while_one_protocol_is_dead(impatient, protocol: str) -> None:
    with serve(TEXT) as server:
        health = health_of(server)
        wait_until(health.ready)
        with Deaf(server, protocol):
            wait_until(lambda: not health.ready())
        wait_until(health.ready)


@pytest.fixture
def encrypted(tmp_path):
    """The text of a server for DNS over TLS that demands certificates of clients."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(CERTIFICATE)
    key.write_text(KEY)
    demand = "{\nclient_auth require_and_verify\n}"
    tls = f"tls {certificate} {key} {certificate} {demand}\n"
    return TEXT.replace(". {\n", "tls://.:0 {\n" + tls)


def test_notices_a_deaf_listener_for_tls(encrypted, forgiving) -> None:
    with serve(encrypted) as server:
        (target,) = health_of(server)._targets
        wait_for_answers(server)
        with Deaf(server, "tcp"):
            wait_until(lambda: target.is_late)
            assert target.label == f"tls 127.0.0.1:{server.address[1]}"
        wait_for_answers(server)
        assert get(port_of(server))[0] == 200


@pytest.mark.parametrize("scheme", ["https", "grpc"])
@pytest.mark.parametrize("is_plain", [False, True], ids=["tls", "plain"])
def test_notices_a_deaf_listener_for_http(encrypted, forgiving, scheme, is_plain) -> None:
    plugin = {"https": "https", "grpc": "grpc_server"}[scheme]
    text = encrypted.replace("tls://", f"{scheme}://")
    if is_plain:
        text = TEXT.replace(". {\n", f"{scheme}://.:0 {{\n{plugin} {{\nplaintext\n}}\n")
    with serve(text) as server:
        (target,) = health_of(server)._targets
        wait_for_answers(server)
        with Deaf(server, "tcp"):
            wait_until(lambda: target.is_late)
            assert target.label == f"{scheme} 127.0.0.1:{server.address[1]}"
        wait_for_answers(server)


@pytest.mark.parametrize("scheme", ["quic", "https3"])
def test_notices_a_deaf_listener_for_quic(encrypted, forgiving, scheme) -> None:
    text = re.sub(r"\{\nclient_auth.*\n\}", "", encrypted).replace("tls://", f"{scheme}://")
    with serve(text) as server:
        (target,) = health_of(server)._targets
        wait_for_answers(server)
        with Deaf(server, "udp"):
            wait_until(lambda: target.is_late)
            assert target.label == f"{scheme} 127.0.0.1:{server.address[1]}"
        wait_for_answers(server)


def test_a_server_that_waits_for_its_certificate_is_healthy(encrypted, monkeypatch) -> None:
    with serve(encrypted) as server:
        (endpoint,) = server.server.endpoints.values()
        source = endpoint.listener("tcp")._tls._source

        def fail():
            raise OSError("no certificate yet")

        monkeypatch.setattr(source, "_fingerprint", b"other")
        monkeypatch.setattr(source, "create_context", fail)
        wait_for_answers(server)


def test_notices_with_the_real_times() -> None:
    with serve(TEXT) as server:
        with Deaf(server, "udp"):
            wait_until(lambda: get(port_of(server))[0] == 503)
        wait_until(lambda: get(port_of(server))[0] == 200)


def test_a_closed_socket_is_named(impatient) -> None:
    with serve(TEXT) as server:
        target = probe.Target("udp", "127.0.0.1", server.address[1], probe.ask_udp)
        tcp = probe.Target("tcp", "127.0.0.1", server.address[1], probe.ask_tcp)
    health = Health("")
    health._targets = [target, tcp]

    wait_until(lambda: target.is_late and tcp.is_late)
    response = asyncio.run(health.answer(HTTPRequest("GET", "/health", {})))
    assert response.status == 503
    assert isinstance(response.body, bytes)
    lines = response.body.decode().splitlines()
    assert [" Connection refused for " in line for line in lines] == [True, True]


class Hanging(ProcessGroup):
    """The processes of a server, one of which does not answer."""

    def problems(self) -> list[str]:
        return ["process 1 (4711): no answer for 1.6 s"]


def test_another_process_of_the_server_that_does_not_answer_is_named() -> None:
    health = Health("")
    assert asyncio.run(health.answer(HTTPRequest("GET", "/health", {}))).status == 200
    health._process_group = Hanging()
    response = asyncio.run(health.answer(HTTPRequest("GET", "/health", {})))
    assert (response.status, response.body) == (503, b"process 1 (4711): no answer for 1.6 s\n")


def test_a_slow_plugin_is_no_dead_server(forgiving) -> None:
    class Stuck(Handler):
        name = "stuck"

        def __init__(self):
            self.waiting, self.gate = 0, asyncio.Event()

        async def serve_dns(self, request):
            self.waiting += 1
            await self.gate.wait()
            return request.error(2)

    text = ". {\nbind 127.0.0.1\nhealth 127.0.0.1:0\nstuck\n}\n"
    with serve(text, plugins=with_handlers(stuck=Stuck)) as server:
        port = port_of(server)
        (stuck,) = server.plugins(Stuck)
        clients = [threading.Thread(target=server.ask, args=("example.org",)) for _ in range(20)]
        for client in clients:
            client.start()
        wait_until(lambda: stuck.waiting == 20)
        wait_for_answers(server)
        assert get(port) == (200, "OK")
        server.call(stuck.gate.set)
        for client in clients:
            client.join()
        assert get(port) == (200, "OK")


def test_a_busy_machine_is_no_dead_server(forgiving) -> None:
    with serve(TEXT) as server:
        port = port_of(server)
        for _ in range(5):
            server._loop.call_soon_threadsafe(time.sleep, 0.6)
            assert get(port) == (200, "OK")


@pytest.mark.parametrize("bind", ["bind 127.0.0.1 127.0.0.2", "bind ::1", ""])
def test_all_addresses_are_asked(forgiving, bind: str) -> None:
    with serve(f". {{\n{bind}\nhealth 127.0.0.1:0\nwhoami\n}}\n") as server:
        health = health_of(server)
        assert len(health._targets) == 2 * len(server.addresses)
        wait_for_answers(server)
        assert get(port_of(server)) == (200, "OK")


def test_the_address_stays_open_over_reloads() -> None:
    with serve(TEXT) as server:
        port = port_of(server)

        def poll() -> None:
            assert get(port) == (200, "OK")

        server.reload_under(poll, TEXT)
        assert port_of(server) == port
    with pytest.raises(ConnectionRefusedError):
        get(port)


def test_a_busy_address_is_an_error_and_a_failed_reload_changes_nothing() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        bad = TEXT.replace("127.0.0.1:0", f"127.0.0.1:{busy.getsockname()[1]}")
        with pytest.raises(StartupError, match="plugin/health: cannot listen on tcp"), serve(bad):
            pass
        with serve(TEXT) as server:
            port = port_of(server)
            with pytest.raises(StartupError):
                server.reload(bad)
            time.sleep(0.1)
            assert get(port) == (200, "OK")


def test_lame_duck() -> None:
    text = ". {\nbind 127.0.0.1\nhealth 127.0.0.1:0 {\nlameduck 5s\n}\nwhoami\n}\n"
    with serve(text) as server:
        port = port_of(server)
        server.reload(text)  # is no end
        assert get(port) == (200, "OK")
        start = time.monotonic()
        server.call(server._stop.set)
        assert get(port) == (200, "OK")
        assert server.ask("example.org").header.rcode == 0
    assert time.monotonic() - start >= 5


def test_the_self_check_is_measured(forgiving) -> None:
    seen = sum(overload.DURATION.labels().counts)
    failures = overload.FAILURES.labels().value
    with serve(TEXT):
        wait_until(lambda: sum(overload.DURATION.labels().counts) > seen + 2)
    assert overload.FAILURES.labels().value == failures


def test_a_self_check_that_fails_is_told(impatient, caplog: pytest.LogCaptureFixture) -> None:
    with serve(TEXT) as server:
        claim = health_of(server)._claim
        assert claim is not None
        failures = overload.FAILURES.labels().value
        claim.routes.clear()
        wait_until(lambda: overload.FAILURES.labels().value > failures)
    assert "failed: HTTP/1.1 404 Not Found" in caplog.text


def test_the_address_may_be_made_by_another_plugin() -> None:
    busy = socket.socket()

    class Maker(Handler):
        name = "erratic"

        @hookimpl
        def before_listen(self):
            busy.close()

    busy.bind(("127.0.0.1", 0))
    busy.listen()
    port = busy.getsockname()[1]
    text = f". {{\nbind 127.0.0.1\nhealth 127.0.0.1:{port}\nerratic\n}}\n"
    with serve(text, plugins=with_handlers(erratic=Maker)):
        assert get(port) == (200, "OK")


def test_the_status_is_that_of_the_addresses():
    with serve(TEXT) as server:
        wait_for_answers(server)
        health = health_of(server)
        well = server.call(health.status)
        health._targets[0]._answered -= probe.DEAD_AFTER + 60
        late = server.call(health.status)
    assert well == {"state": "answering", "problems": [], "endpoint": "127.0.0.1:0"}
    assert late["state"] == "failing"
    assert re.fullmatch(r"udp 127\.0\.0\.1:\d+: no answer for 6\d\.\d s", late["problems"][0])
