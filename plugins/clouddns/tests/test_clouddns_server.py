"""The plugin in a server: the cases of plugin/clouddns/clouddns_test.go, failures, and secrets."""

import json
import logging
from functools import partialmethod

import pytest

from corepy.plugin import StartupError
from corepy.testing import helper_module, serve, set_up
from corepy.testing.command import wait_until
from corepy.zone.polled_copy import PolledCopy
from corepy_clouddns.handler import CloudDNS

stub = helper_module(__file__, "clouddns_api")
OTHER_SOA = stub.SOA.replace("-c1", "-e1")


@pytest.fixture
def google():
    with stub.CloudDNSAPI() as server:
        yield server


@pytest.fixture
def credentials(google, tmp_path, monkeypatch):
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT", raising=False)
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(google.authorized_user()))
    return path


def corefile(google, credentials, zones, options="", rest=""):
    return (
        f". {{\nclouddns {zones} {{\nendpoint {google.url}\ncredentials {credentials}\n"
        f"{options}\n}}\n{rest}\n}}"
    )


def answer(server, name, qtype="A"):
    """The rcode, the data of the answer, and the owners and names of servers of SOA records."""
    reply = server.ask(name, qtype)
    found = [str(it.rdata) for it in reply.rr]
    return reply.header.rcode, found, [str(it.rdata.mname) for it in reply.auth if it.rtype == 6]


C1, E1 = ["ns-cloud-c1.googledomains.com."], ["ns-cloud-e1.googledomains.com."]


def test_the_answers_of_coredns(google, credentials):
    google.put(
        "sample-project-1:sample-zone-1",
        stub.rrset("example.org.", "A", "1.2.3.4"),
        stub.rrset("www.example.org", "A", "1.2.3.4"),
        stub.rrset("*.www.example.org", "CNAME", "www.example.org"),
        stub.rrset("example.org.", "AAAA", "2001:db8:85a3::8a2e:370:7334"),
        stub.rrset("sample.example.org", "CNAME", "example.org"),
        stub.rrset("example.org.", "PTR", "ptr.example.org."),
        stub.rrset("com.", "NS", "ns-cloud-c4.googledomains.com."),
        stub.rrset("swag.", "YOLO", "foobar"),
        origin="org.",
    )
    google.zones["sample-project-1:sample-zone-2"] = [
        stub.rrset("split-example.org.", "A", "1.2.3.4"),
        stub.rrset("other-example.org.", "A", "3.5.7.9"),
        stub.rrset("org.", "SOA", OTHER_SOA),
        stub.rrset(
            "_dummy._tcp.example.org.",
            "SRV",
            *("0 0 5269 split-example.org", "0 0 5269 other-example.org"),
        ),
    ]
    google.put("sample-project-1:gov", stub.rrset("split.gov.", "A", "1.2.3.4"), origin="gov.")
    pair = "org.:sample-project-1:sample-zone-2 org.:sample-project-1:sample-zone-1"
    zones = f"{pair} gov.:sample-project-1:gov"
    with serve(corefile(google, credentials, zones, "fallthrough gov.", "whoami")) as server:
        for name, qtype, expected in [
            ("example.org", "A", (0, ["1.2.3.4"], [])),
            ("example.org", "AAAA", (0, ["2001:db8:85a3::8a2e:370:7334"], [])),
            ("example.org", "PTR", (0, ["ptr.example.org."], [])),
            ("sample.example.org", "A", (0, ["example.org.", "1.2.3.4"], [])),
            ("sample.example.org", "CNAME", (0, ["example.org."], [])),
            ("split.gov", "AAAA", (0, [], C1)),
            ("bad.org", "A", (3, [], C1)),
            ("other-example.org", "A", (0, ["3.5.7.9"], [])),
            ("split-example.org", "AAAA", (0, [], E1)),
            ("a.www.example.org", "A", (0, ["www.example.org.", "1.2.3.4"], [])),
            (
                "_dummy._tcp.example.org",
                "SRV",
                (0, ["0 0 5269 split-example.org.", "0 0 5269 other-example.org."], []),
            ),
        ]:
            assert answer(server, name, qtype) == expected, (name, qtype)
        for passed in ("badexample.com", "example.gov"):
            assert len(server.ask(passed).ar) == 2  # whoami answers
        (handler,) = server.plugins(CloudDNS)
        assert handler.status()["ignored"] == 0  # the others are outside the zone


def quickly(copy, start, client, places, refresh):
    """Begin to list a zone, more often than a Corefile can set."""
    start(copy, client, places, 0.02)


def test_a_failing_api_takes_no_names_away_and_shows_no_secret(
    google, credentials, monkeypatch, caplog
):
    monkeypatch.setattr(PolledCopy, "start", partialmethod(quickly, PolledCopy.start))
    monkeypatch.setattr("corepy.zone.polled_copy.SLOWEST", 1)
    caplog.set_level(logging.DEBUG)
    google.put("p:z", stub.rrset("www.example.org.", "A", "192.0.2.1"))
    with serve(corefile(google, credentials, "example.org:p:z")) as server:
        (handler,) = server.plugins(CloudDNS)
        assert answer(server, "www.example.org")[1] == ["192.0.2.1"]
        google.token_fault = stub.http(
            400, {"error": "invalid_grant", "error_description": f"{stub.REFRESH_TOKEN} is gone"}
        )
        google.token = "another"  # ends the token in use
        wait_until(lambda: handler.status()["problems"])
        failed = len(google.requests)
        wait_until(lambda: len(google.requests) > failed + 3)
        assert answer(server, "www.example.org")[1] == ["192.0.2.1"]
        (problem,) = handler.status()["problems"]
        assert "HTTP status 400: invalid_grant: *** is gone" in problem
        assert len([it for it in caplog.messages if "invalid_grant" in it]) == 1
        credentials.unlink()  # and the file is replaced meanwhile
        wait_until(lambda: "No such file" in str(handler.status()["problems"]))
        google.put("p:z", stub.rrset("www.example.org.", "A", "192.0.2.2"))
        google.token_fault = None
        credentials.write_text(json.dumps(google.service_account()))
        wait_until(lambda: answer(server, "www.example.org")[1] == ["192.0.2.2"])
        assert handler.status()["problems"] == []
    secrets = (stub.REFRESH_TOKEN, stub.CLIENT_SECRET, google.token, "eyJ", "PRIVATE KEY")
    assert [it for it in caplog.messages if any(secret in it for secret in secrets)] == []


def test_the_setup_sends_no_request(google, credentials):
    text = f"endpoint {google.url}\ncredentials {credentials}\ninstance_metadata"
    set_up(f"clouddns example.org:p:z {{\n{text}\n}}")
    assert google.requests == []


def test_a_server_does_not_start_with_a_zone_that_does_not_exist(google, credentials):
    text = corefile(google, credentials, "example.org:p:z")
    with pytest.raises(StartupError, match="named 'z' does not exist"), serve(text):
        pass


def test_without_credentials_the_server_starts(google, monkeypatch, tmp_path):
    monkeypatch.setattr("corepy.zone.polled_copy.FIRST_RETRY", 0.01)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "later.json"))
    google.put("p:z", stub.rrset("www.example.org.", "A", "192.0.2.1"))
    text = f". {{\nclouddns example.org:p:z {{\nendpoint {google.url}\n}}\n}}"
    with serve(text) as server:
        (handler,) = server.plugins(CloudDNS)
        assert not handler.ready()
        assert answer(server, "www.example.org")[0] == 2
        assert "later.json: No such file" in handler.status()["problems"][0]
        (tmp_path / "later.json").write_text(json.dumps(google.authorized_user()))
        wait_until(handler.ready)
        assert answer(server, "www.example.org")[1] == ["192.0.2.1"]
