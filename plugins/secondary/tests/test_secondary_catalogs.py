"""Member zones of catalogs: they come and go, move, and begin anew (RFC 9432)."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.dns import constants as c
from corepy.dns.names import from_text, to_text
from corepy.plugin import ZoneMatcher
from corepy.testing import helper_module, serve
from corepy.testing.command import wait_until
from corepy_secondary.catalog import CatalogError, read_members
from corepy_secondary.members import Catalogs
from corepy_secondary.secondary import Secondary

zones = helper_module(__file__, "secondary_zones")
build_zone, primary = zones.build_zone, zones.primary


def catalog(serial, members, *, name="catalog.test.", version=b"\x012", records=(), coo=None):
    """A catalog zone; `members` are the labels of the origins, `coo` new owners by origin."""
    found = [] if version is None else [(f"version.{name}", c.TYPE_TXT, version)]
    for origin, label in members.items():
        owner = f"{label}.zones.{name}"
        found.append((owner, c.TYPE_PTR, from_text(origin)))
        if coo and origin in coo:
            found.append((f"coo.{owner}", c.TYPE_PTR, from_text(coo[origin])))
    return build_zone(name, serial, records=[*found, *records])


def member(name, serial=1):
    return build_zone(name, serial, hosts=2)


A, B, C = "a.test.", "b.test.", "c.test."


def test_the_members_of_a_catalog():
    zone = catalog(1, {A: "one", "B.test.": "two"}, coo={A: "other.test."})
    found = read_members(zone)
    assert [(to_text(it.zone), it.node, it.new_owner) for it in found.values()] == [
        (A, b"\3one", from_text("other.test.")),
        (B, b"\3two", None),
    ]


def test_other_records_of_a_catalog_are_ignored():
    records = [
        ("group.one.zones.catalog.test.", c.TYPE_TXT, b"\1x"),
        ("ext.catalog.test.", c.TYPE_PTR, from_text(B)),
        ("deep.one.zones.catalog.test.", c.TYPE_PTR, from_text(B)),
        ("zones.catalog.test.", c.TYPE_PTR, from_text(B)),
        ("two.zones.catalog.test.", c.TYPE_TXT, b"\1x"),
        ("zones.catalog.test.", c.TYPE_TXT, b"\1x"),
    ]
    found = read_members(catalog(1, {A: "one"}, records=records))
    assert list(found) == [from_text(A)]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no version": ({"version": None}, "does not have one version record"),
    "version 1": ({"version": b"\0011"}, "does not have one version record"),
    "two versions": (
        {"records": [("version.catalog.test.", c.TYPE_TXT, b"\1x")]},
        "does not have one version record",
    ),
    "two zones": (
        {"records": [("one.zones.catalog.test.", c.TYPE_PTR, from_text(B))]},
        "one.zones.catalog.test. has more than one PTR record",
    ),
    "two nodes": (
        {"records": [("two.zones.catalog.test.", c.TYPE_PTR, from_text(A))]},
        "a.test. is the member of one. and two.",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_catalog_is_not_processed(case):
    options, problem = BROKEN[case]
    with pytest.raises(CatalogError, match=problem):
        read_members(catalog(1, {A: "one"}, **options))


# -- in servers


def corefile(master, *lines, catalogs="catalog.test", more=""):
    options = "\n".join(lines)
    return (
        f"test {{\nbind 127.0.0.1\nprometheus 127.0.0.1:0\n"
        f"secondary {catalogs} {{\ntransfer from {master.address}\n{options}\n}}\n{more}\n}}\n"
    )


def handler_of(server):
    (handler,) = server.plugins(Secondary)
    return handler


def loaded(server):
    """The serials of the zones that are served, by name, and None for others."""
    return {
        to_text(it.origin).removesuffix(".test."): it.current and it.current.serial
        for it in handler_of(server).zones
    }


def notify(server, name="catalog.test."):
    handler = handler_of(server)
    server.call(handler.notified, from_text(name), b"\x7f\0\0\1")


def test_members_come_and_go():
    with (
        primary(catalog(1, {A: "1", B: "2"}), member(A), member(B), member(C)) as master,
        serve(corefile(master, "catalog")) as server,
    ):
        wait_until(lambda: loaded(server) == {"catalog": 1, "a": 1, "b": 1})
        assert server.ask("h1.a.test").header.rcode == 0
        assert server.ask("h1.c.test").header.rcode == c.REFUSED
        assert handler_of(server).metrics_zone(from_text("h1.a.test.")) == A
        assert handler_of(server).metrics_zone(from_text("catalog.test.")) is None
        master.put(catalog(2, {B: "2", C: "3"}))
        notify(server)
        wait_until(lambda: loaded(server) == {"catalog": 2, "b": 1, "c": 1})
        assert server.ask("h1.a.test").header.rcode == c.REFUSED
        assert server.ask("h1.c.test").header.rcode == 0
        assert master.count("AXFR") == 4
        master.put(member(B, 5))
        notify(server, B)
        wait_until(lambda: loaded(server)["b"] == 5)


def test_a_broken_catalog_leaves_the_members(caplog):
    with (
        primary(catalog(1, {A: "1"}), member(A)) as master,
        serve(corefile(master, "catalog")) as server,
    ):
        wait_until(lambda: loaded(server) == {"catalog": 1, "a": 1})
        master.put(catalog(2, {}, version=b"\0013"))
        notify(server)
        wait_until(lambda: "catalog.test. is not processed" in caplog.text)
        assert loaded(server) == {"catalog": 2, "a": 1}


def test_only_zones_of_the_corefile_are_members(caplog):
    with (
        primary(catalog(1, {A: "1", B: "2", "x.a.test.": "3"}), member(A), member(B)) as master,
        serve(corefile(master, "catalog a.test")) as server,
    ):
        wait_until(lambda: loaded(server) == {"catalog": 1, "a": 1, "x.a": None})
        master.put(catalog(2, {B: "2"}))
        notify(server)
        wait_until(lambda: loaded(server) == {"catalog": 2})
    message = "zone b.test. of the catalog catalog.test. is not followed: it is not one of the"
    assert caplog.text.count(message) == 1


def test_a_zone_of_the_corefile_is_no_member(caplog):
    with primary(catalog(1, {A: "1", "catalog.test.": "2"}), member(A)) as master:
        more = f"secondary a.test {{\ntransfer from {master.address}\n}}"
        with serve(corefile(master, "catalog", more=more)) as server:
            wait_until(lambda: loaded(server) == {"catalog": 1, "a": 1})
            wait_until(lambda: caplog.text.count("the Corefile has this zone") == 2)
            master.put(catalog(2, {}))
            notify(server)
            wait_until(lambda: loaded(server) == {"catalog": 2, "a": 1})


def test_a_member_with_another_label_begins_anew():
    """RFC 9432 section 5.4."""
    with (
        primary(catalog(1, {A: "1"}), member(A, 9)) as master,
        serve(corefile(master, "catalog")) as server,
    ):
        wait_until(lambda: loaded(server) == {"catalog": 1, "a": 9})
        master.put(member(A, 3))
        master.put(catalog(2, {A: "2"}))
        notify(server)
        wait_until(lambda: loaded(server) == {"catalog": 2, "a": 3})


def two_catalogs(one, other):
    return catalog(1, one, name="one.test."), catalog(1, other, name="other.test.")


@pytest.mark.parametrize(("label", "serial"), [("1", 9), ("2", 3)])
def test_a_member_moves_to_another_catalog(label, serial):
    """RFC 9432 section 4.4.1: with its data if it has the same label."""
    one, other = two_catalogs({A: "1"}, {})
    with (
        primary(one, other, member(A, 9)) as master,
        serve(corefile(master, "catalog", catalogs="one.test other.test")) as server,
    ):
        wait_until(lambda: loaded(server) == {"one": 1, "other": 1, "a": 9})
        master.put(catalog(2, {A: "1"}, name="one.test.", coo={A: "other.test."}))
        notify(server, "one.test.")
        wait_until(lambda: loaded(server)["one"] == 2)
        master.put(member(A, 3))
        master.put(catalog(2, {A: label}, name="other.test."))
        notify(server, "other.test.")
        wait_until(lambda: loaded(server) == {"one": 2, "other": 2, "a": serial})
        master.put(catalog(3, {}, name="one.test."))
        notify(server, "one.test.")
        wait_until(lambda: loaded(server) == {"one": 3, "other": 2, "a": serial})


class Owner:
    """Has catalogs, and records which members are followed for which."""

    def __init__(self, *catalogs):
        self.followers = {it.origin: SimpleNamespace(zone=it) for it in catalogs}
        self.added = []

    def settings_of(self, origin):
        return SimpleNamespace(members=ZoneMatcher(["."]), primaries=())

    async def add_member(self, origin, catalog):
        self.added.append((to_text(origin), to_text(catalog)))

    async def remove_member(self, origin):
        self.added.append((to_text(origin), ""))


def test_a_catalog_that_has_waited_for_a_member_takes_it_over():
    """The new owner lists the member before the old one lets it go."""
    owner: Any = Owner(*two_catalogs({A: "1"}, {A: "2"}))
    catalogs = Catalogs(owner)
    asyncio.run(catalogs.apply_all())
    zone = catalog(2, {A: "1"}, name="one.test.", coo={A: "other.test."})
    owner.followers[zone.origin].zone = zone
    asyncio.run(catalogs.apply(zone.origin))
    assert owner.added == [(A, "one.test."), (A, ""), (A, "other.test.")]


def test_a_member_of_another_catalog_stays_there(caplog):
    """Until that catalog does not list it any more."""
    one, other = two_catalogs({A: "1"}, {})
    with (
        primary(one, other, member(A, 9)) as master,
        serve(corefile(master, "catalog", catalogs="one.test other.test")) as server,
    ):
        wait_until(lambda: loaded(server) == {"one": 1, "other": 1, "a": 9})
        master.put(catalog(2, {A: "1"}, name="other.test."))
        notify(server, "other.test.")
        wait_until(lambda: "is not followed: it is a member of one.test." in caplog.text)
        transfers = master.count("AXFR")
        master.put(catalog(2, {}, name="one.test."))
        notify(server, "one.test.")
        wait_until(lambda: master.count("AXFR") == transfers + 1)
        wait_until(lambda: loaded(server) == {"one": 2, "other": 2, "a": 9})


def test_a_reload_keeps_the_members():
    with (
        primary(catalog(1, {A: "1", B: "2"}), member(A), member(B)) as master,
        serve(corefile(master, "catalog")) as server,
    ):
        wait_until(lambda: loaded(server) == {"catalog": 1, "a": 1, "b": 1})
        server.reload(corefile(master, "catalog b.test"))
        assert loaded(server) == {"catalog": 1, "b": 1}
        assert master.count("AXFR") == 3


def test_stored_members_are_served_after_a_restart(tmp_path):
    line = f"store {tmp_path}"
    with primary(catalog(1, {A: "1", B: "2"}), member(A), member(B)) as master:
        text = corefile(master, "catalog", line)
        with serve(text) as server:
            wait_until(lambda: loaded(server) == {"catalog": 1, "a": 1, "b": 1})
            wait_until(lambda: len(list(tmp_path.glob("[!.]*.zone"))) == 3)
        with serve(text, still=True) as server:
            assert loaded(server) == {"catalog": 1, "a": 1, "b": 1}
            assert master.count("AXFR") == 3
        master.put(catalog(2, {A: "1"}))
        with serve(text) as server:
            wait_until(lambda: loaded(server) == {"catalog": 2, "a": 1})
            wait_until(lambda: not (tmp_path / "b.test.zone").exists())
