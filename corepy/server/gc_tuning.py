"""Tunes the garbage collector, so that its pauses do not delay queries."""

from __future__ import annotations

import gc

GC_THRESHOLDS = (4_000, 100, 1_000)


def freeze_modules() -> None:
    """Exempt all objects alive after the imports from garbage collection.

    These objects live as long as the process, so scanning them is of no use. Generations are
    created later and can be freed. Cached replies contain no reference cycles: full collections
    would find nothing, and their pause would grow with the cache, so the thresholds make them rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
