"""`FairQueue`: a bounded queue that clients share."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from corepy.net.connection_limit import GREED

if TYPE_CHECKING:
    from collections.abc import Iterator

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items of clients, which are taken in turn from each client.

    A client that adds many items thus delays its own ones only, and it cannot fill the queue: it
    may add one while it has less than `GREED` times the free places (`connection_limit.Shares`).
    """

    __slots__ = ("_size", "_waiting", "most")

    def __init__(self, most: int) -> None:
        """Hold at most `most` items."""
        self.most = most
        self._waiting: dict[bytes, deque[Item]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, client: bytes, item: Item) -> bool:
        """Add the next item of a client; return False if there is no place for it."""
        queue = self._waiting.get(client)
        held = 0 if queue is None else len(queue)
        if held >= GREED * (self.most - self._size):
            return False
        if queue is None:
            self._waiting[client] = queue = deque()
        queue.append(item)
        self._size += 1
        return True

    def take(self, most: int) -> Iterator[Item]:
        """Remove and yield up to `most` items; those that the caller does not read stay."""
        for _ in range(most):
            if not self._waiting:
                return
            client = next(iter(self._waiting))
            queue = self._waiting.pop(client)
            item = queue.popleft()
            if queue:
                self._waiting[client] = queue
            self._size -= 1
            yield item

    def clear(self) -> None:
        """Remove all items."""
        self._waiting.clear()
        self._size = 0
