"""Parse the *autopath* directive (CoreDNS: plugin/autopath/setup.go)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.plugin.reading import read_file
from corepy_autopath.autopath import AutoPath
from corepy_autopath.resolv_conf import MOST_BYTES, read_search_path

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

_HINT: Final = "such as /etc/resolv.conf, or @kubernetes for the search paths of that plugin"


def setup(controller: Controller) -> None:
    """Add one handler; as in CoreDNS, its zones are those of the last directive of the block.

    The last plugin that a directive names is used, or without one the last file.
    """
    zones: list[str] = []
    path: tuple[bytes, ...] = ()
    source = ""
    for _ in controller.occurrences():
        *named, last = controller.remaining_tokens() or (None,)
        if last is None:
            raise controller.error("no resolv.conf file is given", hint=_HINT)
        if last.text.startswith("@"):
            source = _source(controller, last)
        else:
            path = _read(controller, last)
        zones = controller.zones_from([token for token in named if token is not None])
        controller.options({})
    handlers = controller.block_handlers
    controller.add_handler(AutoPath(zones, path, source=source, block_handlers=handlers))


def _source(controller: Controller, token: Token) -> str:
    """Return the directive in a token such as @kubernetes, "" if the block does not have it."""
    source = token.text[1:]
    if controller.sibling(source):
        return source
    message = f"{token.text} has no effect: this server block has no plugin {source!r}"
    controller.warn(message, token, f"add {source} to the block" if source else _HINT)
    return ""


def _read(controller: Controller, token: Token) -> tuple[bytes, ...]:
    """Return the search path in a file; raises `CorefileError`."""
    file = Path(token.text)
    try:
        content, _ = read_file(file, MOST_BYTES)
    except OSError as error:
        message = f"cannot read {token.text!r}: {error.strerror}"
        raise controller.error(message, token, _HINT) from None
    controller.watch_file(file.absolute())
    path, problems = read_search_path(content)
    for problem in problems:
        controller.warn(f"{file}: {problem}", token)
    if not path:
        message = f"autopath has no effect: {file} has no search domain"
        controller.warn(message, token, "add a line such as: search ns1.svc.cluster.local")
    return path
