"""The distribution of latencies: a histogram whose buckets grow by the square root of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS: Final = tuple(1e-5 * 2 ** (n / 2) for n in range(41))
"""Upper bounds of the buckets in seconds, from 10 us to 10.5 s; another bucket has the rest."""

BUCKETS: Final = len(BOUNDS) + 1


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Return the latency in seconds that `share` of the replies do not exceed; None without any.

    `counts` has a number for each bucket. Within a bucket the replies are taken as evenly
    distributed; in the last one, which has no upper bound, the lower bound is returned.
    """
    total = sum(counts)
    if not total:
        return None
    wanted = share * total
    for index, count in enumerate(counts[: len(BOUNDS)]):
        if count and wanted <= count:
            low = BOUNDS[index - 1] if index else 0.0
            return low + (BOUNDS[index] - low) * max(wanted, 0.0) / count
        wanted -= count
    return BOUNDS[-1]
