"""Matching names and writing records: what a directive without match and records never loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from corepy_template.data import Data
from corepy_template.metrics import RR_FAILURES, TEMPLATE_FAILURES
from corepy_template.rdata import RecordError
from corepy_template.rule import Rule, WriteError
from corepy_template.values import TemplateError
from corepy_template.zonefile import Record, read_record

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy_template.rendering import Template

EVERYTHING: Final = ".*"


class Writer:
    """Serves one rule."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def match(self, request: Request, zone: str) -> Data | None:
        """Return what the templates get to see, None if no pattern matches the name."""
        names = self._rule.names_of(request)
        if not self._rule.patterns:
            return Data(request, zone, names, EVERYTHING, (request.name,), {})
        for pattern in self._rule.patterns:
            found = pattern.find(request.name)
            if found is not None:
                return Data(request, zone, names, pattern.text, found, pattern.groups)
        return None

    def records(self, section: str, templates: Sequence[Template], data: Data) -> Iterator[Record]:
        """Yield the records of a section; raises WriteError, which is counted."""
        for template in templates:
            failures = TEMPLATE_FAILURES
            try:
                text = template.render(data)
                failures = RR_FAILURES
                yield read_record(text)
            except (TemplateError, RecordError) as error:
                request = data.request
                labels = (request.server, data.zone, request.view, data.class_, data.type)
                failures.labels(*labels, section, template.source).inc()
                raise WriteError(f"{section} {template.source!r}: {error}") from None
