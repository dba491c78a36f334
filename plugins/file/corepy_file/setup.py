"""Parse the *file* directive (CoreDNS: plugin/file/setup.go)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from corepy.plugin import CorefileError, Diagnostic
from corepy.zone import WILDCARD_LABEL, MasterFileError, origin_from_text, read_zone
from corepy.zone.zone_options import ignore_upstream, read_reload
from corepy_file.handler import File, Settings

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

_HINT = "file DBFILE [ZONES...], such as file db.example.org example.org"


def setup(controller: Controller) -> None:
    """Add one handler for all directives of the block, which reads the files at the start."""
    found: list[tuple[Settings, Token]] = []
    origins: dict[bytes, Token] = {}
    for _ in controller.occurrences():
        settings, token = _directive(controller)
        for origin in settings.origins:
            if origin in origins:
                message = f"this zone has a file already, at {origins[origin].location}"
                raise controller.error(message, token, "a zone is read from one file")
            origins[origin] = token
        found.append((settings, token))
    for settings, token in found:
        _examine(controller, settings, token)
    controller.provides_labels([WILDCARD_LABEL], needs_metadata=False)
    controller.add_handler(File([settings for settings, _ in found]))


def _directive(controller: Controller) -> tuple[Settings, Token]:
    settings = Settings()
    file = controller.next_argument(_HINT)
    zones = controller.zones_from(controller.remaining_tokens())
    settings.path = controller.path(file)
    settings.origins = list(dict.fromkeys(origin_from_text(zone) for zone in zones))
    controller.options(
        {
            "reload": lambda: setattr(settings, "reload", read_reload(controller)),
            "reload_by_mtime": lambda: _by_mtime(controller, settings),
            "fallthrough": lambda: setattr(settings, "fallthrough", controller.fallthrough()),
            "upstream": lambda: ignore_upstream(controller),
        }
    )
    return settings, file


def _by_mtime(controller: Controller, settings: Settings) -> None:
    controller.arguments(0, 0)
    settings.by_mtime = True


def _examine(controller: Controller, settings: Settings, token: Token) -> None:
    """Refuse a file that cannot be used; a missing one is a warning if it is looked for later."""
    try:
        os.stat(settings.path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"cannot open {settings.path}: {reason}"
        if not settings.reload:
            raise controller.error(message, token, "create it, or enable reload") from None
        controller.warn(message, token, f"it is tried again every {settings.interval:g}s")
        return
    if controller.checking:
        _check(settings, token)


def _check(settings: Settings, token: Token) -> None:
    """Read the zones for `corepy -check`; a start reads them later, in a thread."""
    for origin in settings.origins:
        try:
            read_zone(settings.path, origin)
        except MasterFileError as error:
            first = Diagnostic(f"{settings.path} is not a valid zone file", token)
            raise CorefileError(first, *error.diagnostics) from None
        except OSError as error:
            message = f"cannot read {settings.path}: {error.strerror or error}"
            raise CorefileError(Diagnostic(message, token)) from None
