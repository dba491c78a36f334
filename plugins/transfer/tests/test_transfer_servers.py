"""Transfers to dig, kdig and secondary servers of other projects, with and without signatures."""

import base64
import re
import subprocess

import pytest

from corepy.plugin import Controller
from corepy.testing import helper_module, inline, serve
from corepy.testing.command import wait_until
from corepy.testing.installed import installed
from corepy.testing.name_servers import KNOT, NAMED, NSD, name_server
from corepy_transfer import transfer
from corepy_transfer.transfer import Transfer

zones = helper_module(__file__, "transfer_zones")
Zones, a_record = zones.Zones, zones.a_record

SECRET = base64.b64encode(bytes(range(32))).decode()
KEY = f"hmac-sha256:key.example:{SECRET}"
TSIG = f"tsig {{\nsecret key.example {SECRET}\n}}\n"


def plugins(size=3):
    """The installed plugins and *zones*."""

    def setup(controller: Controller) -> None:
        for _ in controller.single():
            controller.add_handler(Zones(size=size))

    return {**installed(), "zones": inline("zones", setup, after=("transfer",))}


def corefile(*lines, tsig=TSIG):
    body = "\n".join(lines)
    return f"example.org {{\nbind 127.0.0.1\n{tsig}cache\ntransfer {{\n{body}\n}}\nzones\n}}\n"


def run(server, *words):
    host, port = server.address
    command = [words[0], f"@{host}", "-p", str(port), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def comparing(server):
    """Whether versions are being compared."""
    (handler,) = server.plugins(Transfer)
    return handler._journals._tasks


def records(text):
    return [
        line for line in text.splitlines() if re.match(r"\S+\s+\d+\s+(IN\s+)?(A|NS|SOA)\s", line)
    ]


@pytest.mark.parametrize("tool", ["dig", "kdig"])
@pytest.mark.parametrize("keys", [("key key.example", ("-y", KEY)), ("", ())], ids=["key", "plain"])
def test_clients_get_the_zone(tool, keys):
    """1,000 records are one message, 3,000 are several."""
    with serve(corefile("to *", keys[0]), plugins=plugins(3000)) as server:
        (source,) = server.plugins(Zones)
        text = run(server, tool, "example.org", "AXFR", *keys[1])
        assert len(records(text)) == 3004
        assert not re.search(r"verif|not match|fail", text, re.IGNORECASE)
        server.call(source.change, source.hosts[:2], [a_record("new.example.org.", 7)])
        wait_until(lambda: not comparing(server))
        text = run(server, tool, "example.org", "IXFR=1", "+tcp", *keys[1])
        owners = [line.split()[0] for line in records(text)]
        apex = "example.org."
        assert owners == [
            *(apex, apex, "h0.example.org.", "h1.example.org."),
            *(apex, "new.example.org.", apex),
        ]
        assert len(records(run(server, tool, "example.org", "IXFR=2", "+tcp", *keys[1]))) == 1
        assert len(records(run(server, tool, "example.org", "IXFR=1", "+notcp", *keys[1]))) >= 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("to 192.0.2.1",), ()),
        (("to *", "key key.example"), ()),
        (("to *", "key key.example"), ("-y", KEY.replace("AAEC", "AAED"))),
    ],
    ids=["address", "unsigned", "another secret"],
)
def test_others_do_not_get_the_zone(lines, words):
    with serve(corefile(*lines), plugins=plugins()) as server:
        text = run(server, "kdig", "example.org", "AXFR", *words)
        assert records(text) == []
        assert server.plugins(Zones)[0].asked == []


# -- secondary servers

KNOT_SECONDARY = (
    KNOT
    + """
key:
  - id: key.example
    algorithm: hmac-sha256
    secret: %(secret)s
remote:
  - id: primary
    address: %(host)s@%(port)d
    %(knot_key)s
acl:
  - id: notify
    address: %(host)s
    action: notify
    %(knot_key)s
zone:
  - domain: example.org
    master: primary
    acl: notify
"""
)
NSD_SECONDARY = (
    NSD
    + """
key:
    name: "key.example"
    algorithm: hmac-sha256
    secret: "%(secret)s"
zone:
    name: "example.org"
    allow-notify: %(host)s %(nsd_key)s
    request-xfr: %(host)s@%(port)d %(nsd_key)s
"""
)
NAMED_SECONDARY = (
    NAMED
    + """
key "key.example" {{ algorithm hmac-sha256; secret "%(secret)s"; }};
zone "example.org" {{
    type secondary;
    primaries {{ %(host)s port %(port)d %(named_key)s; }};
    %(named_notify)s
}};
"""
)
SECONDARIES = {"knotd": KNOT_SECONDARY, "nsd": NSD_SECONDARY, "named": NAMED_SECONDARY}


@pytest.mark.parametrize("is_signed", [False, True], ids=["plain", "signed"])
@pytest.mark.parametrize("program", SECONDARIES)
def test_a_secondary_server_follows_the_zone(program, is_signed, monkeypatch):
    """It takes the whole zone, is notified, and takes the changes."""
    monkeypatch.setattr(transfer, "PATIENCE", 60.0)
    with serve(corefile("to *"), plugins=plugins(200)) as server:
        host, port = server.address
        values = {
            "secret": SECRET,
            "host": host,
            "port": port,
            "knot_key": "key: key.example" if is_signed else "",
            "nsd_key": "key.example" if is_signed else "NOKEY",
            "named_key": 'key "key.example"' if is_signed else "",
            "named_notify": 'allow-notify {{ key "key.example"; }};' if is_signed else "",
        }
        with name_server(program, SECONDARIES[program] % values) as secondary:
            secondary.wait_for(lambda: secondary.serial("example.org") == 1)
            to = "{}:{}".format(*secondary.address)
            key = "key key.example" if is_signed else ""
            server.reload(corefile(f"to {to}", key))
            (source,) = server.plugins(Zones)
            for number in (2, 3, 4):
                new = a_record(f"new{number}.example.org.", number)
                server.call(source.change, source.hosts[number : number + 1], [new])
                secondary.wait_for(lambda at=number: secondary.serial("example.org") == at)
            assert source.whole_transfers == 0, secondary.log
            reply = run(secondary, "kdig", "new4.example.org", "A")
            assert "0.0.0.4" in reply


@pytest.mark.parametrize("program", ["knotd"])
def test_a_chain_of_changes_is_sent_at_once(program):
    """200 changes, of which the secondary server has seen none."""
    with serve(corefile("to *"), plugins=plugins(3000)) as server:
        host, port = server.address
        values = {"secret": SECRET, "host": host, "port": port, "knot_key": ""}
        with name_server(program, SECONDARIES[program] % values) as secondary:
            secondary.wait_for(lambda: secondary.serial("example.org") == 1)
            (source,) = server.plugins(Zones)
            for number in range(200):
                new = [a_record(f"new{number}.example.org.", number)]
                server.call(source.change, source.hosts[number : number + number % 3], new)
                wait_until(lambda: not comparing(server))
            secondary.knotc("zone-refresh", "example.org")
            secondary.wait_for(lambda: secondary.serial("example.org") == 201)
            assert source.whole_transfers == 1
            text = run(secondary, "kdig", "+retry=0", "new199.example.org", "A")
            assert "0.0.0.199" in text
            assert "IXFR, incoming" in secondary.log
