"""Frame Streams, the protocol between a sender and a collector of dnstap (fstrm).

A data frame is a payload after its length in four bytes. A length of 0 escapes a control frame:
another length, the type, and fields. The handshake of a stream in both directions, from the sender:

    READY (content types) ->    <- ACCEPT (content types)    START (content type) ->    data ...
    STOP ->    <- FINISH
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT_TYPE: Final = b"protobuf:dnstap.Dnstap"

ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5

LONGEST: Final = 512
"""Maximum bytes of a control frame (fstrm/control.h)."""

_FIELD_CONTENT_TYPE: Final = 1
_HEAD: Final = Struct("!II")
_FIELD: Final = Struct("!II")
_WORD: Final = Struct("!I")


class FrameError(ValueError):
    """The other end does not follow the protocol."""


def control(kind: int, *content_types: bytes) -> bytes:
    """Return a control frame."""
    fields = [_FIELD.pack(_FIELD_CONTENT_TYPE, len(each)) + each for each in content_types]
    body = b"".join((_WORD.pack(kind), *fields))
    return _HEAD.pack(0, len(body)) + body


class ControlReader:
    """Splits the bytes that a collector sends into control frames, all that it may send."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, list[bytes]]]:
        """Yield type and content types of the frames that `data` completes; raise FrameError."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _HEAD.size:
            escape, length = _HEAD.unpack_from(buffer)
            if escape:
                raise FrameError("it sent data in place of a control frame")
            if not _WORD.size <= length <= LONGEST:
                raise FrameError(f"it sent a control frame of {length} bytes")
            end = _HEAD.size + length
            if len(buffer) < end:
                return
            frame = bytes(buffer[_HEAD.size : end])
            del buffer[:end]
            yield _WORD.unpack_from(frame)[0], list(_content_types(frame[_WORD.size :]))


def _content_types(fields: bytes) -> Iterator[bytes]:
    while fields:
        if len(fields) < _FIELD.size:
            raise FrameError("a field of its control frame is cut off")
        kind, length = _FIELD.unpack_from(fields)
        content, fields = fields[_FIELD.size :][:length], fields[_FIELD.size + length :]
        if len(content) < length:
            raise FrameError("a field of its control frame is cut off")
        if kind != _FIELD_CONTENT_TYPE:
            raise FrameError(f"its control frame has a field of the unknown type {kind}")
        yield content
