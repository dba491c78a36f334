"""Parse the *auto* directive (CoreDNS: plugin/auto/setup.go)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.plugin import NamePattern, ZoneMatcher
from corepy.zone import WILDCARD_LABEL
from corepy.zone.zone_options import ignore_upstream, read_reload
from corepy_auto.folder import DEFAULT_PATTERN, DEFAULT_TEMPLATE, Folder, unknown_groups
from corepy_auto.handler import Auto

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

DEFAULT_RELOAD: Final = 60.0
"""Seconds."""

_HINT: Final = r"directory DIR [REGEXP ORIGIN_TEMPLATE], such as directory zones db\.(.*) {1}"


@dataclass(slots=True)
class Settings:
    """The options of one directive."""

    path: Path | None = None
    pattern: NamePattern | None = None
    template: str = DEFAULT_TEMPLATE
    reload: float = DEFAULT_RELOAD


def setup(controller: Controller) -> None:
    """Add a handler for each directive."""
    controller.provides_labels([WILDCARD_LABEL], needs_metadata=False)
    for _ in controller.occurrences():
        directive = controller.token
        zones = controller.zones_from(controller.remaining_tokens())
        settings = Settings()
        controller.options(
            {
                "directory": partial(_directory, controller, settings),
                "reload": partial(_reload, controller, settings),
                "upstream": partial(ignore_upstream, controller),
            }
        )
        if settings.path is None:
            controller.warn("auto without directory serves no zone", directive, _HINT)
            continue
        pattern = settings.pattern or NamePattern(DEFAULT_PATTERN)
        folder = Folder(settings.path, pattern, settings.template)
        controller.add_handler(Auto(folder, ZoneMatcher(zones), settings.reload))


def _directory(controller: Controller, settings: Settings) -> None:
    token, *rest = controller.arguments(1, 3, _HINT)
    settings.path = controller.path(token)
    _examine(controller, settings.path, token)
    if not rest:
        return
    settings.pattern = controller.name_pattern(rest[0])
    if not settings.pattern.groups:
        message = "the regular expression needs a group, which is the origin"
        raise controller.error(message, rest[0], _HINT)
    if len(rest) == 1:
        raise controller.error("the template of the origin is missing", rest[0], _HINT)
    settings.template = rest[1].text
    _warn_of_groups(controller, settings.pattern, rest[1])


def _warn_of_groups(controller: Controller, pattern: NamePattern, token: Token) -> None:
    """Warn about references of the template to groups that the expression does not have."""
    for reference in unknown_groups(pattern, token.text):
        message = f"{reference} is empty: the regular expression has no such group"
        controller.warn(message, token, "{1} is the first group")


def _examine(controller: Controller, path: Path, token: Token) -> None:
    try:
        os.stat(path)
    except FileNotFoundError:
        controller.warn(f"folder does not exist: {path}", token, "it is looked for again later")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise controller.error(f"unable to access folder '{path}': {reason}", token) from None


def _reload(controller: Controller, settings: Settings) -> None:
    settings.reload = read_reload(controller)
