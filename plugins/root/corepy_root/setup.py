"""Parse the *root* directive into the block's configuration (CoreDNS: plugin/root)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from corepy.plugin import Root

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token


def setup(controller: Controller) -> None:
    """Store the folder; if there are several directives, the last applies."""
    folder: Token | None = None
    for _ in controller.occurrences():
        folder = controller.argument()
        if controller.next_arg():
            raise controller.arg_error()  # a block
    if folder is not None:
        _examine(controller, folder)
        controller.configure(Root(Path(folder.text)))


def _examine(controller: Controller, folder: Token) -> None:
    """Warn if the folder is missing, because it may appear later; raises `CorefileError`."""
    try:
        os.scandir(folder.text).close()
    except FileNotFoundError:
        hint = "create it, or correct the path: the files of this server block are looked up in it"
        controller.warn(f"root path does not exist: {folder.text}", folder, hint)
    except NotADirectoryError:
        hint = "name the folder that contains the files of this server block"
        controller.warn(f"root path is not a folder: {folder.text}", folder, hint)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        reason = getattr(error, "strerror", None) or error
        message = f"unable to access root path {folder.text!r}: {reason}"
        hint = "let the user that corepy runs as read the folder"
        raise controller.error(message, folder, hint) from None
