"""One query while rules change it, and the steps that they leave for its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from corepy.dns import FormError
from corepy.dns import constants as c
from corepy.dns.edns import OPT_SIZE, option, parse_options
from corepy.dns.names import to_text

if TYPE_CHECKING:
    from corepy.dns import Request

_TYPE_AND_CLASS: Final = 4  # bytes


class UnusableError(Exception):
    """A rule has made something that is not valid DNS; the client gets SERVFAIL.

    The message is for the log.
    """


class Step(Protocol):
    """A change to the reply of a query, which a rule has made."""

    def apply(self, answer: Any) -> None:
        """Change the reply, an `Answer`.

        Raises UnusableError, and FormError if the reply is malformed.
        """


class Exchange:
    """A query with the changes that rules have made, and the steps for its reply.

    The steps are in the order of the rules, and are applied in reverse.
    """

    __slots__ = (
        "_name",
        "changed_codes",
        "follows_aliases",
        "name_wire",
        "options",
        "qclass",
        "qtype",
        "request",
        "steps",
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        """The query of the client."""
        self.name_wire = request.name_wire
        self.qtype = request.qtype
        self.qclass = request.qclass
        self.steps: list[Step] = []
        self.options: list[tuple[int, bytes]] | None = None
        """The EDNS options, if a rule has changed them."""
        self.changed_codes: set[int] = set()
        """The codes of the options that rules have set or removed."""
        self.follows_aliases = False
        """Whether a step replaces the targets of aliases."""
        self._name: str | None = None

    @property
    def name(self) -> str:
        """The name in presentation form and lower case, with the trailing dot."""
        if self._name is None:
            if self.name_wire is self.request.name_wire:
                self._name = self.request.name
            else:
                self._name = to_text(self.name_wire)
        return self._name

    @property
    def qname(self) -> str:
        """The name in presentation form; that of the client is in its case."""
        is_own = self.name_wire is self.request.name_wire
        return self.request.qname if is_own else self.name

    def rename(self, name_wire: bytes, text: str | None = None) -> None:
        """Change the name; `text` is its presentation form, if known."""
        self.name_wire = name_wire
        self._name = text

    @property
    def client_options(self) -> list[tuple[int, bytes]]:
        """The EDNS options of the client."""
        edns = self.request.edns
        return parse_options(edns.options) if edns is not None and edns.options else []

    @property
    def current_options(self) -> list[tuple[int, bytes]]:
        """The EDNS options, as a new list."""
        return self.client_options if self.options is None else list(self.options)

    def option(self, code: int) -> bytes | None:
        """Return the data of the first option with a code, or None."""
        options = self.client_options if self.options is None else self.options
        return next((data for other, data in options if other == code), None)

    @property
    def question(self) -> tuple[bytes, int, int]:
        """Name, type and class."""
        return self.name_wire, self.qtype, self.qclass

    def asked(self) -> Request:
        """Return the query for the next handler: that of the client, if no rule has changed it.

        Raises UnusableError if the options are not valid or too long.
        """
        request = self.request
        has_name = self.name_wire != request.name_wire
        if not has_name and self.options is None and self.question == question_of(request):
            return request
        options = None
        if self.options is not None:
            options = b"".join(option(code, data) for code, data in self.options)
        if self._size_with(options) > c.MAX_SIZE:
            raise UnusableError(f"query after rewrite longer than {c.MAX_SIZE} bytes")
        try:
            return request.derive(
                name_wire=self.name_wire if has_name else None,
                qtype=self.qtype,
                qclass=self.qclass,
                options=options,
            )
        except FormError as error:
            raise UnusableError(f"invalid query after rewrite: {error}") from None

    def _size_with(self, options: bytes | None) -> int:
        """Return the size of the changed query; None are the options of the client."""
        edns = self.request.edns
        if options is None:
            options = b"" if edns is None else edns.options
        return c.HEADER_SIZE + len(self.name_wire) + _TYPE_AND_CLASS + OPT_SIZE + len(options)


def question_of(request: Request) -> tuple[bytes, int, int]:
    """Return name, type and class of a query."""
    return request.name_wire, request.qtype, request.qclass
