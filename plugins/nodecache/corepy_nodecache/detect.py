"""Detect the kind of iptables that the node uses, for `iptables auto`.

The order is the one of Kubernetes' iptables-wrapper (kubernetes-sigs/iptables-wrappers,
internal/iptables/detect.go): kubelet's chains in the nft-backed mangle table, then the same in the
legacy one, then the kind with more rules, then nft. Rules of corepy itself take precedence over
rules of others, because an earlier process may have found that the kernel accepts only one kind. A
wrong choice breaks nodes: legacy tables of the first program on a node have led kube-proxy to
choose legacy as well (kubermatic/kubeone 1037). So detection creates nothing: legacy tables are
read only if /proc lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy_nodecache import nft
from corepy_nodecache.legacy import LegacyTables, existing_tables, survey
from corepy_nodecache.model import HostError, Mode
from corepy_nodecache.nft import NftTables
from corepy_nodecache.tables import FAMILIES

if TYPE_CHECKING:
    from corepy_nodecache.tables import RuleTables

KUBELET_CHAINS: Final = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
_KINDS: Final[tuple[Mode, ...]] = ("legacy", "nft")


class Choice(NamedTuple):
    """The detected kind of iptables, legacy or nft."""

    kind: Mode
    evidence: str
    """The reason for this kind, found on the node; empty if it is only the default."""


def choose(mode: Mode) -> RuleTables:
    """Return the back end for `mode`, which must not be off."""
    return tables_of(detect().kind if mode == "auto" else mode)


def tables_of(kind: Mode) -> RuleTables:
    """Return the back end of one kind, legacy or nft."""
    return LegacyTables() if kind == "legacy" else NftTables()


def detect() -> Choice:
    """Return the kind of iptables that this node uses."""
    if any(_has_hint(nft.save(family, "mangle") or "") for family in FAMILIES):
        return Choice("nft", "kubelet's chains are in the nft tables")
    legacy_chains, legacy_rules = _survey_all()
    if legacy_chains.intersection(KUBELET_CHAINS):
        return Choice("legacy", "kubelet's chains are in the legacy tables")
    own = [kind for kind in _KINDS if _has_own_rules(kind)]
    if len(own) == 1:
        return Choice(own[0], f"rules of corepy or node-cache are in the {own[0]} tables")
    if not any(nft.save(family, "filter") is not None for family in FAMILIES):
        return Choice("legacy", "")  # no nft-backed programs, or a kernel without nf_tables
    nft_rules = _nft_rules()
    if legacy_rules > nft_rules:
        return Choice("legacy", f"{legacy_rules} rules are in the legacy tables")
    return Choice("nft", f"{nft_rules} rules are in the nft tables" if nft_rules else "")


def _has_own_rules(kind: Mode) -> bool:
    try:
        return bool(tables_of(kind).read())
    except HostError:
        return False


def _has_hint(saved: str) -> bool:
    return any(f":{chain} " in saved for chain in KUBELET_CHAINS)


def _survey_all() -> tuple[set[str], int]:
    """Return the chains of the legacy mangle tables, and the number of all legacy rules."""
    chains: set[str] = set()
    rules = 0
    for family in FAMILIES:
        for name in existing_tables(family):
            try:
                found, count = survey(family, name)
            except HostError:
                continue
            chains.update(found if name == "mangle" else ())
            rules += count
    return chains, rules


def _nft_rules() -> int:
    return sum(
        line.startswith("-A ")
        for family in FAMILIES
        for table in ("raw", "mangle", "nat", "filter")
        for line in (nft.save(family, table) or "").splitlines()
    )
