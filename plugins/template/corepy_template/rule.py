"""The rule of one *template* directive: the queries that it matches, and its reply."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from corepy.dns import constants as c
from corepy.plugin import Cacheability, Fallthrough

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy.dns.presentation import Record
    from corepy.plugin import Controller, NamePattern, ZoneMatcher
    from corepy_template.data import Data
    from corepy_template.rendering import Template

_NAMES_OF_TYPES: Final = {number: name for name, number in c.TYPES.items()}
_NAMES_OF_CLASSES: Final = {number: name for name, number in c.CLASSES.items()}
PER_CLIENT: Final = frozenset(("Remote", "Meta", "*"))
"""The fields that may differ between two queries with the same bytes."""

_METADATA: Final = frozenset(("Meta", "*"))


class WriteError(Exception):
    """A record of a reply cannot be written; the message is for the log."""


class Expressions(Protocol):
    """The variables and conditions of one rule; see `expressions.RuleExpressions`."""

    depends: Cacheability
    is_about_question: bool
    reads_metadata: bool

    @property
    def names(self) -> Collection[str]:
        """The names of the variables."""

    def read_variable(self, controller: Controller) -> None:
        """Read `var NAME EXPRESSION`; raises `CorefileError`."""

    def read_condition(self, controller: Controller) -> None:
        """Read `expr EXPRESSION`; raises `CorefileError`."""

    def accept(self, data: Data) -> bool:
        """Set the variables, and return whether all conditions are true; raises WriteError."""

    def refusal(self, data: Data) -> str | None:
        """Set the variables, and return the location of the first condition that is not true.

        Raises WriteError.
        """


class RecordWriter(Protocol):
    """Matches names and writes records for one rule; see `writer.Writer`."""

    def match(self, request: Request, zone: str) -> Data | None:
        """Return the data for the templates, None if no pattern matches the name.

        Nor does a condition that is not true. Raises WriteError if it has no value.
        """

    def records(self, section: str, templates: Sequence[Template], data: Data) -> Iterable[Record]:
        """Return the records of a section; raises WriteError."""


@dataclass(slots=True)
class TemplateRule:
    """The options of one *template* directive, and its writer."""

    qclass: int
    qtype: int
    zones: ZoneMatcher
    location: str = ""
    """File, line and column of the directive."""

    patterns: list[NamePattern] = field(default_factory=list)
    answer: list[Template] = field(default_factory=list)
    additional: list[Template] = field(default_factory=list)
    authority: list[Template] = field(default_factory=list)
    rcode: int = c.NOERROR
    ede: tuple[int, str] | None = None
    expressions: Expressions | None = None
    """The variables and conditions; None if the directive has none."""

    fallthrough: Fallthrough = field(default_factory=Fallthrough)
    writer: RecordWriter | None = None
    """Matches names and writes records; None if the directive has no patterns and no templates."""

    @property
    def templates(self) -> list[Template]:
        """The templates of all sections."""
        return [*self.answer, *self.authority, *self.additional]

    @property
    def is_per_client(self) -> bool:
        """Whether two clients may get different replies to the same bytes."""
        return any(template.fields & PER_CLIENT for template in self.templates)

    @property
    def reads_metadata(self) -> bool:
        """Whether the reply depends on metadata, which depends on the directives above."""
        if self.expressions is not None and self.expressions.reads_metadata:
            return True
        return any(template.fields & _METADATA for template in self.templates)

    @property
    def cacheability(self) -> Cacheability:
        """What the reply depends on."""
        if self.is_per_client:
            return Cacheability.UNSAFE
        return Cacheability.SAFE if self.expressions is None else self.expressions.depends

    @property
    def own_names(self) -> tuple[str, str]:
        """The names of the type and class of the directive, "" for ANY, which differs by query."""
        return (
            "" if self.qtype == c.TYPE_ANY else _NAMES_OF_TYPES[self.qtype],
            "" if self.qclass == c.CLASS_ANY else _NAMES_OF_CLASSES[self.qclass],
        )

    def zone_for(self, request: Request) -> str | None:
        """Return the rule's zone for a query, or None if zone, class or type do not match."""
        qtype, qclass = request.qtype, request.qclass
        if qtype != self.qtype and self.qtype != c.TYPE_ANY and qtype != c.TYPE_ANY:
            return None
        if qclass != self.qclass and self.qclass != c.CLASS_ANY and qclass != c.CLASS_ANY:
            return None
        return self.zones.find(request.name_wire)

    def names_of(self, request: Request) -> tuple[str, str]:
        """Return type and class for templates and metrics, "" for those without a name.

        ANY in the query is replaced by the value of the directive.
        """
        qtype, qclass = request.qtype, request.qclass
        return (
            _NAMES_OF_TYPES.get(self.qtype if qtype == c.TYPE_ANY else qtype, ""),
            _NAMES_OF_CLASSES.get(self.qclass if qclass == c.CLASS_ANY else qclass, ""),
        )
