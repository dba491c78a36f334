"""Match names and write records; imported only for directives with patterns or templates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from corepy.dns.presentation import Record, RecordError, read_record
from corepy.plugin import DEPENDS_ON_CLIENT
from corepy_template.data import Data
from corepy_template.metrics import RR_FAILURES, TEMPLATE_FAILURES
from corepy_template.rule import Expressions, TemplateRule, WriteError
from corepy_template.values import TemplateError

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy_template.rendering import Template

EVERYTHING: Final = ".*"
DEFAULT_TTL: Final = 3600
"""TTL in seconds of a record without one (miekg/dns: defaultTtl)."""

_REMEMBERED: Final = 1024
_SHOWN: Final = 200


@lru_cache(maxsize=_REMEMBERED)
def record_of(text: str) -> Record:
    """Return the first record of a text, with absolute names only; raises RecordError."""
    return read_record(text, DEFAULT_TTL)


class Writer:
    """Matches names and writes records for one rule."""

    def __init__(self, rule: TemplateRule) -> None:
        self._rule = rule

    def match(self, request: Request, zone: str) -> Data | None:
        """Return the data for the templates, None if no pattern matches the name."""
        names = self._rule.names_of(request)
        if not self._rule.patterns:
            return Data(request, zone, names, EVERYTHING, (request.name,), {})
        for pattern in self._rule.patterns:
            found = pattern.find(request.name)
            if found is not None:
                return Data(request, zone, names, pattern.text, found, pattern.named_groups)
        return None

    def records(self, section: str, templates: Sequence[Template], data: Data) -> Iterator[Record]:
        """Yield the records of a section; counts failures and raises them as WriteError."""
        for template in templates:
            failures = TEMPLATE_FAILURES
            try:
                text = template.render(data)
                failures = RR_FAILURES
                yield record_of(text)
            except (TemplateError, RecordError) as error:
                context = data.request.context
                labels = (context.server, data.zone, context.view, data.class_, data.type)
                failures.labels(*labels, section, template.source).inc()
                source = template.source[:_SHOWN]
                raise WriteError(f"{template.location}: {section} {source!r}: {error}") from None


class ConditionalWriter(Writer):
    """The writer of a rule with variables or conditions."""

    def __init__(self, rule: TemplateRule, expressions: Expressions) -> None:
        super().__init__(rule)
        self._expressions = expressions

    def match(self, request: Request, zone: str) -> Data | None:
        """Return the data with the variables, None if a condition is not true.

        As in CoreDNS, they apply to the first pattern that matches. Raises WriteError if an
        expression has no value.
        """
        data = super().match(request, zone)
        if data is None:
            return None
        if not self._expressions.is_about_question:
            request.metadata[DEPENDS_ON_CLIENT] = True  # *cache* knows only the question
        return data if self._expressions.accept(data) else None
