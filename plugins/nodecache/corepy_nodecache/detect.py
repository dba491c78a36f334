"""Which kind of iptables the node uses: what `iptables auto` means.

The order of Kubernetes' iptables-wrapper (kubernetes-sigs/iptables-wrappers,
internal/iptables/detect.go): kubelet's chains in the nft-backed mangle table, then the same in the
legacy one, then whichever kind holds more rules, then nft. Getting it wrong breaks nodes: legacy
tables made by the first program to start have led kube-proxy to choose legacy as well
(kubermatic/kubeone 1037). So looking creates nothing: legacy tables are read only when /proc lists
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy_nodecache import nft
from corepy_nodecache.legacy import LegacyTables, existing_tables, survey
from corepy_nodecache.model import HostError
from corepy_nodecache.nft import NftTables
from corepy_nodecache.tables import FAMILIES

if TYPE_CHECKING:
    from corepy_nodecache.model import Mode
    from corepy_nodecache.tables import RuleTables

KUBELET_CHAINS: Final = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")


def choose(mode: Mode) -> RuleTables:
    """Return the back end for `mode`, which is not off."""
    kind = detect() if mode == "auto" else mode
    return LegacyTables() if kind == "legacy" else NftTables()


def detect() -> Mode:
    """Return legacy or nft."""
    if any(_has_hint(nft.save(family, "mangle") or "") for family in FAMILIES):
        return "nft"
    legacy_chains, legacy_rules = _survey_all()
    if legacy_chains.intersection(KUBELET_CHAINS):
        return "legacy"
    if not any(nft.save(family, "filter") is not None for family in FAMILIES):
        return "legacy"  # no nft-backed programs, or a kernel without nf_tables
    return "legacy" if legacy_rules > _nft_rules() else "nft"


def _has_hint(saved: str) -> bool:
    return any(f":{chain} " in saved for chain in KUBELET_CHAINS)


def _survey_all() -> tuple[set[str], int]:
    """Return the chains of the legacy mangle tables, and how many legacy rules there are in all."""
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
