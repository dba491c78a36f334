"""The state of a cache for `corepy explain`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.edns import forwarded_options
from corepy.dns.form_error import FormError
from corepy.dns.names import is_subdomain
from corepy.dns.response import Kind
from corepy_cache.cache_store import key_of
from corepy_cache.classify import NEVER, classify, matches

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy_cache.classify import Classification
    from corepy_cache.handler import Cache
    from corepy_cache.settings import Settings

_ANSWERS: Final = (c.NOERROR, c.NXDOMAIN)


def explain_state(cache: Cache, request: Request, reply: Reply | None) -> dict[str, str | int]:
    """Return the state of the entry for `request`, or the reason why `reply` is not cached."""
    if not cache.covers(request):
        return {"state": "not its names"}
    if request.edns is not None and forwarded_options(request.edns.options):
        return {"state": "asked apart, for the sake of the client's EDNS options"}
    entry = cache.store.peek(key_of(request), now := cache.store.clock())
    if entry is None:
        known: dict[str, str | int] = {"state": "miss"}
        return known if reply is None else {**known, "not kept": why_not(cache, request, reply)}
    left = entry.left(now)
    if left > 0:
        known = {"state": "fresh", "seconds left": left, "ttl": entry.ttl}
    else:
        mode = "verify" if cache.settings.stale.verify else "immediate"
        known = {"state": "stale", "seconds over": -left, "serve_stale": mode}
    kind = "denial" if entry.denial else "success"
    return {**known, "kept as": kind if entry.rcode in _ANSWERS else "failure"}


def why_not(cache: Cache, request: Request, reply: Reply) -> str:
    """Return why a reply is not cached; see `CacheStore.keep`."""
    if not matches(reply, request):
        return "it answers another question"
    try:
        classification = classify(reply, request, time.time() if request.do else None)
    except FormError:
        return "it cannot be read"
    if reply.tc:
        return "it is truncated"
    if classification.kind in NEVER:
        return f"{c.rcode_name(reply.rcode)} is no answer to be kept ({classification.kind.value})"
    if not classification.keep:
        if classification.kind is Kind.NAME_ERROR:
            return "no SOA record says for how long the name is missing"
        return "its aliases do not lead to what was asked for"
    return _by_settings(cache.settings, request, classification)


def _by_settings(settings: Settings, request: Request, classification: Classification) -> str:
    bounds = (
        settings.denial if classification.denial or classification.failure else settings.success
    )
    if any(is_subdomain(request.name_wire, zone) for zone in bounds.except_zones):
        return "keeping it is disabled for this name"
    if classification.failure and not settings.servfail:
        return "failures are not kept (servfail 0)"
    return "its TTL is 0"
