"""Parse the *autopath* directive (CoreDNS: plugin/autopath/setup.go)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.dns.names import ROOT
from corepy.plugin.reading import read_file
from corepy.plugin.resolv_conf import MOST_BYTES, read_search_list
from corepy_autopath.autopath import AutoPath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.plugin import Controller, Token

_HINT: Final = "such as /etc/resolv.conf, or @kubernetes for the search paths of that plugin"
_ORDER: Final = "the zones come first: autopath [ZONES...] RESOLV-CONF, or @PLUGIN as the last word"


def setup(controller: Controller) -> None:
    """Add one handler; as in CoreDNS, its zones are those of the last directive of the block.

    The last plugin that a directive names is used, or without one the last file.
    """
    zones: list[str] = []
    path: tuple[bytes, ...] = ()
    source = ""
    for _ in controller.occurrences():
        words = controller.remaining_tokens()
        if not words:
            raise controller.error("no resolv.conf file is given", hint=_HINT)
        *named, last = words
        if last.text.startswith("@"):
            source = _source(controller, last)
        else:
            path = _read(controller, last, named)
        zones = controller.zones_from(named)
        controller.options({})
    handlers = controller.block_handlers
    controller.add_handler(AutoPath(zones, path, source=source, block_handlers=handlers))


def _source(controller: Controller, token: Token) -> str:
    """Return the directive in a token such as @kubernetes, "" if the block does not have it."""
    source = token.text[1:]
    if controller.sibling(source):
        return source
    if source:
        message = f"{token.text} has no effect: this server block has no plugin {source!r}"
        controller.warn(message, token, f"add {source} to the block")
    else:  # CoreDNS ignores it without a message
        controller.warn("@ has no effect: the name of the plugin is missing", token, _HINT)
    return ""


def _read(controller: Controller, token: Token, before: Sequence[Token]) -> tuple[bytes, ...]:
    """Return the search path in a file, none if it has no domain; raises `CorefileError`.

    The last suffix is the root, for the name without a suffix, unless the file has it before. The
    root alone is no search path (`search .`, as systemd-resolved writes it). The words `before` the
    token are for the hint.
    """
    file = Path(token.text)
    try:
        content, _ = read_file(file, MOST_BYTES)
    except OSError as error:
        message = f"cannot read {token.text!r}: {error.strerror}"
        hint = _ORDER if any(word.text.startswith("@") for word in before) else _HINT
        raise controller.error(message, token, hint) from None
    controller.watch_file(file.absolute())
    domains, problems = read_search_list(content)
    for problem in problems:
        controller.warn(f"{file}: {problem}", token)
    if domains in ((), (ROOT,)):
        message = f"autopath has no effect: {file} has no search domain"
        controller.warn(message, token, "add a line such as: search ns1.svc.cluster.local")
        return ()
    return domains if ROOT in domains else (*domains, ROOT)
