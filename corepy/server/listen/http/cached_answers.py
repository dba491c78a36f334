"""Looks up replies in the packet cache for connections that carry HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corepy.server.listen.packet_cache import CachedReply
    from corepy.server.listen.pipeline import QueryPipeline


def find_cached(
    pipeline: QueryPipeline, message: bytes, client: object, now: float
) -> CachedReply | None:
    """Return the cached reply to `message`, None without one; counts the hit and reports it."""
    key = message[2:]
    entry = pipeline.packets.find(key, now)
    if entry is None:
        return None
    if entry.hit_listeners:
        entry.show(message[:2], client, now)
    sampler = pipeline.traffic.repeated
    sampler.left = left = sampler.left - 1
    if left <= 0:
        pipeline.traffic.look_at_hit(pipeline.unrouted, key, client, entry, now)
    return entry
