"""Helpers for tests of zones: zones and replies as text."""

from pathlib import Path

from corepy.corefile import Diagnostic
from corepy.dns import Edns, Request, query
from corepy.dns import constants as c
from corepy.dns.names import from_text, to_text
from corepy.dns.presentation import rdata_to_text
from corepy.dns.rdata import plain_sections
from corepy.zone.additional import name_at
from corepy.zone.master_file import MasterFileReader, finish
from corepy.zone.replies import answer
from corepy.zone.zone_builder import ZoneBuilder

ORIGIN = from_text("example.org.")
SOA = "@ 3600 SOA ns1 host 1 7200 3600 1209600 300\n"
SERVERS = "@ 3600 NS ns1"


def zone_from(text, origin=ORIGIN, *, head=SOA + SERVERS + "\n"):
    """The zone with these lines, after a SOA and an NS record."""
    problems: list[Diagnostic] = []
    builder = ZoneBuilder(origin)
    reader = MasterFileReader(builder, problems.append)
    reader.read_content(f"$TTL 3600\n{head}{text}".encode(), Path("test.zone"))
    return finish(builder, Path("test.zone"), problems)


def full_name(text):
    """A name in wire form, relative to the origin unless it ends in a dot."""
    if text == "@":
        return ORIGIN
    return from_text(text) if text.endswith(".") else from_text(text)[:-1] + ORIGIN


def relative(name):
    text = to_text(name.lower())
    return "@" if text == "example.org." else text.removesuffix(".example.org.")


def record_text(wire):
    owner = name_at(wire, 0)
    at = len(owner)
    rtype = int.from_bytes(wire[at : at + 2], "big")
    ttl = int.from_bytes(wire[at + 4 : at + 8], "big")
    rdata = rdata_to_text(rtype, wire[at + 10 :]).replace(".example.org.", "")
    return f"{relative(owner)} {ttl} {c.type_name(rtype)} {rdata}"


def sections_of(reply):
    return [[record_text(it) for it in records] for records in plain_sections(reply.wire)]


def request_for(name, rtype="A", *, do=False, udp_size=4096):
    edns = Edns(udp_size=udp_size, do=do)
    wire = query(full_name(name), c.type_number(rtype), flags=0, edns=edns)
    return Request.from_wire(wire)


def ask(zone, name, rtype="A", *, do=False):
    """The reply of a zone: its rcode and AA, and its three sections."""
    reply, _ = answer(zone, request_for(name, rtype, do=do))
    return f"{reply.rcode}{' aa' if reply.aa else ''}", *sections_of(reply)
