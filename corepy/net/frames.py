"""Messages over a byte stream: two bytes of length, then the message (RFC 1035 section 4.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def frame(message: bytes) -> bytes:
    """Return `message`, at most 65535 bytes, with its length before it."""
    return len(message).to_bytes(2, "big") + message


class FrameReader:
    """Cuts a stream into messages, however the network has cut it into pieces.

    A stream that drips in byte by byte costs no more than one that comes at once.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages completed by `data`; those not taken are kept for the next call."""
        buffer, source = self._buffer, data
        # Mostly whole messages come, which need not go through the buffer.
        if is_buffered := bool(buffer):
            buffer += data
            source = buffer  # type: ignore[assignment]  # alike in what is done with it below
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
