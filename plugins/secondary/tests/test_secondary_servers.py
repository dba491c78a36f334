"""Transfers from knotd, nsd and named, and zones that pass through corepy to a further server."""

import base64
import subprocess

import pytest

from corepy.dns.names import from_text
from corepy.testing import free_port, serve
from corepy.testing.command import wait_until
from corepy.testing.name_servers import KNOT, NAMED, NSD, name_server
from corepy_secondary.secondary import Secondary

SECRET = base64.b64encode(bytes(range(32))).decode()
TSIG = f"tsig {{\nsecret key.example {SECRET}\n}}\n"

HOSTS = "".join(f"h{number} IN A 192.0.2.{number}\n" for number in range(200))
ZONE = f"$ORIGIN example.org.\n$TTL 60\n@ IN SOA ns admin 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.1\n{HOSTS}"

KNOT_PRIMARY = (
    KNOT
    + f"""
key:
  - id: key.example
    algorithm: hmac-sha256
    secret: {SECRET}
remote:
  - id: corepy
    address: 127.0.0.1@%(port)d
    %(knot_key)s
acl:
  - id: transfer
    action: transfer
    %(knot_key)s
  - id: update
    action: update
    address: 127.0.0.1
zone:
  - domain: example.org
    file: example.org
    acl: [transfer, update]
    notify: corepy
    zonefile-sync: -1
"""
)
NSD_PRIMARY = (
    NSD
    + f"""
key:
    name: "key.example"
    algorithm: hmac-sha256
    secret: "{SECRET}"
zone:
    name: "example.org"
    zonefile: "example.org"
    provide-xfr: 127.0.0.1 %(nsd_key)s
    notify: 127.0.0.1@%(port)d %(nsd_key)s
"""
)
NAMED_PRIMARY = (
    NAMED
    + f"""
key "key.example" {{{{ algorithm hmac-sha256; secret "{SECRET}"; }}}};
zone "example.org" {{{{
    type primary;
    file "example.org";
    allow-update {{{{ 127.0.0.1; }}}};
    allow-transfer {{{{ %(named_transfer)s; }}}};
    notify explicit;
    max-ixfr-ratio unlimited;
    also-notify {{{{ 127.0.0.1 port %(port)d %(named_key)s; }}}};
}}}};
"""
)
PRIMARIES = {"knotd": KNOT_PRIMARY, "nsd": NSD_PRIMARY, "named": NAMED_PRIMARY}


def configuration(program, port, *, is_signed):
    """The configuration of a primary server that notifies `port`."""
    return PRIMARIES[program] % {
        "port": port,
        "knot_key": "key: key.example" if is_signed else "",
        "nsd_key": "key.example" if is_signed else "NOKEY",
        "named_key": "key key.example" if is_signed else "",
        "named_transfer": "key key.example" if is_signed else "127.0.0.1",
    }


def corefile(port, master, *lines, more="", zone="example.org"):
    options = "\n".join(lines)
    return (
        f"{zone}:{port} {{\nbind 127.0.0.1\n{TSIG}{more}\n"
        f"secondary {{\ntransfer from 127.0.0.1:{master.address[1]}\n{options}\n}}\n}}\n"
    )


def follower(server, zone="example.org."):
    (handler,) = server.plugins(Secondary)
    return handler.followers.get(from_text(zone))


def serial(server, zone="example.org."):
    found = follower(server, zone)
    return None if found is None or found.served.current is None else found.served.current.serial


def update(master, changes):
    """Send updates, each a list of commands of nsupdate."""
    host, port = master.address
    lines = [f"server {host} {port}"]
    for commands in changes:
        lines += [*commands, "send"]
    text = "\n".join(lines) + "\n"
    subprocess.run(
        ["nsupdate", "-t", "30"], input=text, capture_output=True, text=True, check=True, timeout=60
    )


def step(number):
    return [
        f"update delete h{number}.example.org. A",
        f"update add new{number}.example.org. 60 A 192.0.2.9",
    ]


@pytest.mark.parametrize("is_signed", [False, True], ids=["plain", "signed"])
@pytest.mark.parametrize("program", PRIMARIES)
def test_a_zone_is_followed(program, is_signed, caplog):
    """The whole zone at first; a notification and the changes, or the zone, afterwards."""
    caplog.set_level("INFO", "corepy.plugin.secondary")
    port = free_port()
    text = configuration(program, port, is_signed=is_signed)
    with (
        name_server(program, text, {"example.org": ZONE}) as master,
        serve(corefile(port, master, "key key.example" if is_signed else "")) as server,
    ):
        wait_until(lambda: serial(server) == 1)
        assert str(server.ask("h7.example.org").rr[0].rdata) == "192.0.2.7"
        if program == "nsd":
            changed = ZONE.replace("admin 1 ", "admin 2 ").replace("h7 IN", "new7 IN")
            (master.folder / "example.org").write_text(changed)
            master.process.send_signal(1)
        else:
            update(master, [step(7)])
        master.wait_for(lambda: serial(server) == 2)
        assert server.ask("h7.example.org").header.rcode == 3
        assert len(server.ask("new7.example.org").rr) == 1
        kind = "zone" if program == "nsd" else "changes"
        wait_until(lambda: f"Transferred: {kind} of example.org." in caplog.text)


def test_a_wrong_key_transfers_nothing():
    port = free_port()
    text = configuration("knotd", port, is_signed=True)
    with (
        name_server("knotd", text, {"example.org": ZONE}) as master,
        serve(corefile(port, master)) as server,
    ):
        wait_until(lambda: follower(server).problem)
        assert serial(server) is None


def test_a_chain_of_200_changes(caplog):
    """They were made while corepy was not running."""
    caplog.set_level("INFO", "corepy.plugin.secondary")
    port = free_port()
    text = configuration("named", free_port(), is_signed=True)
    more = "".join(f"m{number} IN A 192.0.2.1\n" for number in range(1000))
    with (
        name_server("named", text, {"example.org": ZONE + more}) as master,
        serve(corefile(port, master, "key key.example")) as server,
    ):
        wait_until(lambda: serial(server) == 1)
        update(master, [step(number) for number in range(200)])
        server.call(follower(server).notify, b"")
        wait_until(lambda: serial(server) == 201)
        wait_until(lambda: "Transferred: changes of example.org." in caplog.text)
        assert server.ask("h0.example.org").header.rcode == 3
        names = follower(server).zone.names
        assert len([it for it in names if it.startswith((b"\4new", b"\5new", b"\6new"))]) == 200


CATALOG_MEMBERS = "".join(
    f"  - domain: {name}\n    file: {name}\n    acl: transfer\n    notify: corepy\n"
    "    catalog-role: member\n    catalog-zone: catalog.test\n"
    for name in ("a.test", "b.test")
)
KNOT_PRODUCER = (
    KNOT
    + """
remote:
  - id: corepy
    address: 127.0.0.1@%(port)d
acl:
  - id: transfer
    action: transfer
    address: 127.0.0.1
zone:
  - domain: catalog.test
    catalog-role: generate
    acl: transfer
    notify: corepy
%(members)s"""
)
MEMBER = "$TTL 60\n@ IN SOA ns admin 1 3600 600 86400 60\n@ IN NS ns\nns IN A 192.0.2.1\n"


def test_the_catalog_of_knot():
    """Its members are followed, and left when knot's configuration does not have them any more."""
    port = free_port()
    files = {"a.test": MEMBER, "b.test": MEMBER}
    text = KNOT_PRODUCER % {"port": port, "members": CATALOG_MEMBERS}
    with name_server("knotd", text, files) as master:
        lines = "secondary catalog.test {\ntransfer from 127.0.0.1:%d\ncatalog\n}"
        block = f"test:{port} {{\nbind 127.0.0.1\n{lines % master.address[1]}\n}}\n"
        with serve(block) as server:
            wait_until(lambda: serial(server, "a.test.") == serial(server, "b.test.") == 1)
            assert str(server.ask("ns.b.test").rr[0].rdata) == "192.0.2.1"
            conf = master.folder / "server.conf"
            conf.write_text(conf.read_text().split("  - domain: b.test")[0])
            master.knotc("reload")
            master.wait_for(lambda: follower(server, "b.test.") is None)
            assert serial(server, "a.test.") == 1
            assert server.ask("ns.b.test").header.rcode == 5


KNOT_CONSUMER = (
    KNOT
    + """
remote:
  - id: corepy
    address: %(host)s@%(port)d
acl:
  - id: notify
    action: notify
    address: 127.0.0.1
template:
  - id: member
    storage: {folder}
    master: corepy
    acl: notify
zone:
  - domain: catalog.test
    master: corepy
    acl: notify
    catalog-role: interpret
    catalog-template: member
"""
)
CATALOG = (
    "$TTL 60\n@ IN SOA . . 1 3600 600 86400 60\n@ IN NS invalid.\n"
    'version IN TXT "2"\nx.zones IN PTR a.test.\n'
)


def test_zones_pass_through_to_knot(tmp_path):
    """knot is the consumer of a catalog that corepy has from a file, whose member it transfers."""
    (tmp_path / "catalog.test").write_text(CATALOG)
    (tmp_path / "a.test").write_text("$ORIGIN a.test.\n" + MEMBER)
    block = (
        f"test {{\nbind 127.0.0.1\nfile {tmp_path}/catalog.test catalog.test\n"
        f"file {tmp_path}/a.test a.test\ntransfer {{\nto *\n}}\n}}\n"
    )
    with serve(block) as server:
        host, port = server.address
        text = KNOT_CONSUMER % {"host": host, "port": port}
        with name_server("knotd", text) as consumer:
            consumer.wait_for(lambda: consumer.serial("a.test") == 1)


def test_a_chain_of_servers():
    """A zone passes from knot through corepy to nsd, and so do its changes."""
    port = free_port()
    text = configuration("knotd", port, is_signed=True)
    secondary = (
        NSD + "zone:\n    name: example.org\n    allow-notify: 127.0.0.1 NOKEY\n"
        f"    request-xfr: 127.0.0.1@{port} NOKEY\n"
    )
    with (
        name_server("knotd", text, {"example.org": ZONE}) as master,
        serve(corefile(port, master, "key key.example", more="transfer {\nto *\n}")) as server,
    ):
        wait_until(lambda: serial(server) == 1)
        with name_server("nsd", secondary) as last:
            last.wait_for(lambda: last.serial("example.org") == 1)
            to = f"transfer {{\nto 127.0.0.1:{last.address[1]}\n}}"
            server.reload(corefile(port, master, "key key.example", more=to))
            update(master, [step(7)])
            last.wait_for(lambda: last.serial("example.org") == 2)
