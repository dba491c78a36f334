"""Check the requirements on the host before any change; each failure is a one-line message.

Runs in the worker's thread. Unusual conditions that work cause warnings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy_nodecache.detect import choose, detect, tables_of
from corepy_nodecache.link import Links
from corepy_nodecache.model import Address, HostError, family_of

if TYPE_CHECKING:
    from corepy_nodecache.link import Snapshot
    from corepy_nodecache.model import Mode
    from corepy_nodecache.settings import Settings
    from corepy_nodecache.tables import RuleTables

_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
_IPVS_DEVICE: Final = "kube-ipvs0"


def check(settings: Settings, tables: RuleTables | None) -> list[str]:
    """Raise `HostError` if the host cannot satisfy `settings`; returns warnings."""
    rules = tables if settings.endpoints() else None
    _check_capabilities(settings, rules)
    warnings = _check_addresses(settings, Links().read()) if settings.device else []
    if rules:
        rules.check({family_of(endpoint.ip) for endpoint in settings.endpoints()})
    return warnings


def choose_tables(settings: Settings) -> tuple[RuleTables, list[str]]:
    """Return tables that accept the rules of `settings`, and warnings; raises `HostError`.

    If the kind that `iptables auto` detects does not work, the other kind is tried, but only if the
    detection had no evidence on the node: a kernel may have nf_tables and lack one of its families.
    With evidence, rules of the other kind could lead kube-proxy to a wrong choice, so the start is
    refused instead.
    """
    if settings.iptables != "auto":
        tables = choose(settings.iptables)
        return tables, check(settings, tables)
    kind, evidence = detect()
    try:
        tables = tables_of(kind)
        return tables, check(settings, tables)
    except HostError as error:
        if error.kind != "iptables":
            raise
        problem = error
    other: Mode = "legacy" if kind == "nft" else "nft"
    if evidence:
        advice = f"iptables auto chose {kind} because {evidence}; or set: iptables {other}"
        raise HostError("iptables", f"{problem} ({advice})") from problem
    return _fall_back(settings, kind, other, problem)


def _fall_back(
    settings: Settings, kind: Mode, other: Mode, problem: HostError
) -> tuple[RuleTables, list[str]]:
    tables = tables_of(other)
    try:
        warnings = check(settings, tables)
    except HostError as error:
        if error.kind != "iptables":
            raise
        message = f"iptables auto: neither kind works: {kind}: {problem}; {other}: {error}"
        raise HostError("iptables", message) from error
    return tables, [
        f"iptables auto: using {other}, because {kind} does not work: {problem}",
        *warnings,
    ]


def _check_capabilities(settings: Settings, tables: RuleTables | None) -> None:
    needed = ["CAP_NET_ADMIN"] if settings.device or tables else []
    if tables and tables.name == "legacy":
        needed.append("CAP_NET_RAW")  # libiptc uses a raw socket
    missing = [name for name in needed if not _effective() >> _CAPABILITIES[name] & 1]
    if missing:
        names = " and ".join(missing)
        message = (
            f"missing {names}: run as root, or add it to the container's capabilities"
            " (or disable the changes: device off, iptables off)"
        )
        raise HostError("interface_check", message)


def _effective() -> int:
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as file:
        line = next(line for line in file if line.startswith("CapEff:"))
    return int(line.split()[1], 16)


def _check_addresses(settings: Settings, now: Snapshot) -> list[str]:
    warnings = []
    for address in sorted(settings.addresses()):
        device = now.elsewhere(address)
        if device == _IPVS_DEVICE:
            raise HostError("interface_check", _ipvs_message(address))
        if device:
            warnings.append(f"{address.ip} is already on {device}: left there, not added again")
    link = now.links.get(settings.interface)
    foreign = [it.ip for it in now.on(settings.interface) if not it.is_ours]
    if link and link.kind != "dummy" and foreign:
        warnings.append(
            f"{settings.interface} is a {link.kind or 'physical'} interface with other addresses"
            f" ({', '.join(foreign)}): used as it is, never deleted"
        )
    return warnings


def _ipvs_message(address: Address) -> str:
    return (
        f"{address.ip} is a service address on {_IPVS_DEVICE} (kube-proxy runs in IPVS mode):"
        " bind a link-local address such as 169.254.20.10 and point kubelet's clusterDNS at it"
    )
