"""`TLSStream`: the server side of TLS between a transport and a protocol of asyncio.

asyncio's own implementation keeps a buffer of 256 KiB for each connection. This one keeps none, and
OpenSSL releases its buffers while a connection is idle.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_RECORD: Final = 16 * 1024
"""Maximum bytes of data in a TLS record (RFC 8446 section 5.1)."""

LARGEST_HANDSHAKE: Final = 32 * 1024
"""Bytes that a client may send before its handshake is complete, with a chain of certificates.

OpenSSL's own limit is 128 KiB for the first message, for which it allocates memory.
"""

_CHUNK: Final = 8 * 1024
"""Bytes that are encrypted at a time: the memory for the result stays allocated."""

_PIECE: Final = 4 * 1024
"""Bytes that OpenSSL gets at a time: it processes all messages of TLS itself in them at once."""

_MOST_ANSWERS: Final = 1024
"""Bytes that OpenSSL may send for a piece: 37 answers to requests for new keys.

A client needs few, and each costs 20 us: more of them would take the time of other clients.
"""

_MOST_DELAYED: Final = 8 * 1024
"""Bytes of TLS's own messages, such as session tickets, that wait for the first reply."""

_EMPTY: Final = ssl.MemoryBIO()
_ENDED: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(_EMPTY, _EMPTY, server_side=True)
"""They take the place of the objects of a connection that has ended; nothing uses them."""


class SecuredProtocol(Protocol):
    """The protocol above a `TLSStream`: one of asyncio, and a method for the handshake.

    `connection_made` is called before the handshake, so that its time limits include it.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""

    def secured(self, tls: ssl.SSLObject) -> None:
        """Continue after the handshake; the protocol may write from now on."""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""

    def eof_received(self) -> bool | None:
        """See `asyncio.Protocol`; also called after a closure alert (close_notify)."""

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""


class TLSStream:
    """The protocol of a transport below, and the transport of a protocol above.

    It has the methods of `asyncio.Protocol` and those of `asyncio.Transport` that protocols of this
    project call.
    """

    __slots__ = (
        "_failed",
        "_has_ended",
        "_has_sent",
        "_incoming",
        "_is_closing",
        "_is_cut_off",
        "_is_secured",
        "_lower",
        "_outgoing",
        "_tls",
        "_to_secure",
        "_upper",
    )

    def __init__(
        self,
        upper: SecuredProtocol,
        context: ssl.SSLContext,
        failed: Callable[[object, Exception], None],
    ) -> None:
        """`failed` is called with the client's address and the reason of a failed handshake."""
        self._lower: asyncio.Transport
        self._upper = upper
        self._failed = failed
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_secured = self._is_closing = False
        self._to_secure = LARGEST_HANDSHAKE  # bytes that are left
        self._has_sent = False  # data of the protocol above
        self._has_ended = self._is_cut_off = False  # the input, with an alert or without one

    # The protocol for the transport below.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the client's first message."""
        self._lower = cast("asyncio.Transport", transport)
        self._upper.connection_made(cast("asyncio.Transport", self))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the protocol above, and free the memory of OpenSSL.

        The protocol and the stream refer to each other, so the garbage collector would free it at
        some later time.
        """
        self._is_closing = True
        self._upper.connection_lost(exc)
        self._tls = _ENDED
        self._incoming = self._outgoing = _EMPTY

    def data_received(self, data: bytes) -> None:
        """Continue the handshake, or pass on the data that was received.

        OpenSSL reads nothing after the end of the input, so it would be kept.
        """
        if self._has_ended:
            return
        parts: list[bytes] = []
        if len(data) <= _PIECE:
            self._take(data, parts)
        else:
            for start in range(0, len(data), _PIECE):
                self._take(data[start : start + _PIECE], parts)
        if self._is_secured and not self._is_closing:
            self._pass_on(parts)

    def eof_received(self) -> bool:
        """End the input of the protocol above; TCP's end counts like that of TLS.

        A message that an attacker cuts off this way is incomplete, because DNS messages are framed.
        """
        self._is_cut_off = not self._has_ended
        return self._is_secured and self._end()

    def pause_writing(self) -> None:
        """Pass on that the client does not read."""
        self._upper.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client reads again."""
        self._upper.resume_writing()

    def _shake_hands(self, size: int) -> bool:
        """Continue the handshake with `size` bytes; return whether it is complete."""
        self._to_secure -= size
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            if self._to_secure < 0:
                self._fail(ValueError("the messages are too large"))
            return False
        except (ssl.SSLError, OSError, ValueError) as error:
            self._send()  # the alert
            self._fail(error)
            return False
        self._is_secured = True
        if self._tls.version() != "TLSv1.3":
            self._send()
        # Otherwise only session tickets are left to be sent, and go with the first reply.
        self._upper.secured(self._tls)
        return True

    def _fail(self, error: Exception) -> None:
        self._failed(self._lower.get_extra_info("peername"), error)
        self._is_closing = True
        self._lower.close()

    def _take(self, piece: bytes, parts: list[bytes]) -> None:
        """Continue the handshake, or add decrypted data to `parts`."""
        if self._is_closing:
            return
        self._incoming.write(piece)
        # A read without data would cost as much as the exception that it raises.
        if not self._is_secured and not (self._shake_hands(len(piece)) and self._incoming.pending):
            return
        before = self._outgoing.pending
        while not (self._is_closing or self._has_ended):
            try:
                part = self._tls.read(_RECORD)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLError, OSError, ValueError):
                self._send()  # the alert
                self.abort()
                return
            if not part:
                self._has_ended = True
                break
            parts.append(part)
            if not self._incoming.pending and not self._tls.pending():
                break
        if self._outgoing.pending - before > _MOST_ANSWERS:
            self.abort()

    def _pass_on(self, parts: list[bytes]) -> None:
        """Pass on decrypted data, and send the answers to messages of TLS itself."""
        if parts:
            self._upper.data_received(parts[0] if len(parts) == 1 else b"".join(parts))
        # Without data, too: a client may ask for new keys any number of times.
        if self._outgoing.pending > (0 if self._has_sent else _MOST_DELAYED):
            self._send()
        if self._has_ended and not self._is_closing and not self._end():
            self.close()

    def _end(self) -> bool:
        """End the input of the protocol above; return whether it keeps the connection open."""
        return bool(self._upper.eof_received()) and not self._is_closing

    def _send(self) -> None:
        data = self._outgoing.read()
        if data:
            self._lower.write(data)

    # The transport for the protocol above.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return "ssl_object", or information about the transport below."""
        return self._tls if name == "ssl_object" else self._lower.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send `data`, after the handshake."""
        if self._is_closing or not data:
            return
        try:
            if len(data) <= _CHUNK:
                self._tls.write(data)
                encrypted = self._outgoing.read()
            else:
                encrypted = self._encrypt_in_chunks(data)
        except (ssl.SSLError, OSError, ValueError):
            self.abort()
            return
        self._has_sent = True
        self._lower.write(encrypted)

    def _encrypt_in_chunks(self, data: bytes | bytearray | memoryview) -> bytes:
        view, parts = memoryview(data), []
        for start in range(0, len(view), _CHUNK):
            self._tls.write(view[start : start + _CHUNK])
            parts.append(self._outgoing.read())
        return b"".join(parts)

    def pause_reading(self) -> None:
        """Do not call `data_received` until `resume_reading`."""
        if not self._is_closing:
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        """Call `data_received` again."""
        if not self._is_closing:
            self._lower.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of the transport below, which apply to encrypted data."""
        self._lower.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the number of encrypted bytes that the client's system has not accepted."""
        return self._lower.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Return whether nothing more can be sent."""
        return self._is_closing or self._lower.is_closing()

    def close(self) -> None:
        """Close after all written data is sent, with a closure alert.

        A client that has closed its side without one gets none: it has closed both sides.
        """
        if self._is_closing:
            return
        self._is_closing = True
        if self._is_secured and not self._is_cut_off:
            try:
                self._tls.unwrap()
            except (ssl.SSLError, OSError, ValueError):
                pass  # the client's alert is not awaited
            self._send()
        self._lower.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        self._lower.abort()
