"""Parses the options of *forward* for validation, and creates the trust anchors of a line."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from corepy.dns.names import ROOT, from_text, to_text
from corepy_forward.validation.anchor import NegativeAnchor
from corepy_forward.validation.anchor_files import read_anchor_file
from corepy_forward.validation.anchor_records import AnchorError
from corepy_forward.validation.anchor_reports import date
from corepy_forward.validation.anchor_service import AnchorService
from corepy_forward.validation.anchor_sources import AnchorSources
from corepy_forward.validation.anchor_updates import AnchorKeeper
from corepy_forward.validation.anchors import TrustAnchors

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.plugin import Controller, Token
    from corepy_forward.validation.anchor_files import AnchorFile
    from corepy_forward.validation.validation_settings import ValidationSettings

_USAGE: Final = "dnssec validate [FILE...]"
_UNTIL: Final = "until"


class AnchorServices:
    """The trust anchors of all lines of a Corefile: equal ones are shared."""

    def __init__(self) -> None:
        self.services: dict[tuple[tuple[Path, ...], Path | None], AnchorService] = {}

    def other_files(self, files: tuple[Path, ...], state: Path) -> bool:
        """Return whether a line with other files has the same state file."""
        return any(it[1] == state and it[0] != files for it in self.services)


class ValidationOptions:
    """Parses the options in the block of one line."""

    def __init__(self, controller: Controller, settings: ValidationSettings) -> None:
        """Parse the tokens of `controller` into `settings`."""
        self._c = controller
        self._settings = settings

    def dnssec(self) -> None:
        """Parse `dnssec validate [FILE...]`."""
        token = self._c.token
        word, *files = self._c.arguments(1, hint=_USAGE)
        if word.text != "validate":
            raise self._c.error(f"dnssec: unknown word {word.text!r}", word, _USAGE)
        self._settings.token = token
        self._settings.files += files

    def trust_anchors_state(self) -> None:
        """Parse `trust_anchors_state FILE`."""
        self._settings.state = self._c.argument("trust_anchors_state FILE")

    def negative_trust_anchors(self) -> None:
        """Parse `negative_trust_anchors ZONE... [until DATE]`."""
        usage = "negative_trust_anchors ZONE... [until DATE]"
        tokens, until = self._c.arguments(1, hint=usage), float("inf")
        if len(tokens) > 1 and tokens[-2].text == _UNTIL:
            until = self._date(tokens[-1])
            del tokens[-2:]
        if not tokens or tokens[-1].text == _UNTIL:
            raise self._c.arg_error(hint=usage)
        for token in tokens:
            for zone in self._c.zones_of(token):
                anchor = NegativeAnchor(from_text(zone).lower(), until)
                self._settings.negative.append((anchor, token))

    def _date(self, token: Token) -> float:
        """Return a date in seconds since 1970; without a zone it is in UTC."""
        try:
            found = datetime.fromisoformat(token.text)
        except ValueError:
            hint = "a date is in UTC, such as 2030-01-31 or 2030-01-31T12:00Z"
            raise self._c.error(f"not a date: {token.text!r}", token, hint) from None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def make_anchors(controller: Controller, settings: ValidationSettings) -> TrustAnchors:
    """Return the trust anchors for the options of a line; raises `CorefileError`."""
    _check_negative(controller, settings)
    service = _service(controller, settings)
    negative = [anchor for anchor, _ in settings.negative]
    service.add_negative(negative)
    return TrustAnchors(service, negative)


def _service(controller: Controller, settings: ValidationSettings) -> AnchorService:
    services = controller.shared(AnchorServices)
    paths = tuple(controller.path(token) for token in settings.files)
    token = settings.state
    state = None if token is None else controller.path(token)
    service = services.services.get((paths, state))
    if service is None:
        files = {
            path: _read(controller, path, token)
            for path, token in zip(paths, settings.files, strict=True)
        }
        if state is not None:
            _check_state(controller, services, paths, state, token)
        service = AnchorService(AnchorKeeper(AnchorSources(files), state))
        services.services[paths, state] = service
        controller.register(service)
    return service


def _read(controller: Controller, path: Path, token: Token) -> AnchorFile:
    """Return the contents of a file; raises `CorefileError`."""
    controller.watch_file(path)
    try:
        file = read_anchor_file(path)
    except AnchorError as error:
        raise controller.error(str(error), token) from None
    for warning in file.warnings:
        controller.warn(warning, token)
    return file


def _check_state(
    controller: Controller,
    services: AnchorServices,
    files: tuple[Path, ...],
    state: Path,
    token: Token | None,
) -> None:
    """Raise `CorefileError` if the state file cannot be that of these files."""
    if state in files:
        hint = "name a file that does not exist yet; it will have the states of the keys"
        raise controller.error("the state file is one of the files with anchors", token, hint)
    if services.other_files(files, state):
        problem = "another line keeps other trust anchors in this state file"
        raise controller.error(problem, token, "each set of trust anchors needs its own file")


def _check_negative(controller: Controller, settings: ValidationSettings) -> None:
    """Warn of negative trust anchors that have no effect or disable everything."""
    for anchor, token in settings.negative:
        if anchor.zone == ROOT:
            controller.warn("a negative trust anchor for the root disables validation", token)
        if anchor.until <= time.time():  # time of day: the operator's date
            name = to_text(anchor.zone)
            controller.warn(
                f"the negative trust anchor {name} has expired on {date(anchor.until)}", token
            )
