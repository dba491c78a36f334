"""The plugin in a server, with a stand-in for Nomad."""

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.testing import helper_module, serve, set_up
from corepy.testing.command import wait_until
from corepy_nomad import client, following, metrics, source
from corepy_nomad.handler import Nomad

NomadStub = helper_module(__file__, "nomad_stub").NomadStub
TOKEN = "5ec4e7c0-token-of-tests"


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch):
    for name in ("SPACING", "REST", "FIRST_PAUSE", "LAST_PAUSE"):
        monkeypatch.setattr(following, name, 0.001)
    monkeypatch.setattr(client, "PAUSE", 0.001)
    monkeypatch.setattr(client, "TIMEOUT", 60.0)
    monkeypatch.setattr(source, "LONGEST_WAIT", 60.0)
    for name in ("FIRST_PAUSE", "LAST_PAUSE", "RETRY"):
        monkeypatch.setattr(source, name, 0.001)
    monkeypatch.delenv("NOMAD_ADDR", raising=False)
    monkeypatch.delenv("NOMAD_TOKEN", raising=False)


@pytest.fixture
def stub():
    with NomadStub() as server:
        server.put("web", "192.0.2.1")
        yield server


def corefile(stub, options="", above="cache"):
    return f"service.nomad {{\n{above}\nnomad {{\naddress {stub.url}\n{options}\n}}\n}}"


def addresses(server, name="web.default"):
    """The addresses of a name, or the rcode if there is none."""
    reply = server.ask(f"{name}.service.nomad")
    found = sorted(str(rr.rdata) for rr in reply.rr if rr.rtype == 1)
    return found or reply.header.rcode


def handler_of(server):
    (handler,) = server.plugins(Nomad)
    return handler


def test_changes_reach_clients_through_all_caches(stub):
    with serve(corefile(stub)) as server:
        handler = handler_of(server)
        assert handler.ready()
        assert addresses(server) == addresses(server, "WEB.Default") == ["192.0.2.1"]
        assert addresses(server, "new.default") == addresses(server, "new.default") == 3
        stub.put("web", "192.0.2.2")
        stub.put("new", "192.0.2.3")
        wait_until(lambda: addresses(server) == ["192.0.2.2"])
        wait_until(lambda: addresses(server, "new.default") == ["192.0.2.3"])
        stub.remove("web")
        wait_until(lambda: addresses(server) == 3)
        status = handler.status()
        assert (status["state"], status["problems"], status["names"]) == ("ready", [], 1)
        assert status["address"] == stub.url


def test_the_copy_survives_a_reload_and_nomad_that_is_away(stub):
    with serve(corefile(stub)) as server:
        assert addresses(server) == ["192.0.2.1"]
        stub.stop()
        server.reload(corefile(stub, above=""))
        assert addresses(server) == ["192.0.2.1"]
        assert addresses(server, "db.default") == 3
        assert addresses(server, "web.other") == 2
        handler = handler_of(server)
        wait_until(lambda: handler.source.problems.is_present)
        assert dict(metrics.FOLLOWED.children())[stub.url,].value == 0
        stub.put("web", "192.0.2.2")
        stub.start()
        wait_until(lambda: addresses(server) == ["192.0.2.2"])
        wait_until(lambda: dict(metrics.FOLLOWED.children())[stub.url,].value == 1)
    assert (stub.url,) not in dict(metrics.FOLLOWED.children())


def test_without_nomad_the_server_starts_and_is_not_ready(stub):
    stub.stop()
    with serve(corefile(stub, above="")) as server:
        assert addresses(server) == 2
        assert not handler_of(server).ready()
        assert handler_of(server).status()["state"] == "not ready"
        stub.start()
        wait_until(lambda: addresses(server) == ["192.0.2.1"])
        wait_until(handler_of(server).ready)


def test_the_token_is_shown_nowhere(stub, caplog):
    caplog.set_level(logging.DEBUG)
    stub.token = TOKEN
    with serve(corefile(stub, f"token {TOKEN}", "errors\nlog")) as server:
        assert addresses(server) == ["192.0.2.1"]
        stub.fault = lambda path, parameters: (500, {}, f"the token {TOKEN} is odd".encode())
        assert addresses(server, "web.other") == 2
        with stub.change():
            pass
        handler = handler_of(server)
        wait_until(lambda: handler.source.problems.is_present)
        shown = json.dumps([handler.status(), str(handler.settings), repr(handler.source.client)])
    assert "the token *** is odd" in caplog.text
    assert TOKEN not in caplog.text + shown


def test_neither_a_check_nor_an_offline_rehearsal_sends_a_request(stub):
    (handler,) = set_up(f"nomad {{\naddress {stub.url}\n}}").handlers
    context: Any = SimpleNamespace(offline=True)
    asyncio.run(handler.rehearse(context))
    handler.shutdown(context)
    assert (handler.source, handler.status(), handler.ready()) == (None, None, False)
    assert not stub.requests
