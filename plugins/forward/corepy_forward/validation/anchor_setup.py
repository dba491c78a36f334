"""Creates the trust anchors of a *forward* line from its options."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy.dns.names import ROOT, to_text
from corepy_forward.validation.anchor_files import read_anchor_file
from corepy_forward.validation.anchor_records import AnchorError
from corepy_forward.validation.anchor_reports import date
from corepy_forward.validation.anchor_service import AnchorService
from corepy_forward.validation.anchor_sources import AnchorSources
from corepy_forward.validation.anchor_updates import AnchorKeeper
from corepy_forward.validation.anchors import TrustAnchors
from corepy_forward.validation.public_keys import ALGORITHMS

if TYPE_CHECKING:
    from pathlib import Path

    from corepy.plugin import Controller, Token
    from corepy_forward.validation.anchor_files import AnchorFile
    from corepy_forward.validation.validation_settings import ValidationSettings


class AnchorServices:
    """The trust anchors of all lines of a Corefile: equal ones are shared."""

    def __init__(self) -> None:
        self.services: dict[tuple[tuple[Path, ...], Path | None], AnchorService] = {}

    def other_files(self, files: tuple[Path, ...], state: Path) -> bool:
        """Return whether a line with other files has the same state file."""
        return any(it[1] == state and it[0] != files for it in self.services)


def make_anchors(controller: Controller, settings: ValidationSettings) -> TrustAnchors:
    """Return the trust anchors for the options of a line; raises `CorefileError`."""
    service = _service(controller, settings)
    _check_negative(controller, settings, service)
    _check_algorithms(controller, settings, service)
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


def _check_algorithms(
    controller: Controller, settings: ValidationSettings, service: AnchorService
) -> None:
    """Warn of zones whose trust anchors are all of algorithms that are not supported."""
    for zone, anchors in service.keeper.sources.zones.items():
        found = sorted({anchor.algorithm for anchor in anchors})
        if not ALGORITHMS.intersection(found):
            numbers = ", ".join(map(str, found))
            problem = f"{to_text(zone)} is not validated: the algorithm {numbers} is not supported"
            controller.warn(problem, settings.token)


def _check_negative(
    controller: Controller, settings: ValidationSettings, service: AnchorService
) -> None:
    """Warn of negative trust anchors that have no effect or disable everything."""
    for anchor, token in settings.negative:
        if anchor.zone == ROOT and set(service.keeper.sources.zones) == {ROOT}:
            controller.warn("a negative trust anchor for the root disables validation", token)
        if anchor.until <= time.time():  # time of day: the operator's date
            name = to_text(anchor.zone)
            controller.warn(
                f"the negative trust anchor {name} expired on {date(anchor.until)}", token
            )
