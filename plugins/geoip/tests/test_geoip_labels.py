"""The directive, the labels, and databases that change (CoreDNS: plugin/geoip/*_test.go)."""

import asyncio
import importlib
import ipaddress
import os
import re
import struct
from pathlib import Path
from typing import Any

import dnslib
import maxminddb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import parse
from corepy.dns import Request
from corepy.dns.edns import option
from corepy.plugin import Cacheability, FileData, StartupError
from corepy.server.build.builder import build
from corepy.testing import exchange, make_request, query, refusal, serve, set_up
from corepy_geoip.database import Database
from corepy_geoip.geoip import GeoIP, subnet_address
from corepy_geoip.labels import asn_labels, city_labels

# -- a writer of databases (https://maxmind.github.io/MaxMind-DB/)


class U16(int):
    number = 5


class U32(int):
    number = 6


class U64(int):
    number = 9


def encode(value):
    """One value of the data section."""
    if isinstance(value, dict):
        pairs = b"".join(encode(key) + encode(item) for key, item in value.items())
        return control(7, len(value)) + pairs
    if isinstance(value, list):
        return control(11, len(value)) + b"".join(map(encode, value))
    if isinstance(value, bool):
        return control(14, int(value))
    if isinstance(value, float):
        return control(3, 8) + struct.pack("!d", value)
    if isinstance(value, int):
        digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
        return control(getattr(value, "number", 6), len(digits)) + digits
    text = value.encode()
    return control(2, len(text)) + text


def control(kind, size):
    low, more = (size, b"") if size < 29 else (29, bytes((size - 29,)))
    if kind < 8:
        return bytes((kind << 5 | low,)) + more
    return bytes((low, kind - 7)) + more


def mmdb(kind, records, version=6):
    """A database of this type with a record for each network."""
    root: list[Any] = [None, None]
    data = b""
    for text, record in records.items():
        network = ipaddress.ip_network(text)
        bits = f"{int(network.network_address):0{network.max_prefixlen}b}"[: network.prefixlen]
        if network.version < version:
            bits = "0" * 96 + bits
        node = root
        for bit in map(int, bits[:-1]):
            if not isinstance(node[bit], list):
                node[bit] = [node[bit], node[bit]]
            node = node[bit]
        node[int(bits[-1])] = len(data)
        data += encode(record)
    nodes = [root]
    for node in nodes:
        nodes += [side for side in node if isinstance(side, list)]
    numbers = {id(node): number for number, node in enumerate(nodes)}
    count = len(nodes)

    def pointer(side):
        if side is None:
            return count
        return numbers[id(side)] if isinstance(side, list) else count + 16 + side

    tree = b"".join(pointer(side).to_bytes(3, "big") for node in nodes for side in node)
    metadata = {
        "node_count": U32(count), "record_size": U16(24), "ip_version": U16(version),
        "database_type": kind, "languages": ["en"], "binary_format_major_version": U16(2),
        "binary_format_minor_version": U16(0), "build_epoch": U64(1_700_000_000), "description": {},
    }  # fmt: skip
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + encode(metadata)


PLACE = {
    "city": {"names": {"de": "Kambrigde", "en": "Cambridge"}},
    "continent": {"code": "EU", "names": {"en": "Europe"}},
    "country": {"iso_code": "GB", "names": {"en": "United Kingdom"}, "is_in_european_union": True},
    "location": {"latitude": 52.2242, "longitude": 0.1315, "time_zone": "Europe/London"},
    "postal": {"code": "CB4"},
    "subdivisions": [{"iso_code": "ENG"}, {"iso_code": "CAM"}],
}
CITY = mmdb("GeoLite2-City", {
    "81.2.69.142/32": PLACE, "127.0.0.0/8": {"country": {"iso_code": "ZZ"}}, "2001:db8::/32": PLACE
})  # fmt: skip
ASN = mmdb("GeoLite2-ASN", {
    "81.2.69.0/24": {"autonomous_system_number": U32(12345),
                     "autonomous_system_organization": "Test ASN Organization"},
    "10.0.0.0/8": {"autonomous_system_number": U32(0),
                   "autonomous_system_organization": "Not routed"},
})  # fmt: skip
LABELS = {
    "geoip/city/name": "Cambridge", "geoip/country/code": "GB",
    "geoip/country/name": "United Kingdom", "geoip/country/is_in_european_union": "true",
    "geoip/continent/code": "EU", "geoip/continent/name": "Europe", "geoip/latitude": "52.2242",
    "geoip/longitude": "0.1315", "geoip/timezone": "Europe/London", "geoip/postalcode": "CB4",
    "geoip/subdivisions/code": "ENG,CAM",
}  # fmt: skip
DAMAGED = b"\xff" * 600 + CITY[600:]  # the search tree leads out of the file
NOWHERE = dict.fromkeys(LABELS, "") | {"geoip/country/is_in_european_union": "false"}


@pytest.fixture
def files(tmp_path):
    """A folder with databases, and the text of a directive that uses one."""
    (tmp_path / "city.mmdb").write_bytes(CITY)
    (tmp_path / "asn.mmdb").write_bytes(ASN)
    (tmp_path / "unknown.mmdb").write_bytes(mmdb("UnknownDbType", {"10.0.0.0/8": {}}))
    (tmp_path / "empty.mmdb").touch()
    (tmp_path / "text.mmdb").write_text("no database")
    (tmp_path / "half.mmdb").write_bytes(CITY[: len(CITY) // 2])
    (tmp_path / "damaged.mmdb").write_bytes(DAMAGED)
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


# -- the directive: the twelve cases of CoreDNS, of which none differs, and further ones


@pytest.mark.parametrize("name", ["city.mmdb", "asn.mmdb"])
@pytest.mark.parametrize("more", ["", " { edns-subnet }", " {\nedns-subnet\n}"])
def test_accepted(files, name, more):
    controller = set_up(f"geoip {files / name}{more}")
    (handler,) = controller.handlers
    assert handler.cacheability is Cacheability.SAFE
    assert (handler.uses_subnet, handler.file.path) == (bool(more), files / name)
    (warning,) = controller.warnings
    assert warning.message == "geoip has no effect: this server block has no plugin 'metadata'"


ARGUMENTS = "wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("geoip", f"2:1: {ARGUMENTS} 'geoip' (such as GeoLite2-City.mmdb)"),
        ("geoip {}/city.mmdb {\nlanguages en fr es zh-CN\n}", "3:1: unknown option 'languages'"),
        ("geoip {}/city.mmdb\ngeoip {}/city.mmdb", "3:1: geoip has one database"),
        ("geoip 1 2 3", f"2:9: {ARGUMENTS} '2' (such as GeoLite2-City.mmdb)"),
        ("geoip { }", "2:"),
        ("geoip /dbpath { city }", "2:17: unknown option 'city'"),
        (
            "geoip /invalidPath",
            "2:7: failed to open database file '/invalidPath': No such file or directory",
        ),
        ("geoip {}/unknown.mmdb", "2:7: cannot use database file"),
        # and further ones
        ("geoip {}/empty.mmdb", "2:7: cannot use database file"),
        ("geoip {}/text.mmdb", "2:7: cannot use database file"),
        ("geoip {}/half.mmdb", "2:7: cannot use database file"),
        ("geoip {}/damaged.mmdb", "2:7: cannot use database file"),
        ("geoip {}/fifo", "2:7: cannot use database file"),
        ("geoip {}", "2:7: cannot use database file"),
        ("geoip {}/city.mmdb {\nedns-subnet on\n}", "3:13: unknown option 'on'"),
    ],
)
def test_refused(files, text, message):
    text = text.replace("{}", str(files))
    assert str(refusal(text)).startswith(f"Corefile:{message}")


def test_a_misspelled_label_is_reported(files):
    text = f'. {{\nmetadata\ngeoip {files / "city.mmdb"}\nlog . "{{/geoip/country/cod}} {{/geoip/asn/org}}"\n}}'
    (warning,) = build(parse(text, env={})).warnings
    assert warning.message == "geoip has no label 'geoip/country/cod'"
    assert warning.hint == "did you mean 'geoip/country/code'?"


# -- labels


def handler_of(content, **options):
    file: FileData[Database | None] = FileData(Path("unused"), Database, None)
    file.value = Database(content)
    return GeoIP(file, **options)


ADDRESSES = [
    (CITY, "81.2.69.142", LABELS),
    (CITY, "2001:db8::1", LABELS),
    (CITY, "203.0.113.1", NOWHERE),
    (CITY, "127.0.0.1", NOWHERE | {"geoip/country/code": "ZZ"}),
    (ASN, "81.2.69.142", {"geoip/asn/number": "12345", "geoip/asn/org": "Test ASN Organization"}),
    (ASN, "10.0.0.1", {"geoip/asn/number": "0", "geoip/asn/org": "Not routed"}),
    (ASN, "203.0.113.1", {"geoip/asn/number": "0", "geoip/asn/org": ""}),
]


def subnet(address, bits=32):
    packed = ipaddress.ip_address(address).packed
    return option(8, bytes((0, 1 if len(packed) == 4 else 2, bits, 0)) + packed)


@pytest.mark.parametrize(("content", "address", "labels"), ADDRESSES)
def test_labels(content, address, labels):
    request = make_request("example.org.", peer=(address, 4000))
    assert handler_of(content).metadata(request) == labels
    stated = make_request("example.org.", peer=("198.51.100.1", 4000))
    stated = stated.derive(options=subnet(address))
    assert handler_of(content, uses_subnet=True).metadata(stated) == labels
    elsewhere = handler_of(content).metadata(stated)
    assert set(elsewhere.values()) <= {"", "0", "false"}


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (b"\0\1\x18\0" + bytes((81, 2, 69)), "81.2.69.0"),
        (b"\0\1\x20\0" + bytes((81, 2, 69, 142)), "81.2.69.142"),
        (b"\0\1\x08\0" + bytes((81, 2, 69, 142, 5)), "81.2.69.142"),
        (b"\0\1\0\0", "0.0.0.0"),
        (b"\0\0\0\0", "0.0.0.0"),
        (b"\0\2\x20\0" + bytes.fromhex("20010db8"), "2001:db8::"),
        (b"\0\2\x80\0" + bytes(10) + b"\xff\xff" + bytes((81, 2, 69, 142)), "81.2.69.142"),
        (b"\0\2\0\0", "::"),
        (b"\0\3\x20\0" + bytes((81, 2, 69, 142)), None),
        (b"\1\1\x20\0" + bytes((81, 2, 69, 142)), None),
        (b"\0\1\x20", None),
        (b"", None),
    ],
)
def test_subnets(data, address):
    assert subnet_address(option(10, b"cookie01") + option(8, data)) == address
    assert subnet_address(option(8, data) + subnet("192.0.2.1")) == (address or "192.0.2.1")
    assert subnet_address(option(10, b"cookie01")) is None


@pytest.mark.parametrize(
    ("peer", "labels"),
    [
        (("fe80::1%lo", 4000), NOWHERE),
        (("::ffff:81.2.69.142", 4000, 0, 0), LABELS),  # at a socket for both families
        ("a socket without addresses", {}),
    ],
)
def test_other_clients(peer, labels):
    assert handler_of(CITY).metadata(make_request("example.org.", peer=peer)) == labels


def test_a_client_without_a_subnet():
    """The option is not there, or not used."""
    request = make_request("example.org.", peer=("81.2.69.142", 4000))
    assert handler_of(CITY, uses_subnet=True).metadata(request) == LABELS
    cookie = request.derive(options=option(10, b"cookie01"))
    assert handler_of(CITY, uses_subnet=True).metadata(cookie) == LABELS


def test_ipv6_with_a_database_for_ipv4():
    content = mmdb("GeoLite2-City", {"81.2.69.142/32": PLACE}, version=4)
    assert handler_of(content).metadata(make_request("a.", peer=("81.2.69.142", 1))) == LABELS
    assert handler_of(content).metadata(make_request("a.", peer=("2001:db8::1", 1))) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [(52.0, "52"), (-0.5, "-0.5"), (1e-05, "0.00001"), (0.0, "0"), (1e22, "1" + "0" * 22),
     (1, ""), ("1", ""), (None, "")],
)  # fmt: skip
def test_numbers(value, text):
    assert city_labels({"location": {"latitude": value}})["geoip/latitude"] == text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from([*PLACE, "names", "en", "code", "iso_code"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_any_record(record):
    assert city_labels(record).keys() == LABELS.keys()
    assert asn_labels(record).keys() == {"geoip/asn/number", "geoip/asn/org"}
    assert all(isinstance(value, str) for value in city_labels(record).values())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(CITY) - 1), st.binary(min_size=1, max_size=4))
def test_a_damaged_database(at, noise):
    try:
        database = Database(CITY[:at] + noise + CITY[at + len(noise) :])
        database.labels("81.2.69.142")
    except (ValueError, maxminddb.InvalidDatabaseError):
        pass


@pytest.mark.parametrize("text", [encode("city"), b"Cambridge"])
def test_data_that_is_damaged(caplog, text):
    """The record of one address: the start does not find it, and a client's query meets it."""
    at = CITY.index(text)
    handler = handler_of(CITY[:at] + b"\xff" + CITY[at + 1 :])
    for _ in range(3):
        assert handler.metadata(make_request("a.", peer=("81.2.69.142", 1))) == {}
    assert handler.metadata(make_request("a.", peer=("127.0.0.1", 1)))["geoip/country/code"] == "ZZ"
    (record,) = caplog.records
    assert record.getMessage().startswith("the database is damaged; not all clients have labels: ")


@pytest.mark.parametrize(
    ("address", "state"),
    [("10.0.0.1", "known client"), ("192.0.2.1", "unknown client"), ("::1", "unknown client")],
)
def test_the_state(address, state):
    found = handler_of(ASN).explain_state(make_request("a.", peer=(address, 1)))
    assert found == {"state": state, "address": address}


# -- servers

COREFILE = """. {{
    bind 127.0.0.1
    metadata
    geoip {path}
    template IN TXT . {{
        answer "{{{{ .Name }}}} 0 IN TXT \\"{{{{ .Meta \\"geoip/country/code\\" }}}}\\""
    }}
}}"""


def country(server, **options):
    return str(server.ask("example.org.", "TXT", **options).rr[0].rdata)


def replaced(path, content):
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)


def look(server, file):
    """Have the server look at its database; return whether it has loaded it."""
    return asyncio.run_coroutine_threadsafe(file.look(), server._loop).result(30)


def test_a_database_is_replaced(files):
    path = files / "city.mmdb"
    with serve(COREFILE.format(path=path)) as server:
        assert country(server) == country(server, tcp=True) == '"ZZ"'
        (handler,) = server.plugins(GeoIP)
        replaced(path, mmdb("GeoLite2-City", {"127.0.0.1/32": PLACE}))
        assert server.call(handler.file.read)
        assert country(server) == '"GB"'


def test_a_database_that_cannot_be_used_does_not_replace_another(files, caplog, monkeypatch):
    """Also one that is written over, which would end a process that has mapped the file."""
    monkeypatch.setattr(importlib.import_module("corepy_geoip.setup"), "SETTLE", 0.0)
    path = files / "city.mmdb"
    with serve(COREFILE.format(path=path)) as server:
        (handler,) = server.plugins(GeoIP)
        for content in (b"", CITY[:-40], DAMAGED, None):  # the first two have one problem
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            assert not look(server, handler.file)
            assert country(server) == '"ZZ"'
        path.write_bytes(ASN)
        assert look(server, handler.file)
        assert country(server) == '""'  # the labels of another type of database
    problems = [it.getMessage() for it in caplog.records if it.levelname == "ERROR"]
    name, kept = f"database {path}", "; the previous content stays in use"
    unusable = f"{name}: not a usable database: "
    assert problems[0] == f"{unusable}not a file in the MaxMind DB format{kept}"
    assert problems[1].startswith(f"{unusable}Error looking up ")
    assert problems[1].endswith(kept)
    assert problems[2:] == [f"cannot read {name}: No such file or directory{kept}"]


def test_a_database_that_is_gone_at_the_start(files):
    path = files / "city.mmdb"
    generation = build(parse(COREFILE.format(path=path)))
    (handler,) = (it for it in generation.plugins.get_plugins() if isinstance(it, GeoIP))
    path.unlink()
    context: Any = None
    with pytest.raises(StartupError, match=r"cannot read database .*: No such file or directory"):
        asyncio.run(handler.file.before_listen(context))


def test_the_packet_cache_stays_on(files):
    text = f". {{\nmetadata\ngeoip {files / 'city.mmdb'}\ncache\nwhoami\n}}"
    (router,) = build(parse(text)).routers.values()
    assert router.routes[0].obstacle is None


def with_subnet(wire, address):
    """A query with the EDNS option client subnet."""
    return Request.from_wire(wire).derive(options=subnet(address)).wire


@pytest.mark.parametrize("bind", ["bind 127.0.0.1", ""])
def test_subnets_of_clients(files, bind):
    """The second socket is for both families, and sees IPv4-mapped addresses."""
    text = COREFILE.format(path=f"{files / 'city.mmdb'} {{\nedns-subnet\n}}")
    text = text.replace("bind 127.0.0.1", f"{bind}\ncache")
    with serve(text) as server:
        address = ("127.0.0.1", server.address[1])
        wire = query("example.org.", "TXT")
        for asked, code in ((wire, "ZZ"), (with_subnet(wire, "81.2.69.142"), "GB")) * 2:
            reply = dnslib.DNSRecord.parse(exchange(address, asked))
            assert str(reply.rr[0].rdata) == f'"{code}"'


VIEWS = """. {{
    bind 127.0.0.1
    view near {{
        expr metadata('geoip/country/code') == 'ZZ'
    }}
    metadata
    geoip {path}
    cache
    template IN TXT . {{
        answer "{{{{ .Name }}}} 0 IN TXT near"
    }}
}}
. {{
    bind 127.0.0.1
    cache
    template IN TXT . {{
        answer "{{{{ .Name }}}} 0 IN TXT far"
    }}
}}"""


def test_a_view_of_a_country(files):
    """The packet cache does not repeat the reply of one block to the clients of another."""
    path = files / "city.mmdb"
    with serve(VIEWS.format(path=path)) as server:
        assert [country(server) for _ in range(3)] == ['"near"'] * 3
        assert server.packet_entries == 0
        (handler,) = server.plugins(GeoIP)
        replaced(path, mmdb("GeoLite2-City", {"127.0.0.1/32": PLACE}))
        assert server.call(handler.file.read)
        assert country(server) == '"far"'


MANUAL = re.findall(
    r"^```txt\n((?:\S* ?\{\n.*?^\}\n+)+)```",
    (Path(__file__).parent.parent / "README.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


def manual(folder, number):
    """An example of the manual page with a database, and its file."""
    (folder / "GeoLite2-City.mmdb").write_bytes(CITY)
    path = folder / "Corefile"
    path.write_text(MANUAL[number])
    return path


@pytest.mark.parametrize(
    ("client", "code"), [("81.2.69.142", "GB"), ("127.0.0.1", "ZZ"), ("192.0.2.1", "")]
)
def test_explain_log_and_template_show_labels(files, monkeypatch, capsys, client, code):
    """The first example of the manual."""
    from corepy.commands import explain

    monkeypatch.chdir(files)
    path = manual(files, 0)
    assert explain.main(["-dry", "-conf", str(path), "whereami.example.org", "TXT", client]) == 0
    out = capsys.readouterr().out
    assert f'whereami.example.org.\t60\tIN\tTXT\t"{code}"\n' in out
    assert f"{client} whereami.example.org. TXT {code}" in out
    state = "known" if code else "unknown"
    assert re.search(rf"geoip +{state} client; passed on\n +address: {client}\n", out)
    assert ("geoip/country/code: " in out) == bool(code)
    shown = f"geoip/country/code: {code}, " if client == "81.2.69.142" else "is_in_european_union"
    assert re.search(rf"now   .*{shown}", out)


def test_the_examples_of_the_manual(files, monkeypatch):
    monkeypatch.chdir(files)
    assert len(MANUAL) == 2
    for number, text in enumerate(MANUAL):
        manual(files, number)
        assert build(parse(text)).warnings == []
