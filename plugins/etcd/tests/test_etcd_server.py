"""The plugin in a server, with a real etcd."""

import asyncio
import json

import pytest

from corepy.http.http_client import parse_url
from corepy.testing import ask, helper_module, run_command, serve
from corepy.testing.command import wait_until
from corepy.testing.listening import is_whole
from corepy_etcd.gateway import Credentials, Gateway
from corepy_etcd.handler import Etcd

etcd_server = helper_module(__file__, "etcd_server").etcd_server
FOLDER = "/skydns/test/skydns"
CLIENTS = 12
"""Sockets of clients; the kernel gives those of one client always to the same process."""


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    with etcd_server(tmp_path_factory.mktemp("etcd")) as server:
        for number in range(7):
            server.put(f"{FOLDER}/many/{number}", {"host": f"192.0.2.{number}"})
        yield server


def corefile(etcd, options="", above="cache"):
    return f"skydns.test {{\n{above}\netcd {{\nendpoint {etcd.url}\n{options}\n}}\n}}"


def addresses(server, name):
    """The addresses of a name, or the rcode if there is none."""
    reply = server.ask(f"{name}.skydns.test")
    found = sorted(str(rr.rdata) for rr in reply.rr if rr.rtype == 1)
    return found or reply.header.rcode


def handler_of(server):
    (handler,) = server.plugins(Etcd)
    return handler


def test_changes_reach_clients_through_all_caches(etcd, monkeypatch, caplog):
    monkeypatch.setattr("corepy_etcd.watching.PAGE", 3)
    etcd.put(f"{FOLDER}/bad", "no JSON")
    with serve(corefile(etcd)) as server:
        handler = handler_of(server)
        assert handler.ready()
        assert len(addresses(server, "many")) == 7
        assert addresses(server, "new") == addresses(server, "new") == 3
        assert addresses(server, "bad") == 3
        etcd.put(f"{FOLDER}/new", {"host": "192.0.2.9"})
        wait_until(lambda: addresses(server, "new") == ["192.0.2.9"])
        etcd.put(f"{FOLDER}/alias", {"host": "new.skydns.test"})
        wait_until(lambda: addresses(server, "alias") == ["192.0.2.9"])
        etcd.put(f"{FOLDER}/new", {"host": "192.0.2.10"})
        wait_until(lambda: addresses(server, "alias") == ["192.0.2.10"])
        etcd.put(f"{FOLDER}/new", "{")
        wait_until(lambda: addresses(server, "new") == 3)
        etcd.put(f"{FOLDER}/bad", {"host": "192.0.2.11"})
        wait_until(lambda: addresses(server, "bad") == ["192.0.2.11"])
        etcd.delete(f"{FOLDER}/bad")
        wait_until(lambda: addresses(server, "bad") == 3)
        ignored = [it for it in caplog.messages if it.startswith(f"key {FOLDER}/bad is ignored")]
        assert len(ignored) == 1
        assert "the value is not JSON" in ignored[0]
        (status,) = [it for it in [handler.status()] if it]
        assert (status["state"], status["problems"], status["ignored"]) == ("synced", [], 1)


def test_a_lease_bounds_the_ttl(etcd):
    lease = int(etcd.call("lease/grant", {"TTL": "4000"})["ID"])
    with serve(corefile(etcd, "max-lease-ttl 1h", "")) as server:
        etcd.put(f"{FOLDER}/leased", {"host": "192.0.2.1"}, lease)

        def ttl():
            reply = server.ask("leased.skydns.test")
            return reply.rr[0].ttl if reply.rr else None

        wait_until(lambda: ttl() == 3600)
        etcd.call("lease/revoke", {"ID": str(lease)})
        wait_until(lambda: ttl() is None)


def test_an_etcd_that_is_away_takes_no_names_away(tmp_path):
    with etcd_server(tmp_path) as etcd:
        etcd.put(f"{FOLDER}/a", {"host": "192.0.2.1"})
        etcd.put(f"{FOLDER}/b", {"host": "192.0.2.2"})
        with serve(corefile(etcd)) as server:
            etcd.stop()
            handler = handler_of(server)
            wait_until(lambda: handler.source.watcher.problem)
            assert addresses(server, "a") == ["192.0.2.1"]
            server.reload(corefile(etcd, above=""))  # the copy survives a reload
            handler = handler_of(server)
            assert handler.ready()
            assert addresses(server, "a") == ["192.0.2.1"]
            etcd.start()
            etcd.delete(f"{FOLDER}/a")
            etcd.put(f"{FOLDER}/c", {"host": "192.0.2.3"})
            etcd.compact()  # perhaps before the watch is there again
            wait_until(lambda: addresses(server, "c") == ["192.0.2.3"])
            wait_until(lambda: addresses(server, "a") == 3)
            assert addresses(server, "b") == ["192.0.2.2"]
            wait_until(lambda: not handler.source.watcher.problem)


def test_without_etcd_the_server_starts_and_is_not_ready(tmp_path):
    with etcd_server(tmp_path) as etcd:
        etcd.put(f"{FOLDER}/a", {"host": "192.0.2.1"})
        etcd.stop()
        with serve(corefile(etcd)) as server:
            assert addresses(server, "a") == 2
            assert not handler_of(server).ready()
            etcd.start()
            wait_until(lambda: addresses(server, "a") == ["192.0.2.1"])
            assert handler_of(server).ready()


async def renew_token(etcd):
    """Use a token that etcd does not know (any more)."""
    gateway = Gateway([parse_url(etcd.url)], credentials=Credentials("root", "secret"))
    gateway._token = "expired.1"
    assert "header" in await gateway.call("kv/range", {"key": "AA=="})
    assert gateway._token != "expired.1"
    gateway.close()


def test_credentials(tmp_path, caplog):
    with etcd_server(tmp_path) as etcd:
        etcd.put(f"{FOLDER}/a", {"host": "192.0.2.1"})
        with serve(corefile(etcd, "credentials root secret")) as server:  # not enabled yet
            assert addresses(server, "a") == ["192.0.2.1"]
        etcd.call("auth/user/add", {"name": "root", "password": "secret"})
        etcd.call("auth/user/grant", {"user": "root", "role": "root"})
        etcd.call("auth/enable", {})
        with serve(corefile(etcd, "credentials root secret")) as server:
            assert addresses(server, "a") == ["192.0.2.1"]
        asyncio.run(renew_token(etcd))
        with serve(corefile(etcd, "credentials root wrong")) as server:
            assert addresses(server, "a") == 2
            assert "invalid user ID or password" in handler_of(server).source.watcher.problem
            assert "wrong" not in caplog.text
        with serve(corefile(etcd)) as server:
            assert "user name is empty" in handler_of(server).source.watcher.problem
        body = {"name": "root", "password": "secret"}
        etcd.token = etcd.call("auth/authenticate", body)["token"]
        etcd.call("auth/disable", {})


def test_certificates_of_both_sides(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with etcd_server(tmp_path, secure=True) as etcd:
        etcd.put(f"{FOLDER}/a", {"host": "192.0.2.1"})
        with serve(corefile(etcd, f"tls {certificate} {key} {certificate}")) as server:
            assert addresses(server, "a") == ["192.0.2.1"]
        for files, problem in ((f"{certificate}", "certificate"), ("", "verify failed")):
            with serve(corefile(etcd, f"tls {files}")) as server:
                assert addresses(server, "a") == 2
                assert problem in handler_of(server).source.watcher.problem.lower()


def test_an_endpoint_that_is_away_is_passed_over(etcd):
    text = corefile(etcd).replace(etcd.url, f"http://127.0.0.1:1 {etcd.url}")
    for _ in range(3):  # the first endpoint is chosen by chance
        with serve(text) as server:
            assert len(addresses(server, "many")) == 7


def test_two_blocks_and_a_reload_share_one_copy(etcd):
    text = corefile(etcd) + "\nother.test {\n" + f"etcd {{\nendpoint {etcd.url}\n}}\n}}"
    with serve(text) as server:
        first, second = server.plugins(Etcd)
        assert first.source is second.source
        server.reload(text + "\n")
        assert server.plugins(Etcd)[0].source is first.source
        assert server.plugins(Etcd)[0].inputs == first.inputs is not None


def test_a_value_of_a_whole_zone(etcd):
    """A query for the name of the zone gets all its addresses, as in SkyDNS."""
    with serve(corefile(etcd, above="")) as server:
        reply = server.ask("skydns.test", tcp=True)
        assert {f"192.0.2.{number}" for number in range(7)} <= {str(it.rdata) for it in reply.rr}
        assert json.dumps(handler_of(server).status())


def test_all_processes_of_a_server_get_the_changes(etcd):
    etcd.put(f"{FOLDER}/shared", {"host": "192.0.2.20"})
    text = f"""skydns.test {{
        bind 127.0.0.1
        multisocket 2
        cache
        etcd {{
            endpoint {etcd.url}
        }}
    }}"""
    with run_command(text) as server:
        wait_until(lambda: is_whole(server.process.pid, server.address[1], 2))

        def found():
            replies = [ask(server.address, "shared.skydns.test") for _ in range(CLIENTS)]
            return {tuple(str(rr.rdata) for rr in reply.rr) for reply in replies}

        wait_until(lambda: found() == {("192.0.2.20",)})
        etcd.put(f"{FOLDER}/shared", {"host": "192.0.2.21"})
        wait_until(lambda: found() == {("192.0.2.21",)})
        assert server.output.count("keys below /skydns/") == 1  # one process asks etcd
