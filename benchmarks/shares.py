"""Counts which process of a server with several (*multisocket*) answers the queries of a client."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Final

import dnslib

WHO: Final = """\
import os
from corepy.dns.records import rr
from corepy.plugin import Cacheability, Handler

api_version = 1

class Who(Handler):
    name, cacheability = "who", Cacheability.SAFE

    async def serve_dns(self, request):
        pid = os.getpid().to_bytes(4, "big")
        return request.reply(answer=[rr(request.question[:-4], 1, 0, pid, 1)])

def setup(controller):
    for _ in controller.single():
        controller.arguments(0, 0)
        controller.add_handler(Who())
"""
"""A plugin that answers with the ID of the process as an address."""

EACH: Final = 100
"""Number of queries from each port."""

TIMEOUT: Final = 5.0


def shares(address: tuple[str, int], ports: int, processes: int) -> list[float]:
    """Send queries from so many ports to a server with `WHO`.

    Return the number of queries that each process answered, divided by the mean of all `processes`.
    """
    wire = bytes(dnslib.DNSRecord.question("example.org.").pack())
    found: Counter[bytes] = Counter()
    for _ in range(ports):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(TIMEOUT)
            client.connect(address)
            for _ in range(EACH):
                client.send(wire)
                found[client.recv(512)[-4:]] += 1
    mean = ports * EACH / processes
    return [count / mean for count in found.values()] + [0.0] * (processes - len(found))
