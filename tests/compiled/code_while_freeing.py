"""Runs code while compiled code frees an object, and prints what the code finds.

The `__del__` of an object that the freed one refers to uses the objects of the compiled classes.
"""

import asyncio
import logging
import sys
from typing import Any

from corepy.dns import wire
from corepy.net.stream_transport import StreamTransport, close_poller, poller

QUESTION = b"\1a\0\0\1\0\1"
RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\1\2\3\4"
REPLY = b"\0\0\x80\0\0\1\0\2\0\0\0\0" + QUESTION + 2 * RECORD


class AtEnd:
    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()


class Protocol:
    """A protocol with an object of which the last reference is its own."""

    def __init__(self, call):
        self.at_end = AtEnd(call)

    def connection_made(self, transport):
        transport.pause_reading()


class Data(bytes):
    """Data that can have attributes."""


async def replaced(replace):
    """Print the protocol that a transport has while the one before is freed."""
    found = []
    transport = StreamTransport(poller(), 0, None, None, logging.getLogger())
    transport._is_lost = True  # it uses neither the poller nor the descriptor
    transport._protocol = Protocol(lambda: found.append(transport._protocol))
    new = Protocol(int)
    replace(transport, new)
    close_poller()
    print(found == [new])


def reused():
    """Print the records of a walk that begins while another is freed."""
    begun: list[Any] = []

    def begin():
        begun.append(wire.walk(REPLY))
        begun.append(next(begun[0]))

    data = Data(REPLY)
    data.at_end = AtEnd(begin)
    walk = wire.walk(data)
    next(walk)
    del data, walk
    print([*begun[1:], *begun[0]] == [*wire.walk(REPLY)])


if sys.argv[1] == "setter":
    asyncio.run(replaced(lambda transport, new: setattr(transport, "_protocol", new)))
elif sys.argv[1] == "assignment":
    asyncio.run(replaced(StreamTransport.start))
else:
    reused()
