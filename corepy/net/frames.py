"""DNS messages over a byte stream, each after its length in two bytes (RFC 1035 section 4.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def frame(message: bytes) -> bytes:
    """Return `message`, of at most 65535 bytes, after its length."""
    return len(message).to_bytes(2, "big") + message


class FrameReader:
    """Splits a stream into messages, regardless of the size of its segments.

    A stream that arrives byte by byte costs no more than one that arrives at once.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def keep(self, data: bytes) -> None:
        """Keep `data` for the next call of `feed`."""
        self._buffer += data

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that `data` completes; keep those not consumed for the next call."""
        buffer, source = self._buffer, data
        # Data usually consists of whole messages, which need no buffer.
        if is_buffered := bool(buffer):
            buffer += data
            source = buffer  # type: ignore[assignment]  # the code below treats both types alike
        start, size = 0, len(source)
        try:
            while size - start >= 2:
                end = start + 2 + (source[start] << 8 | source[start + 1])
                if end > size:
                    break
                message = source[start + 2 : end]
                start = end
                yield bytes(message) if is_buffered else message
        finally:
            if is_buffered:
                del buffer[:start]
            elif start < size:
                buffer += source[start:]
