"""Selects the EDNS options of an upstream's reply that are passed on to the client.

Cookies, keepalive, padding and the server identifier are hop-by-hop (RFC 7873, RFC 7828, RFC 7830,
RFC 5001 section 2.1). Of the other options, a client gets those whose code was in its query, and
extended errors (RFC 8914), which need no request. Other options may describe the upstream, such as
a reporting channel (RFC 9567).
"""

from __future__ import annotations

from corepy.dns.edns import HOP_BY_HOP, OPTION_EDE, option, parse_options
from corepy.dns.form_error import FormError


def end_to_end(options: bytes, asked: bytes) -> bytes:
    """Return the options of a reply for a client whose query had the options `asked`.

    The result is empty if the options are malformed.
    """
    try:
        wanted = {OPTION_EDE, *(code for code, _ in parse_options(asked))} - HOP_BY_HOP
        kept = [option(code, data) for code, data in parse_options(options) if code in wanted]
    except FormError:
        return b""
    return b"".join(kept)
