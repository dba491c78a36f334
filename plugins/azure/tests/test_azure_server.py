"""The plugin in a server: the cases of plugin/azure/azure_test.go, failures, and secrets."""

import logging
import re
from functools import partialmethod

import pytest

from corepy.plugin import StartupError
from corepy.testing import helper_module, serve, set_up
from corepy.testing.command import wait_until
from corepy.zone.polled_copy import PolledCopy
from corepy_azure.handler import Azure

stub = helper_module(__file__, "azure_api")


@pytest.fixture
def azure(tmp_path, monkeypatch):
    with stub.AzureAPI() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield server


def corefile(zones="rg:example.org", options="", rest=""):
    return f". {{\nazure {zones} {{\n{stub.IDENTITY}{options}}}\n{rest}\n}}"


def answer(server, name, qtype="A"):
    """The rcode, and the records of the answer without owner and class."""
    reply = server.ask(name, qtype)
    return reply.header.rcode, [str(it.rdata) for it in reply.rr]


COREDNS = [
    stub.a("@", "1.2.3.4"),
    stub.record_set("@", "AAAA", AAAARecords=[{"ipv6Address": "2001:db8:85a3::8a2e:370:7334"}]),
    stub.a("www", "1.2.3.4", "1.2.3.4"),
    stub.record_set("@", "NS", ttl=172800, NSRecords=[{"nsdname": "ns3-06.azure-dns.org."}]),
    stub.record_set("cname", "CNAME", CNAMERecord={"cname": "example.org"}),
    stub.record_set(
        "mail", "MX", MXRecords=[{"preference": 10, "exchange": "mailserver.example.com"}]
    ),
    stub.record_set("ptr", "PTR", PTRRecords=[{"ptrdname": "www.ptr-example.com"}]),
    stub.record_set(
        "@",
        "SRV",
        SRVRecords=[
            {"priority": 1, "weight": 10, "port": 5269, "target": f"srv-{number}.example.com."}
            for number in (1, 2)
        ],
    ),
    stub.record_set("txt", "TXT", TXTRecords=[{"value": ["TXT for example.org"]}]),
]
SOA = "ns1-06.azure-dns.com. azuredns-hostmaster.microsoft.com. 1 3600 300 2419200 300"


def test_the_answers_of_coredns(azure):
    azure.put("example.org", *COREDNS)
    with serve(corefile(rest="whoami")) as server:
        for name, qtype, expected in [
            ("example.org", "A", ["1.2.3.4"]),
            ("example.org", "AAAA", ["2001:db8:85a3::8a2e:370:7334"]),
            (
                "example.org",
                "SRV",
                ["1 10 5269 srv-1.example.com.", "1 10 5269 srv-2.example.com."],
            ),
            ("cname.example.org", "CNAME", ["example.org."]),
            ("cname.example.org", "A", ["example.org.", "1.2.3.4"]),
            ("mail.example.org", "MX", ["10 mailserver.example.com."]),
            ("ptr.example.org", "PTR", ["www.ptr-example.com."]),
            ("txt.example.org", "TXT", ['"TXT for example.org"']),
        ]:
            assert answer(server, name, qtype) == (0, expected), (name, qtype)
        reply = server.ask("example.org", "SOA")
        assert re.sub(r"[()\s]+", " ", str(reply.rr[0].rdata)) == SOA
        assert (reply.header.aa, reply.rr[0].ttl) == (1, 3600)
        assert answer(server, "none.example.org") == (3, [])
        assert len(server.ask("example.gov").ar) == 2  # whoami answers
        assert answer(server, "www.example.org", "AAAA") == (0, [])


def test_two_copies_of_a_zone_and_fallthrough(azure):
    azure.put("example.org", stub.a("www", "192.0.2.1"), stub.a("both", "192.0.2.1"))
    azure.put(
        "example.org",
        *(stub.a("db", "10.0.0.1"), stub.a("both", "10.0.0.2")),
        group="inner",
        kind="privateDnsZones",
    )
    text = (
        f". {{\nazure inner:example.org {{\n{stub.IDENTITY}access private\n}}\n"
        "azure rg:example.org {\nfallthrough\n}\n"
        "whoami\n}"
    )
    with serve(text) as server:
        assert answer(server, "db.example.org") == (0, ["10.0.0.1"])
        assert answer(server, "both.example.org") == (0, ["10.0.0.2"])
        assert answer(server, "www.example.org") == (0, ["192.0.2.1"])
        assert len(server.ask("else.example.org").ar) == 2  # whoami answers
        (handler,) = server.plugins(Azure)
        assert handler.status()["state"] == "copied"


def quickly(copy, start, client, places, refresh):
    """Begin to list a zone, more often than a Corefile can set."""
    start(copy, client, places, 0.02)


def test_a_failing_api_takes_no_names_away_and_shows_no_secret(azure, monkeypatch, caplog):
    monkeypatch.setattr(PolledCopy, "start", partialmethod(quickly, PolledCopy.start))
    monkeypatch.setattr("corepy.zone.polled_copy.SLOWEST", 1)
    caplog.set_level(logging.DEBUG)
    azure.put("example.org", stub.a("www", "192.0.2.1"))
    with serve(corefile()) as server:
        (handler,) = server.plugins(Azure)
        assert answer(server, "www.example.org") == (0, ["192.0.2.1"])
        azure.token_fault = stub.http(
            401, {"error": "invalid_client", "error_description": f"{stub.SECRET} is wrong"}
        )
        azure.token = "another"  # ends the token in use
        wait_until(lambda: handler.status()["problems"])
        failed = len(azure.requests)
        wait_until(lambda: len(azure.requests) > failed + 3)
        assert answer(server, "www.example.org") == (0, ["192.0.2.1"])
        status = handler.status()
        assert status["state"] == "API failing"
        (problem,) = status["problems"]
        assert "HTTP status 401: invalid_client: *** is wrong" in problem
        warnings = [it for it in caplog.messages if "invalid_client" in it]
        assert len(warnings) == 1
        azure.put("example.org", stub.a("www", "192.0.2.2"))
        azure.token_fault = None
        wait_until(lambda: answer(server, "www.example.org") == (0, ["192.0.2.2"]))
        assert handler.status()["problems"] == []
    assert [it for it in caplog.messages if stub.SECRET in it or azure.token in it] == []


def test_the_setup_sends_no_request(azure):
    set_up(f"azure rg:example.org {{\n{stub.IDENTITY}}}")
    assert azure.requests == []


def test_a_server_does_not_start_with_a_zone_that_does_not_exist(azure):
    with (
        pytest.raises(StartupError, match="'rg' has no public zone 'example\\.org'"),
        serve(corefile()),
    ):
        pass


def test_without_an_api_the_server_starts(azure):
    azure.faults = [stub.arm_error(403, "AuthorizationFailed", "no")] * 1000
    with serve(corefile(rest="errors")) as server:
        (handler,) = server.plugins(Azure)
        assert not handler.ready()
        assert answer(server, "www.example.org") == (2, [])
        assert "assign the role Reader" in handler.status()["problems"][0]
