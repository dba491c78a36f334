"""A handler for tests of transports: some of its replies wait, are large, or are dropped."""

import asyncio

import dnslib

from corepy.plugin import Handler


class Told(Handler):
    """Answers at once, but "busy" names when the gate opens; drops "drop" names."""

    name = "told"

    def __init__(self, *large):
        """`large` are the records for "large" names, each a type and its data."""
        self._large = large
        self.gate = asyncio.Event()
        self.waiting = 0

    async def serve_dns(self, request):
        if request.name.startswith("drop"):
            return request.drop()
        if request.name.startswith("busy"):
            self.waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
        records = self._large if request.name.startswith("large") else ("A 192.0.2.1",)
        texts = [f"{request.name} 60 IN {record}" for record in records]
        return request.reply(answer=[dnslib.RR.fromZone(text)[0] for text in texts])
