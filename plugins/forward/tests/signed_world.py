"""A root, two TLDs and many zones below them, signed with Knot DNS, some of them broken.

knotd serves all zones, and unbound, which does not validate, resolves them: the upstream of the
validators under test. `Tamper` stands between and changes some replies.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import time
from typing import NamedTuple

from corepy.dns.constants import type_name
from corepy.dns.names import from_text
from corepy.dns.rdata import plain_sections
from corepy.testing import free_port
from corepy.testing.client import exchange, query
from corepy.testing.command import wait_until
from corepy.testing.name_servers import KNOT, name_server
from corepy.testing.upstream import Upstream

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
DAY = 86400

SMALL = """\
@ SOA ns h 1 3600 3600 3600 300
@ NS ns
ns A 127.0.0.1
www A 192.0.2.1
*.wild A 192.0.2.2
mail.ent A 192.0.2.3
"""
RICH = (
    SMALL
    + """\
www TXT "text"
@ MX 10 Mail
*.wild TXT "wild"
closer.wild TXT "closer"
alias CNAME www
abroad CNAME www.nsec3.test.
plainly CNAME www.plain.
dangling CNAME missing
nodata CNAME ns
*.walias CNAME www
*.toplain CNAME www.unsigned
*.tosigned CNAME www.child
redirected DNAME ent
unsigned NS ns.unsigned
ns.unsigned A 127.0.0.1
long TXT "{long}"
""".replace("{long}", '" "'.join(["x" * 250] * 8))
)
PARENT = """\
@ SOA ns.test. h.test. 1 3600 3600 3600 300
@ NS ns.test.
"""


class Zone(NamedTuple):
    """A zone; its parent delegates to it, with DS records if it is signed."""

    name: str
    text: str = SMALL
    policy: str = "nsec"
    """Empty: not signed."""
    signed_at: int = 0
    """Seconds from now."""
    edit: object = lambda text: text
    """Changes the signed zone."""
    ds: object = lambda lines: lines[:1]
    """Chooses or changes the DS records, lines of `name DS tag algorithm digest-type digest`."""


def without(pattern):
    """Return an edit that removes the lines with a pattern."""
    return lambda text: "".join(
        line for line in text.splitlines(keepends=True) if not re.search(pattern, line)
    )


def changed(pattern, replacement):
    return lambda text: re.sub(pattern, replacement, text, flags=re.MULTILINE)


def ds_field(index, value, *, also=False):
    """Return a choice of DS records of which one has another value in a field."""

    def choose(lines):
        words = lines[0].split()
        words[index] = value
        return [" ".join(words), *(lines[:1] if also else [])]

    return choose


def with_digests(good, bad):
    """Return a choice of DS records with a correct and with a wrong digest of two types.

    1 is made by the caller of `Zone.ds` as the last line.
    """

    def choose(lines):
        by_type = {line.split()[4]: line for line in lines}
        spoilt = re.sub(r"[0-9a-f]{4}$", "0000", by_type[bad])
        return [by_type[good], spoilt]

    return choose


ZONES = [
    Zone("nsec.test.", RICH, "nsec"),
    Zone("child.nsec.test.", SMALL, "ed25519"),
    Zone("unsigned.nsec.test.", SMALL, ""),
    Zone("nsec3.test.", RICH, "nsec3"),
    Zone("child.nsec3.test.", SMALL, "rsa"),
    Zone("unsigned.nsec3.test.", SMALL, ""),
    Zone("optout.test.", RICH, "optout"),
    Zone("child.optout.test.", SMALL, "p384"),
    Zone("unsigned.optout.test.", SMALL, ""),
    Zone("split.test.", SMALL, "split"),
    Zone("plain.", SMALL, ""),
    Zone("expired.test.", signed_at=-90 * DAY),
    Zone("future.test.", signed_at=30 * DAY),
    Zone("unsupported.test.", ds=ds_field(3, "200")),
    Zone("digest.test.", ds=ds_field(4, "200")),
    Zone("iterations.test.", policy="iterations"),
    Zone("sha1only.test.", ds=lambda lines: [it for it in lines if it.split()[4] == "1"]),
    Zone("sha2wins.test.", ds=with_digests("2", "1")),
    Zone("downgraded.test.", ds=with_digests("1", "2")),
    Zone("mismatch.test.", ds=lambda lines: [re.sub(r"[0-9a-f]{4}$", "0000", lines[0])]),
    Zone("othertag.test.", ds=ds_field(2, "1")),
    Zone("twods.test.", ds=ds_field(2, "1", also=True)),
    Zone("nokey.test.", edit=without(r"\sDNSKEY\s")),
    Zone("nozonebit.test.", edit=changed(r"DNSKEY\t257", "DNSKEY\t1"), ds="nozonebit"),
    Zone("protocol.test.", edit=changed(r"DNSKEY\t257 3", "DNSKEY\t257 4"), ds="protocol"),
    Zone("revoked.test.", edit=changed(r"DNSKEY\t257", "DNSKEY\t385"), ds="revoked"),
    Zone("stripped.test.", edit=without(r"\sRRSIG\s")),
    Zone("nokeysig.test.", edit=without(r"\sRRSIG\tDNSKEY\s")),
    Zone("nodatasig.test.", edit=without(r"^www.*\sRRSIG\s")),
    Zone("tampered.test.", edit=changed(r"192\.0\.2\.1$", "192.0.2.66")),
    Zone("nonsec.test.", edit=without(r"\sNSEC\s")),
    Zone("nonsec3.test.", policy="nsec3", edit=without(r"\sNSEC3\s")),
    Zone("signer.test.", edit=changed(r"(^www.*RRSIG.* )signer\.test\. ", r"\1test. ")),
    Zone("labels.test.", edit=changed(r"(^www.*RRSIG\tA 13) 3 ", r"\1 2 ")),
    Zone("ttl.test.", edit=changed(r"(^www.*)300(\tA\s)", r"\g<1>999\2")),
]  # fmt: skip
POLICIES = {
    "nsec": "single-type-signing: on",
    "split": "ksk-size: 256",
    "ed25519": "algorithm: ed25519\n    single-type-signing: on",
    "p384": "algorithm: ecdsap384sha384\n    single-type-signing: on",
    "rsa": "algorithm: rsasha256\n    ksk-size: 2048\n    zsk-size: 1024",
    "nsec3": "single-type-signing: on\n    nsec3: on\n    nsec3-iterations: 3",
    "optout": "single-type-signing: on\n    nsec3: on\n    nsec3-opt-out: on",
    "iterations": "single-type-signing: on\n    nsec3: on\n    nsec3-iterations: 200",
}
FRAMES = [Zone("test.", PARENT, "split"), Zone(".", PARENT, "split")]


def run(program, *arguments):
    found = shutil.which(program, path=PATH)
    assert found is not None, f"{program} is missing"
    done = subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout


def key_tag(rdata):
    total = sum(rdata[::2]) * 256 + sum(rdata[1::2])
    return (total + (total >> 16)) & 0xFFFF


def ds_of_keys(name, text, digest_type=2):
    """Return DS records of the keys as they are in the zone, even if unusable."""
    lines = []
    for flags, protocol, algorithm, key in re.findall(r"DNSKEY\t(\d+) (\d+) (\d+) (\S+)", text):
        head = int(flags).to_bytes(2, "big") + bytes((int(protocol), int(algorithm)))
        rdata = head + base64.b64decode(key)
        digest = hashlib.new({1: "sha1", 2: "sha256"}[digest_type], from_text(name) + rdata)
        tag = key_tag(rdata)
        lines.append(f"{name} DS {tag} {algorithm} {digest_type} {digest.hexdigest()}")
    return lines


class World:
    """The signed zones, whose files are in the folder `signed`, which several processes share."""

    def __init__(self, folder, signed, zones=ZONES):
        self.folder = folder
        self.signed = signed
        self.zones = [*zones, *FRAMES]
        self.delegations = {"test.": "", ".": ""}
        self.ds: dict[str, list[str]] = {}
        signed.mkdir(exist_ok=True)
        with (signed / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._sign_once(signed / "ds.json")
        self.root_ds = self.ds["."][:1]

    def _sign_once(self, done):
        """Sign the zones unless another process has done it."""
        if done.exists():
            self.ds = json.loads(done.read_text())
            return
        self._configure()
        for zone in sorted(self.zones, key=lambda it: -len(it.name.strip(".").split("."))):
            if zone.name != ".":
                self._sign(zone)
        self._sign(self.zones[-1])
        done.write_text(json.dumps(self.ds))

    def file(self, zone):
        return self.signed / f"zone-{zone.name}"

    def _configure(self):
        lines = [f"database:\n    storage: {self.signed}\npolicy:\n"]
        lines += [f"  - id: {it}\n    {text}\n" for it, text in POLICIES.items()]
        lines.append(
            f"template:\n  - id: default\n    storage: {self.signed}\n    semantic-checks: off\nzone:\n"
        )
        lines += [
            f'  - domain: "{it.name}"\n    file: "{self.file(it)}"\n'
            + (f"    dnssec-signing: on\n    dnssec-policy: {it.policy}\n" if it.policy else "")
            for it in self.zones
        ]
        (self.signed / "sign.conf").write_text("".join(lines))

    def _sign(self, zone):
        text = f"$ORIGIN {zone.name}\n$TTL 300\n" + zone.text
        self.file(zone).write_text(text + self.delegations.get(zone.name, ""))
        lines = []
        if zone.policy:
            moment = int(time.time()) + zone.signed_at
            run("kzonesign", "-c", self.signed / "sign.conf", "-r", "-t", moment, zone.name)
            signed = self.file(zone).read_text()
            ksks = "\n".join(re.findall(r"DNSKEY\t257 .*", signed))
            self.ds[zone.name] = [line for it in (2, 1) for line in ds_of_keys(zone.name, ksks, it)]
            edited = zone.edit(signed)
            self.file(zone).write_text(edited)
            if isinstance(zone.ds, str):
                lines = ds_of_keys(zone.name, edited)
            else:
                lines = zone.ds(self.ds[zone.name])
        parent = zone.name.split(".", 1)[1] or "."
        added = [f"{zone.name} NS ns.{zone.name}", f"ns.{zone.name} A 127.0.0.1", *lines]
        if zone.name != ".":
            self.delegations[parent] = self.delegations.get(parent, "") + "\n".join(added) + "\n"

    def anchors(self, zone="."):
        """Return the path of a file with the trust anchor of a zone."""
        path = self.folder / f"anchor-{zone}"
        path.write_text(self.ds[zone][0] + "\n")
        return path

    def corefile(self, *upstreams, options="", plugins="", zone=".", anchor="."):
        """Return a Corefile with a validating forwarder to some upstreams.

        The time of an exchange does not matter, unless `options` have another `read_timeout`.
        """
        to = " ".join(it.to for it in upstreams)
        options = f"dnssec validate {self.anchors(anchor)}\nmax_fails 0\nread_timeout 1m\n{options}"
        forward = f"forward {zone} {to} {{\n{options}\n}}"
        return f".:0 {{\nbind 127.0.0.1\n{plugins}\n{forward}\n}}\n"

    @contextlib.contextmanager
    def serve(self):
        """Run knotd and a resolver; yields the address of the resolver."""
        zones = "".join(
            f'  - domain: "{it.name}"\n    file: "{self.file(it)}"\n    journal-content: none\n'
            for it in self.zones
        )
        with name_server("knotd", KNOT + "zone:\n" + zones) as knot:
            stubs = "".join(
                f'stub-zone:\n    name: "{it.name}"\n    stub-addr: 127.0.0.1@{knot.address[1]}\n'
                for it in self.zones
            )
            with unbound(self.folder, "iterator", stubs) as address:
                yield address

    @contextlib.contextmanager
    def validator(self, upstream):
        """Run unbound as a validating forwarder; yields its address."""
        text = f'forward-zone:\n    name: "."\n    forward-addr: 127.0.0.1@{upstream[1]}\n'
        anchors = "".join(f'    trust-anchor: "{it}"\n' for it in self.root_ds)
        with unbound(self.folder, "validator iterator", text, anchors) as address:
            yield address


def verdict(reply):
    """Return "secure", "insecure" or "bogus" for a reply to a query with DO, and its rcode."""
    rcode = reply.header.rcode
    kind = "bogus" if rcode == 2 else "secure" if reply.header.ad else "insecure"
    return kind, rcode


def ede_of(reply):
    """Return the code and text of the extended error of a reply; None without one."""
    for record in reply.ar:
        for option in record.rdata if record.rtype == 41 else ():
            if option.code == 15:
                return int.from_bytes(option.data[:2], "big"), option.data[2:].decode()
    return None


@contextlib.contextmanager
def unbound(folder, modules, text, options=""):
    port = free_port()
    conf = folder / f"unbound-{port}.conf"
    conf.write_text(
        f"""\
server:
    interface: 127.0.0.1@{port}
    directory: {folder}
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    do-not-query-localhost: no
    do-ip6: no
    module-config: "{modules}"
    qname-minimisation: no
    aggressive-nsec: no
    val-sig-skew-min: 0
    val-sig-skew-max: 0
    ede: yes
    incoming-num-tcp: 200
    trust-anchor-signaling: no
    root-key-sentinel: no
    local-zone: "test." nodefault
    msg-cache-size: 1m
    edns-buffer-size: 1232
{options}{text}"""
    )
    log = folder / f"unbound-{port}.log"
    with log.open("w") as output:
        program = shutil.which("unbound", path=PATH)
        assert program is not None, "unbound is missing"
        process = subprocess.Popen([program, "-d", "-c", str(conf)], stderr=output)
    try:
        wait_until(lambda: "start of service" in log.read_text(), 60)
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait()


class Tamper(Upstream):
    """A forwarder to a resolver that changes replies.

    `rules` are functions by "name. TYPE": of the message to the changed one. `always` is another
    one, for all messages.
    """

    def __init__(self, resolver, rules=None, always=lambda wire: wire):
        self.rules = rules or {}
        self.always = always
        self.resolver = resolver
        super().__init__(self._answer)

    def _answer(self, query, proto):
        wire = self._resolve(bytes(query.pack()))
        key = f"{query.q.qname} {type_name(query.q.qtype)}"
        wire = self.always(self.rules.get(key, lambda it: it)(wire))
        if proto == "udp" and len(wire) > 1232:
            end = wire.index(b"\0", 12) + 5
            return wire[:2] + bytes((wire[2] | 2,)) + wire[3:6] + bytes(6) + wire[12:end]
        return wire

    def _resolve(self, wire):
        """Return the resolver's reply; over TCP only if it must, as unbound limits connections."""
        reply = exchange(self.resolver, wire)
        return exchange(self.resolver, wire, tcp=True) if reply[2] & 2 else reply


def filtered(keep):
    """Return a rule that keeps the records for which `keep(section, type, record)` is true."""

    def change(wire):
        sections = [
            [it for it in records if keep(number, _type_of(it), it)]
            for number, records in enumerate(plain_sections(wire), 1)
        ]
        return assembled(wire, *sections)

    return change


def _type_of(record):
    at = 0
    while record[at]:
        at += record[at] + 1
    return record[at + 1] << 8 | record[at + 2]


def assembled(wire, *sections):
    """Return a message with other records, and an OPT record."""
    end = wire.index(b"\0", 12) + 5
    counts = b"".join(len(it).to_bytes(2, "big") for it in sections[:2])
    additional = (len(sections[2]) + 1).to_bytes(2, "big")
    opt = b"\0\0\x29\4\xd0\0\0\x80\0\0\0"
    records = b"".join(it for section in sections for it in section)
    return wire[:6] + counts + additional + wire[12:end] + records + opt


def question_end(wire):
    """Return the offset after the question of a message."""
    return wire.index(b"\0", 12) + 5


class Replay:
    """A rule that answers with the reply to another query, perhaps changed."""

    def __init__(self, resolver, name, qtype, *, rename=(), rcode=None, keep=None):
        self.resolver, self.rename, self.rcode = resolver, rename, rcode
        self.query = query(name, qtype, do=True)
        self.keep = filtered(keep) if keep else lambda wire: wire

    def __call__(self, wire):
        other = self.keep(exchange(self.resolver, self.query))
        end = question_end(other)
        records = other[end:]
        if self.rename:
            whole = assembled(other, *plain_sections(other))
            old, new = (from_text(it) for it in self.rename)
            records = whole[question_end(whole) :].replace(old, new)
        rcode = other[3] if self.rcode is None else other[3] & 0xF0 | self.rcode
        question = wire[12 : question_end(wire)]
        if not self.rename and end != question_end(wire):
            whole = assembled(other, *plain_sections(other))
            records, other = whole[question_end(whole) :], whole
        elif self.rename:
            other = whole
        head = wire[:2] + other[2:3] + bytes((rcode,)) + other[4:12]
        return head + question + records
