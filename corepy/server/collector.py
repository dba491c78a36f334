"""The garbage collector, kept out of the way of queries."""

from __future__ import annotations

import gc

GC_THRESHOLDS = (4_000, 100, 1_000)


def set_modules_apart() -> None:
    """Keep garbage collections out of the way of queries.

    What is alive when all is imported stays for good, so it is never looked at again; generations
    come later, and can be freed. Replies in a cache hold no cycles: collecting the oldest objects
    over and over would find nothing and cost a pause that grows with the cache.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
