"""A plugin for tests: `signed NAME SECRET...` answers only queries that are signed with a key.

`tests/test_identity.py` installs a copy of this file as a distribution of its own.
"""

import base64

from corepy.dns.constants import NOTAUTH, REFUSED
from corepy.dns.names import from_text, lower
from corepy.dns.tsig import TSIG
from corepy.plugin import Cacheability, FastHandler, TSIGKeys

api_version = 1
before = ("cache",)

SEEN: list[tuple[TSIG | None, int]] = []
"""The identity and the length of the message of each query."""


class Signed(FastHandler):
    name = "signed"
    cacheability = Cacheability.SAFE  # the packet cache has no reply to a signed query

    def begin_dns(self, request):
        tsig = request.identity.tsig
        SEEN.append((tsig, len(request.wire)))
        if tsig is None:
            return request.error(REFUSED)
        if not tsig.is_valid:
            return request.error(NOTAUTH)
        return self.next.begin_dns(request)


def setup(controller):
    secrets, tokens = {}, {}
    for _ in controller.single():
        words = controller.arguments(2)
        for name, secret in zip(words[::2], words[1::2], strict=True):
            wire = lower(from_text(name.text))
            secrets[wire], tokens[wire] = base64.b64decode(secret.text), name
    controller.configure(TSIGKeys(secrets, tokens))
    controller.add_handler(Signed())
