"""The handler that identifies the server in the class CH (CoreDNS: plugin/chaos/chaos.go)."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import CLASS_CH, TYPE_TXT
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.plugin import Cacheability, FastHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin.handler import Answer

LONGEST: Final = 255
"""Maximum bytes of a character string in a TXT record (RFC 1035 section 3.3)."""


class Chaos(FastHandler):
    """Answers TXT queries of the class CH for five names; other queries go to the next handler.

    The packet cache repeats the replies of other handlers only: the replies from here have no
    deadline, because the order of the authors is random.
    """

    name: ClassVar[str] = "chaos"
    cacheability = Cacheability.SAFE
    inputs = b""
    any_class: ClassVar[bool] = True

    def __init__(self, version: bytes, authors: Sequence[bytes]) -> None:
        """Return these texts, each of at most LONGEST bytes."""
        self.version = version
        self.authors = authors
        self._texts: dict[bytes, Callable[[], Sequence[bytes]]] = {
            from_text("version.bind."): lambda: (version,),
            from_text("version.server."): lambda: (version,),
            from_text("hostname.bind."): _host_name,
            from_text("id.server."): _host_name,
            from_text("authors.bind."): lambda: _shuffled(authors),
        }

    def begin_dns(self, request: Request) -> Answer:
        """Return the texts of the name that was asked for, or the next handler's answer."""
        if request.qclass == CLASS_CH and request.qtype == TYPE_TXT:
            texts = self._texts.get(request.name_wire)
            if texts is not None:
                return _reply(request, texts())
        return self.next.begin_dns(request)


def _reply(request: Request, texts: Sequence[bytes]) -> Reply:
    owner = request.question[:-4]
    return request.reply(
        answer=[rr(owner, TYPE_TXT, 0, bytes((len(text),)) + text, CLASS_CH) for text in texts]
    )


def _host_name() -> Sequence[bytes]:
    """Return the host name, which may change while the server runs."""
    try:
        name = socket.gethostname() or "localhost"
    except OSError:
        name = "localhost"
    return (name.encode("utf-8", "surrogateescape")[:LONGEST],)


def _shuffled(texts: Sequence[bytes]) -> Sequence[bytes]:
    return sorted(texts, key=lambda _: os.urandom(8))
