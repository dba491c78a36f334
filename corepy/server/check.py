"""Checks a configuration: a Corefile, or the Corefiles inside a Kubernetes manifest."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, NamedTuple

from corepy import corefile
from corepy.server.build.loader import Loader, unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.server.options import Options


class Checked(NamedTuple):
    """The result of checking one Corefile."""

    title: str
    problems: Sequence[corefile.Diagnostic]
    valid: bool


def check(options: Options) -> list[Checked]:
    """Parse and set up without side effects on the host; returns at least one result."""
    loader = Loader(options)
    gc.disable()  # the objects made here live until the end of the check
    try:
        parts = loader.manifest()
        if parts is None:
            return [_checked(loader, loader.name, None)]
        if not parts:
            hint = "a ConfigMap has it as data.Corefile, or under keys that end in .server"
            problem = corefile.Diagnostic(
                f"{loader.name}: this manifest has no Corefile", None, hint
            )
            return [Checked(loader.name, [problem], valid=False)]
        return [_checked(loader, part.title, part) for part in parts]
    except OSError as error:
        return [Checked(loader.name, [corefile.Diagnostic(unreadable(error))], valid=False)]
    finally:
        gc.enable()


def _checked(loader: Loader, title: str, part: corefile.Embedded | None) -> Checked:
    try:
        generation = loader.load(checking=True) if part is None else loader.load_part(part)
        return Checked(title, generation.warnings, valid=True)
    except corefile.CorefileError as error:
        return Checked(title, error.diagnostics, valid=False)
