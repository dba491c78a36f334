"""Parse the *search_guard* directive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.dns.names import ROOT, InvalidName, from_text, labels_of, lower
from corepy.plugin.reading import read_file
from corepy.plugin.resolv_conf import MOST_BYTES, read_search_list
from corepy_search_guard.domains import Domain, SearchDomains
from corepy_search_guard.handler import SearchGuard

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

DEFAULT_FILE: Final = Path("/etc/resolv.conf")
DEFAULT_CLUSTER: Final = from_text("cluster.local.")
DEFAULT_MAX_TTL: Final = 60
"""Seconds."""

LONGEST_MAX_TTL: Final = 3600
"""Seconds."""


@dataclass(slots=True)
class Settings:
    """The options of one directive."""

    search: list[bytes] = field(default_factory=list)
    clusters: dict[bytes, frozenset[bytes]] | None = None
    external: set[bytes] = field(default_factory=set)
    exempt: list[bytes] = field(default_factory=list)
    max_ttl: int = DEFAULT_MAX_TTL
    reads_file: bool = True

    def domains(self) -> SearchDomains:
        """Return the search domains."""
        clusters = {DEFAULT_CLUSTER: frozenset[bytes]()} if self.clusters is None else self.clusters
        found = [Domain(name, True, namespaces) for name, namespaces in clusters.items()]
        found += [Domain(name) for name in self.search if name not in clusters]
        return SearchDomains(found, self.exempt)


def setup(controller: Controller) -> None:
    """Add the handler; the search domains are read now, and again at a reload."""
    settings = Settings()
    table = {
        "resolv_conf": lambda: _resolv_conf(controller, settings),
        "search": lambda: _search(controller, settings),
        "cluster": lambda: _cluster(controller, settings),
        "external": lambda: _external(controller, settings),
        "except": lambda: _except(controller, settings),
        "max_ttl": lambda: _max_ttl(controller, settings),
    }
    for _ in controller.single():
        controller.arguments(0, 0, "options are in the block, such as: cluster cluster.local")
        controller.options(table)
    if settings.reads_file:
        _read(controller, settings, DEFAULT_FILE, None)
    controller.add_handler(
        SearchGuard(
            settings.domains(),
            settings.external,
            settings.max_ttl,
            block_handlers=controller.block_handlers,
        )
    )


def _resolv_conf(controller: Controller, settings: Settings) -> None:
    token = controller.argument("such as: resolv_conf /etc/resolv.conf, or resolv_conf off")
    settings.reads_file = False
    if token.text != "off":
        _read(controller, settings, controller.path(token), token)


def _read(controller: Controller, settings: Settings, path: Path, token: Token | None) -> None:
    """Add the search domains in a file; the default one may be missing, and be created later.

    The root and top-level domains are left out: names below them are external ones.
    """
    controller.watch_file(path.absolute())
    try:
        content, _ = read_file(path, MOST_BYTES)
    except OSError as error:
        problem, hint = f"cannot read {path}: {error.strerror}", "resolv_conf off reads no file"
        if token is not None:
            raise controller.error(problem, token, hint) from None
        if not isinstance(error, FileNotFoundError):
            controller.warn(problem, hint=hint)
        return
    domains, problems = read_search_list(content)
    for problem in problems:
        controller.warn(f"{path}: {problem}", token)
    settings.search += [name for name in domains if len(labels_of(name)) > 1]


def _name(controller: Controller, token: Token, kind: str) -> bytes:
    """Return a name in lower case; `kind` describes it in the error for the root."""
    try:
        name = lower(from_text(token.text))
    except InvalidName as error:
        raise controller.error(str(error), token) from None
    if name == ROOT:
        hint = "every name is below the root"
        raise controller.error(f"the root is not a {kind}", token, hint)
    return name


def _search(controller: Controller, settings: Settings) -> None:
    tokens = controller.arguments(1, hint="such as: search corp.example")
    settings.search.extend(_name(controller, token, "search domain") for token in tokens)


def _except(controller: Controller, settings: Settings) -> None:
    tokens = controller.arguments(1, hint="such as: except lab.corp.example")
    settings.exempt.extend(_name(controller, token, "zone to except") for token in tokens)


def _cluster(controller: Controller, settings: Settings) -> None:
    token, *namespaces = controller.arguments(1, hint="such as: cluster cluster.local")
    if settings.clusters is None:
        settings.clusters = {}
    if token.text == "off":
        if namespaces:
            hint = "write cluster off alone, or cluster DOMAIN [NAMESPACES...]"
            raise controller.error("cluster off has no namespaces", namespaces[0], hint)
        return
    name = _name(controller, token, "cluster domain")
    labels = frozenset(_label(controller, it, "default") for it in namespaces)
    settings.clusters[name] = settings.clusters.get(name, labels) | labels


def _label(controller: Controller, token: Token, example: str) -> bytes:
    """Return a label with its length byte; the error for a longer name has an example."""
    name = _name(controller, token, "label")
    if len(labels_of(name)) != 1:
        hint = f"such as {example}"
        raise controller.error(f"{token.text!r} is not a single label", token, hint)
    return name[:-1]


def _external(controller: Controller, settings: Settings) -> None:
    tokens = controller.arguments(1, hint="such as: external consul internal")
    settings.external.update(_label(controller, token, "consul") for token in tokens)


def _max_ttl(controller: Controller, settings: Settings) -> None:
    token = controller.argument("such as: max_ttl 30s")
    seconds = controller.duration(token)
    if not 1 <= seconds <= LONGEST_MAX_TTL:
        hint = "a duration from 1s to 1h, such as 30s"
        raise controller.error(f"max_ttl {token.text} is out of range", token, hint)
    settings.max_ttl = int(seconds)
