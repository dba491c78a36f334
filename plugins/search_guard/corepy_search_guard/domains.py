"""Search domains: the part of a name that a resolver has appended, and the names that cover it.

A resolver appends a search domain to the name that a program looks up: `www.example.com` becomes
`www.example.com.default.svc.cluster.local`. The *covering name* is the search domain with the last
label of the original name, `com.default.svc.cluster.local`. If it does not exist, no name below it
does (RFC 8020 section 2).

All names are in wire form and lower case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import is_subdomain, parent_offsets, to_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_SVC: Final = b"\x03svc"
_POD: Final = b"\x03pod"
_DEFAULT: Final = b"\x07default"
_UNDERSCORE: Final = b"_"


@dataclass(frozen=True, slots=True)
class Domain:
    """A search domain, or the domain of a Kubernetes cluster, which includes all of its own."""

    name: bytes
    is_cluster: bool = False
    namespaces: frozenset[bytes] = frozenset()
    """Labels, each with its length byte; empty for any namespace."""

    @property
    def text(self) -> str:
        """The name in presentation form, for messages and metrics."""
        return to_text(self.name)

    @property
    def namespace_name(self) -> bytes:
        """The name of the namespace `default`, which every Kubernetes cluster has."""
        return b"".join((_DEFAULT, _SVC, self.name))


class Match(NamedTuple):
    """A name below a search domain."""

    domain: Domain
    covering: tuple[bytes, ...]
    """The covering names, the shortest first; each of the others is below an existing one."""


class SearchDomains:
    """The search domains of one directive."""

    def __init__(self, domains: Collection[Domain], exempt: Iterable[bytes] = ()) -> None:
        """Names in a zone of `exempt` are left alone."""
        clusters = [domain for domain in domains if domain.is_cluster]
        self._domains = {
            domain.name: domain
            for domain in domains
            if domain.is_cluster or not any(is_subdomain(domain.name, it.name) for it in clusters)
        }
        self._exempt = tuple(exempt)
        # A search domain has names below it, even if a server denies the domain itself.
        self._existing = {name[at:] for name in _all_names(domains) for at in parent_offsets(name)}
        self.tails = tuple(self._domains)
        """The ends of the names that `find` may find, for `bytes.endswith`."""

    def find(self, name: bytes) -> Match | None:
        """Return the search domain that `name` ends with, and the names that could deny it.

        None if there is none, or if the name can only be one that a program looked up itself: with
        a single label in front of the search domain, or of a service (`_http._tcp`).
        """
        offsets = parent_offsets(name)
        tails = (at for at, offset in enumerate(offsets) if name[offset:] in self._domains)
        count = next(tails, None)
        if count is None:
            return None
        domain = self._domains[name[offsets[count] :]]
        if name[1:2] == _UNDERSCORE or any(is_subdomain(name, zone) for zone in self._exempt):
            return None
        covering = tuple(
            name[offsets[at] :]
            for at in _covering(domain, name, offsets, count)
            if at > 0 and name[offsets[at] :] not in self._existing
        )
        return Match(domain, covering) if covering else None


def _all_names(domains: Iterable[Domain]) -> Iterable[bytes]:
    for domain in domains:
        yield domain.name
        if domain.is_cluster:
            yield _POD + domain.name
            yield _SVC + domain.name
            yield domain.namespace_name
            for namespace in domain.namespaces:
                yield b"".join((namespace, _SVC, domain.name))


def _covering(domain: Domain, name: bytes, offsets: list[int], count: int) -> tuple[int, ...]:
    """Return the indexes, in `offsets`, of the covering names; `count` is that of the domain.

    In a cluster, `a.b.c.svc.cluster.local` is either a name with the search domain
    `svc.cluster.local`, or with that of the namespace `c`.
    """
    first = count - 1
    if first <= 0 or not domain.is_cluster:
        return (first,)
    label = name[offsets[first] : offsets[count]]
    if label == _POD:
        return ()
    if label != _SVC:
        return (first,)
    namespace = name[offsets[first - 1] : offsets[first]]
    if not domain.namespaces:
        return (first - 1, first - 2)
    return (first - 2,) if namespace in domain.namespaces else (first - 1,)


def first_label(name: bytes) -> bytes:
    """Return the first label of a covering name, with its length byte.

    It is the last label of the name that was looked up.
    """
    return name[: name[0] + 1]
