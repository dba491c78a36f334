"""A handler with a zone that changes, for the tests of *transfer*."""

from corepy.dns.constants import CLASS_IN, TYPE_A, TYPE_NS, TYPE_SOA
from corepy.dns.names import from_text
from corepy.dns.presentation import Record
from corepy.dns.records import rr
from corepy.zone import ServedZone, ZoneBuilder, ZoneHandler


def soa_rdata(zone, serial):
    """The rdata of the SOA record of a zone."""
    names = from_text(f"ns.{zone}") + from_text(f"admin.{zone}")
    return names + b"".join(it.to_bytes(4, "big") for it in (serial, 3600, 600, 86400, 60))


def soa_record(zone, serial):
    """The SOA record of a zone."""
    return rr(from_text(zone), TYPE_SOA, 60, soa_rdata(zone, serial))


def a_record(name, number, ttl=60):
    """An A record."""
    return Record(from_text(name), ttl, CLASS_IN, TYPE_A, number.to_bytes(4, "big"))


def wire(record):
    """A record in wire form."""
    return rr(record.owner, record.rtype, record.ttl, record.rdata)


class Zones(ZoneHandler):
    """Serves one zone with NS and A records; its version is a serial."""

    name = "zones"
    inputs = b""

    def __init__(self, zone="example.org.", size=3):
        super().__init__()
        self.zone = zone
        builder = ZoneBuilder(from_text(zone))
        builder.add(from_text(zone), 60, TYPE_SOA, soa_rdata(zone, 1))
        builder.add(from_text(zone), 60, TYPE_NS, from_text(f"ns.{zone}"))
        builder.add_all([a_record(f"ns.{zone}", 1)])
        self.hosts = [a_record(f"h{number}.{zone}", number) for number in range(size)]
        builder.add_all(self.hosts)
        self.served = ServedZone(from_text(zone), builder.build())
        self.zones.add(self.served)
        self.asked = []
        self.whole_transfers = 0

    @property
    def whole(self):
        """The records of a whole transfer."""
        zone = self.served.current
        return [*zone.wires(), zone.soa_record]

    def transfer_zone(self, zone, serial):
        self.asked.append((zone, serial))
        if serial is None or serial < self.served.current.serial:
            self.whole_transfers += 1
        return super().transfer_zone(zone, serial)

    def change(self, removed=(), added=(), serial=None):
        """Serve the next version."""
        current = self.served.current
        builder = ZoneBuilder(current.origin, current)
        origin, serial = current.origin, current.serial + 1 if serial is None else serial
        assert builder.remove(origin, TYPE_SOA, soa_rdata(self.zone, current.serial))
        builder.add(origin, 60, TYPE_SOA, soa_rdata(self.zone, serial))
        for record in removed:
            assert builder.remove(record.owner, record.rtype, record.rdata)
        builder.add_all(added)
        self.served.replace(builder.build())


class Foreign:
    """A source of transfers without a `ZoneSource`, as third parties have."""

    def __init__(self, zone, portions, is_async=False):
        self.zone = from_text(zone)
        self.portions = portions
        self.is_async = is_async
        self.asked = []

    def transfer_zone(self, zone, serial):
        self.asked.append((zone, serial))
        if zone != self.zone:
            return None
        return self._later() if self.is_async else iter(self.portions)

    async def _later(self):
        for portion in self.portions:
            yield portion
