"""EDNS options of an upstream's reply: which of them the client may get.

Cookies, keepalive, padding and the server's identifier belong to one hop (RFC 7873, RFC 7828, RFC
7830, RFC 5001 section 2.1). Of the others a client gets those it sent itself, and extended errors
(RFC 8914), which need not be asked for. What it did not ask for may be about the upstream as well,
such as a reporting channel (RFC 9567).
"""

from __future__ import annotations

from corepy.dns.edns import HOP_BY_HOP, OPTION_EDE, option, parse_options
from corepy.dns.errors import FormError


def end_to_end(options: bytes, asked: bytes) -> bytes:
    """Return the options of a reply that concern the client, which sent the options `asked`.

    Options that cannot be read are left out.
    """
    try:
        wanted = {OPTION_EDE, *(code for code, _ in parse_options(asked))} - HOP_BY_HOP
        kept = [option(code, data) for code, data in parse_options(options) if code in wanted]
    except FormError:
        return b""
    return b"".join(kept)
