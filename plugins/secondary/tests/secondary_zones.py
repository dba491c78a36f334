"""Zones and primary servers for the tests of *secondary*."""

import contextlib
import socket
import struct
import threading

from corepy.dns import Request
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.dns.series import messages_of
from corepy.zone import ZoneBuilder


def soa_rdata(zone, serial, *timers):
    """The rdata of a SOA record; the timers are refresh, retry, expire and minimum in seconds."""
    names = from_text(f"ns.{zone}") + from_text(f"admin.{zone}")
    numbers = (serial, *(timers or (3600, 600, 86400, 60)))
    return names + b"".join(it.to_bytes(4, "big") for it in numbers)


def soa_record(zone, serial, *timers):
    """A SOA record."""
    return rr(from_text(zone), c.TYPE_SOA, 60, soa_rdata(zone, serial, *timers))


def a_record(name, number, ttl=60):
    """An A record."""
    return rr(from_text(name), c.TYPE_A, ttl, number.to_bytes(4, "big"))


def build_zone(zone, serial, *, hosts=0, timers=(), records=()):
    """A zone with A records of hosts, which are numbers or how many there are."""
    origin = from_text(zone)
    builder = ZoneBuilder(origin)
    builder.add(origin, 60, c.TYPE_SOA, soa_rdata(zone, serial, *timers))
    builder.add(origin, 60, c.TYPE_NS, from_text(f"ns.{zone}"))
    for number in range(hosts) if isinstance(hosts, int) else hosts:
        builder.add(from_text(f"h{number}.{zone}"), 60, c.TYPE_A, number.to_bytes(4, "big"))
    for owner, rtype, rdata in records:
        builder.add(from_text(owner), 60, rtype, rdata)
    return builder.build()


class Primary:
    """A primary server: answers SOA and transfer queries from `zones`, or as a test wants.

    `answer(request, is_tcp)` returns the messages of the reply, or None for the usual ones.
    """

    def __init__(self, zones=(), answer=None):
        self.zones = {zone.origin: zone for zone in zones}
        self.answer = answer or (lambda request, is_tcp: None)
        self.asked = []
        self.changed = threading.Condition()
        self._closing = False
        while True:
            self._tcp = socket.create_server(("127.0.0.1", 0))
            self.port = self._tcp.getsockname()[1]
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with contextlib.suppress(OSError):
                self._udp.bind(("127.0.0.1", self.port))
                break
            self._tcp.close()
            self._udp.close()
        self.address = f"127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=it) for it in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def put(self, zone):
        """Serve another version of a zone."""
        self.zones[zone.origin] = zone

    def count(self, qtype):
        """How often a type was asked for."""
        return [it for it, _ in self.asked].count(qtype)

    def close(self):
        self._closing = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _messages(self, wire, is_tcp):
        request = Request.from_wire(wire)
        self.asked.append((request.type, is_tcp))
        messages = self.answer(request, is_tcp)
        return usual_messages(request, self.zones) if messages is None else messages

    def _serve_udp(self):
        while not self._closing:
            wire, peer = self._udp.recvfrom(4096)
            if wire:
                for message in self._messages(wire, is_tcp=False):
                    self._udp.sendto(message, peer)

    def _serve_tcp(self):
        while True:
            sock, _ = self._tcp.accept()
            if self._closing:
                sock.close()
                return
            with sock, contextlib.suppress(OSError, struct.error):
                length = struct.unpack("!H", sock.recv(2))[0]
                for message in self._messages(sock.recv(length), is_tcp=True):
                    if self._closing:
                        break
                    sock.sendall(struct.pack("!H", len(message)) + message)


def usual_messages(request, zones):
    """The reply of an honest server, without IXFR."""
    zone = zones.get(request.name_wire)
    if zone is None:
        return [request.error(c.REFUSED).wire]
    if request.qtype == c.TYPE_SOA:
        return [request.reply(answer=[zone.soa_record], authoritative=True).wire]
    if request.qtype in (c.TYPE_AXFR, c.TYPE_IXFR):
        return [it.wire for it in messages_of(request, [*zone.wires(), zone.soa_record])]
    return [request.error(c.NOTIMP).wire]


@contextlib.contextmanager
def primary(*zones, answer=None):
    """Run a `Primary` until the `with` block ends."""
    server = Primary(zones, answer)
    try:
        yield server
    finally:
        server.close()
