"""The plugin in a server, with moto's Route 53 and STS as the peer."""

import sys

import pytest

from corepy.plugin import StartupError
from corepy.testing import free_port, helper_module, serve
from corepy.testing.command import wait_until
from corepy_route53 import api as client_module
from corepy_route53.handler import Route53

api = helper_module(__file__, "route53_api")
record_set, alias = api.record_set, api.alias


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with api.moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """A pod with a role, lists in small pages, and no pauses.

    moto's pages begin with a name and a type, not with one of several sets of these, so a page holds
    the three sets of the test; `test_route53_api` has the third cursor.
    """
    token = tmp_path / "token"
    token.write_text("token")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/dns")
    monkeypatch.setattr(client_module, "PAGE", 3)
    monkeypatch.setattr(sys.modules["corepy_route53.setup"], "SHORTEST_REFRESH", 0.0)


@pytest.fixture
def endpoint(moto, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)


def corefile(*zones, options=""):
    names = " ".join(f"{name}:{zone_id}" for name, zone_id in zones)
    return f". {{\nbind 127.0.0.1\ncache\nroute53 {names} {{\nrefresh 5ms\n{options}\n}}\n}}\n"


def rdata(server, name, qtype="A"):
    """The rdata of the answer, or the rcode if there is none."""
    reply = server.ask(name, qtype)
    return sorted(str(rr.rdata) for rr in reply.rr) or reply.header.rcode


def test_hosted_zones_are_served_and_changes_reach_clients(moto, endpoint, caplog):
    public, private, other = (moto.create(it) for it in ["example.org."] * 2 + ["example.net."])
    policy = "<SetIdentifier>{0}</SetIdentifier><Weight>{1}</Weight>".format
    moto.change(
        public,
        record_set("www.example.org.", "A", "192.0.2.1", "192.0.2.2"),
        record_set("w.example.org.", "A", "192.0.2.11", more=policy("a", 1)),
        record_set("w.example.org.", "A", "192.0.2.12", more=policy("b", 2)),
        record_set("w.example.org.", "A", "192.0.2.13", more=policy("c", 2)),
        record_set(r"\052.any.example.org.", "A", "192.0.2.3"),
        record_set("at\\100home.example.org.", "TXT", r'"a\"b \011" "c"'),
        record_set("mail.example.org.", "MX", "10 www.example.org."),
        record_set("alias.example.org.", "CNAME", "www.example.net"),
    )
    moto.change(private, record_set("www.example.org.", "A", "10.0.0.1"))
    moto.change(other, record_set("www.example.net.", "AAAA", "2001:db8::1"))
    moto.change(other, record_set("www.example.net.", "A", "192.0.2.9"), alias("lb.example.net."))
    zones = [("example.org", private), ("example.org.", public), ("example.net", other)]
    with serve(corefile(*zones)) as server:
        assert rdata(server, "www.example.org") == ["10.0.0.1"]
        assert rdata(server, "w.example.org") == ["192.0.2.11", "192.0.2.12", "192.0.2.13"]
        assert rdata(server, "x.any.example.org") == ["192.0.2.3"]
        assert rdata(server, "at@home.example.org", "TXT") == ['"a"b \\011","c"']
        assert rdata(server, "mail.example.org", "MX") == ["10 www.example.org."]
        assert rdata(server, "alias.example.org") == ["192.0.2.9", "www.example.net."]
        assert rdata(server, "www.example.org", "TXT") == 0
        assert rdata(server, "lb.example.net") == rdata(server, "none.example.org") == 3
        moto.change(private, record_set("www.example.org.", "A", "10.0.0.1"), action="DELETE")
        wait_until(lambda: rdata(server, "www.example.org") == ["192.0.2.1", "192.0.2.2"])
        moto.change(public, record_set("none.example.org.", "A", "192.0.2.4"))
        wait_until(lambda: rdata(server, "none.example.org") == ["192.0.2.4"])
        moto.change(other, record_set("www.example.net.", "A", "192.0.2.10"))
        wait_until(lambda: rdata(server, "www.example.net") == ["192.0.2.10"])

        (handler,) = server.plugins(Route53)
        listed = handler.copies[0].refreshed
        server.reload(corefile(*zones, options="fallthrough example.org"))
        (handler,) = server.plugins(Route53)
        assert handler.copies[0].refreshed >= listed
        assert rdata(server, "www.example.org") == ["192.0.2.1", "192.0.2.2"]
        with pytest.raises(StartupError, match="has no hosted zone with this ID in the account"):
            server.reload(corefile(*zones, ("example.com", "Z404")))
        assert rdata(server, "www.example.org") == ["192.0.2.1", "192.0.2.2"]


def test_a_server_starts_while_the_api_is_away(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with serve(corefile(("example.org", "Z1"))) as server:
        (handler,) = server.plugins(Route53)
        assert rdata(server, "www.example.org") == 2
        assert "Connection refused" in handler.status()["problems"][0]
        assert not handler.ready()


def test_a_hosted_zone_of_another_name_is_a_problem_that_names_it(moto, endpoint):
    zone = moto.create("example.com.")
    moto.change(zone, record_set("www.part.example.com.", "A", "192.0.2.1"))
    with serve(corefile(("example.org", zone), ("part.example.com", zone))) as server:
        (handler,) = server.plugins(Route53)
        assert rdata(server, "www.example.org") == 2
        (problem,) = handler.status()["problems"]
        assert "has the records of example.com., not of example.org." in problem
        assert rdata(server, "www.part.example.com") == ["192.0.2.1"]
