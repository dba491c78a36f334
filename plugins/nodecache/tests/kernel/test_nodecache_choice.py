"""Which kind of iptables nodecache takes, and what it says where none can be used."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from corepy.testing.netns import isolated, run
from corepy_nodecache import detect, legacy, nft, preflight
from corepy_nodecache.legacy import LegacyTables
from corepy_nodecache.model import DesiredState, Family, HostError, Mode, UntrackedEndpoint
from corepy_nodecache.nft import NftTables
from corepy_nodecache.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENDPOINT = Settings(ips=("169.254.20.10",), device=False)
V4 = DesiredState(endpoints=frozenset({UntrackedEndpoint("dns", "169.254.20.10", 53)})).rules()
V6 = DesiredState(endpoints=frozenset({UntrackedEndpoint("dns", "fd00::10", 53)})).rules()
TABLES = {"legacy": LegacyTables, "nft": NftTables}
NO_SAVE = "no iptables-nft-save found: install the package iptables"
NO_MODULE = (
    "no legacy table filter for IPv4: no; the kernel needs iptable_filter (modprobe it),"
    " or set: iptables nft"
)


def give_way(kind: str = "iptables", message: str = "no") -> Callable[..., None]:
    def work(*_: object) -> None:
        raise HostError(kind, message)

    return work


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ((), ("nft", "")),
        # As many rules are no reason to leave nft; one more is.
        (
            ("iptables-legacy -A INPUT -j ACCEPT", "ip6tables-nft -A INPUT -j ACCEPT"),
            ("nft", "1 rules are in the nft tables"),
        ),
        (
            ("ip6tables-legacy -t nat -A OUTPUT -j ACCEPT",),
            ("legacy", "1 rules are in the legacy tables"),
        ),
        (
            (
                "iptables-legacy -A INPUT -j ACCEPT",
                "iptables-legacy -t nat -A OUTPUT -j ACCEPT",
                "iptables-nft -t nat -A OUTPUT -j ACCEPT",
                "ip6tables-nft -t mangle -A OUTPUT -j ACCEPT",
                "ip6tables-nft -t raw -A OUTPUT -j ACCEPT",
            ),
            ("nft", "3 rules are in the nft tables"),
        ),
        # The hint counts in the mangle table only.
        (("iptables-legacy -N KUBE-IPTABLES-HINT",), ("nft", "")),
        (("iptables-nft -N KUBE-IPTABLES-HINT",), ("nft", "")),
        (
            ("iptables-legacy -t mangle -N KUBE-KUBELET-CANARY",),
            ("legacy", "kubelet's chains are in the legacy tables"),
        ),
        (
            (
                "iptables-legacy -t mangle -N KUBE-KUBELET-CANARY",
                "ip6tables-nft -t mangle -N KUBE-IPTABLES-HINT",
            ),
            ("nft", "kubelet's chains are in the nft tables"),
        ),
    ],
)
@isolated
def test_the_evidence(commands: tuple[str, ...], expected: tuple[str, str]) -> None:
    for words in commands:
        run(*words.split())
    assert detect.detect() == expected


@isolated
def test_rules_of_corepy_in_both_kinds_decide_nothing() -> None:
    for kind in TABLES.values():
        kind().reconcile(V4, lambda _: True)
    assert detect.detect() == ("nft", "10 rules are in the nft tables")
    LegacyTables().reconcile(V4 | V6, lambda _: True)
    assert detect.detect() == ("legacy", "20 rules are in the legacy tables")


@isolated
def test_tables_that_cannot_be_read_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT")
    run("ip6tables-legacy", "-t", "mangle", "-A", "INPUT", "-j", "ACCEPT")
    survey = detect.survey
    monkeypatch.setattr(detect, "survey", lambda family, name: survey(6, "mangle"))
    assert detect._survey_all()[1] == 2
    monkeypatch.setattr(
        detect, "survey", lambda family, name: survey(6, name) if family == 6 else give_way()()
    )
    assert detect._survey_all()[1] == 1
    monkeypatch.setattr(NftTables, "read", give_way())
    assert not detect._has_own_rules("nft")
    assert detect.detect() == ("legacy", "1 rules are in the legacy tables")


@isolated
def test_without_nft_programs_it_is_legacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "program", lambda family, task: None)
    assert detect.detect() == ("legacy", "")
    monkeypatch.setattr(
        nft,
        "program",
        lambda family, task: shutil.which(f"ip6tables-nft-{task}") if family == 6 else None,
    )
    # The programs of one family are enough.
    assert detect.detect() == ("nft", "")


@pytest.fixture
def programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], Path]]:
    """Let nothing but the scripts that the test makes be found as programs."""
    which, searched = shutil.which, f"{tmp_path}:/usr/sbin:/sbin"

    def find(name: str, *, path: str) -> str | None:
        assert path == searched
        return which(name, path=str(tmp_path))

    def make(name: str, script: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nft.shutil, "which", find)
    nft.program.cache_clear()
    yield make
    nft.program.cache_clear()


@pytest.mark.parametrize(
    ("scripts", "found"),
    [
        ({}, None),
        ({"iptables-nft-save": "exit 1"}, "iptables-nft-save"),
        ({"iptables-save": "echo 'iptables-save v1.8.9 (nf_tables)'"}, "iptables-save"),
        ({"iptables-save": "echo 'iptables-save v1.8.9 (legacy)'"}, None),
        ({"iptables-save": "echo nf_tables >&2"}, None),
        ({"ip6tables-nft-save": "", "iptables-nft-restore": ""}, None),
        (
            {"iptables-save": "echo nf_tables", "iptables-nft-save": ""},
            "iptables-nft-save",
        ),
    ],
)
def test_the_program_is_the_nft_backed_one(
    programs: Callable[[str, str], Path],
    tmp_path: Path,
    scripts: dict[str, str],
    found: str | None,
) -> None:
    for name, script in scripts.items():
        programs(name, script)
    assert nft.program(4, "save") == (found and str(tmp_path / found))


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exit 0", ""),
        ("exit 3", "iptables-nft-restore: exit code 3"),
        ("echo 'line 2\n  failed' >&2; exit 1", "iptables-nft-restore: line 2 failed"),
        ("echo fine >&2", ""),
        (
            "exec /bin/sleep 60",
            "iptables-nft-restore: Command '[\\'{0}\\', \\'--noflush\\']' timed out after"
            " 0.05 seconds",
        ),
    ],
)
def test_what_the_restore_program_says(
    programs: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    problem: str,
) -> None:
    if "sleep" in script:
        monkeypatch.setattr(nft, "_TIMEOUT", 0.05)
    path = programs("iptables-nft-restore", script)
    assert nft._restore(4, "").replace('"', "'") == problem.format(path).replace("\\", "")


def test_programs_that_cannot_be_run(programs: Callable[[str, str], Path]) -> None:
    assert nft._restore(6, "") == "no ip6tables-nft-restore found: install the package iptables"
    assert nft.save(4, "raw") is None
    programs("ip6tables-nft-save", "echo $2; exit 0")
    assert nft.save(6, "raw") == "raw\n"
    programs("ip6tables-nft-restore", "").write_text("#!/nowhere/sh\n")
    nft.program.cache_clear()
    problem = nft._restore(6, "")
    assert problem.startswith("ip6tables-nft-restore: [Errno 2] No such file or directory")
    nft.program.cache_clear()
    programs("iptables-nft-save", "echo lost; exit 1")
    assert nft.save(4, "raw") is None


def test_a_family_that_cannot_be_read(programs: Callable[[str, str], Path]) -> None:
    with pytest.raises(HostError) as caught:
        NftTables().reconcile(V4, lambda _: True)
    assert (caught.value.kind, str(caught.value)) == (
        "iptables",
        "iptables-nft-save cannot read the table filter",
    )
    # Where nothing is wanted, nothing is there.
    assert NftTables().reconcile(set(), lambda _: True) == (0, 0)
    assert NftTables().read() == []


@pytest.mark.parametrize("missing", ["save", "restore"])
def test_checks_name_the_program_that_is_missing(
    programs: Callable[[str, str], Path], missing: str
) -> None:
    other = "restore" if missing == "save" else "save"
    programs(f"ip6tables-nft-{other}", "")
    with pytest.raises(HostError) as caught:
        NftTables().check([6])
    assert str(caught.value) == (f"no ip6tables-nft-{missing} found: install the package iptables")


@pytest.mark.parametrize(("failures", "tries"), [(0, 1), (1, 2), (2, 3), (3, 3)])
@isolated
def test_a_transaction_that_another_writer_disturbs_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, failures: int, tries: int
) -> None:
    restore, made = nft._restore, []

    def disturbed(family: Family, text: str) -> str:
        made.append(family)
        return "disturbed" if len(made) <= failures else restore(family, text)

    monkeypatch.setattr(nft, "_restore", disturbed)
    tables = NftTables()
    if failures == 3:
        with pytest.raises(HostError) as caught:
            tables.reconcile(V4, lambda _: True)
        assert (caught.value.kind, str(caught.value)) == ("iptables", "disturbed")
        made.clear()
        with pytest.raises(HostError) as caught:
            tables.check([4])
        assert str(caught.value) == (
            "the nft tables raw and filter do not accept IPv4 rules: disturbed; repair them,"
            " or set: iptables legacy, or iptables off"
        )
        made.append(4)
        assert not tables._tried_out
        made.remove(4)
    else:
        tables.check([4])
        assert len(made) == tries
        made.clear()
        assert tables.reconcile(V4, lambda _: True) == (10, 0)
        assert set(tables.read()) == V4
    assert made == [4] * tries


@pytest.mark.parametrize("kind", ["nft", "legacy"])
@isolated
def test_a_fall_back_where_neither_kind_works(kind: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "legacy" if kind == "nft" else "nft"
    monkeypatch.setattr(preflight, "detect", lambda: detect.Choice(kind, ""))
    monkeypatch.setattr(LegacyTables, "check", give_way(message="L"))
    monkeypatch.setattr(NftTables, "check", give_way(message="N"))
    said = {"legacy": "L", "nft": "N"}
    with pytest.raises(HostError) as caught:
        preflight.choose_tables(ENDPOINT)
    assert (caught.value.kind, str(caught.value)) == (
        "iptables",
        f"iptables auto: neither kind works: {kind}: {said[kind]}; {other}: {said[other]}",
    )
    monkeypatch.setattr(TABLES[other], "check", lambda *_: None)
    tables, warnings = preflight.choose_tables(ENDPOINT)
    assert tables.name == other
    assert warnings == [f"iptables auto: using {other}, because {kind} does not work: {said[kind]}"]
    monkeypatch.setattr(preflight, "detect", lambda: detect.Choice(kind, "it is so"))
    with pytest.raises(HostError) as caught:
        preflight.choose_tables(ENDPOINT)
    assert str(caught.value) == (
        f"{said[kind]} (iptables auto chose {kind} because it is so; or set: iptables {other})"
    )
    # What is no fault of the tables is none of a fall-back's business.
    monkeypatch.setattr(TABLES[other], "check", give_way("interface_check", "O"))
    monkeypatch.setattr(preflight, "detect", lambda: detect.Choice(kind, ""))
    with pytest.raises(HostError) as caught:
        preflight.choose_tables(ENDPOINT)
    assert (caught.value.kind, str(caught.value)) == ("interface_check", "O")
    monkeypatch.setattr(TABLES[kind], "check", give_way("interface_check", "K"))
    with pytest.raises(HostError) as caught:
        preflight.choose_tables(ENDPOINT)
    assert (caught.value.kind, str(caught.value)) == ("interface_check", "K")


@pytest.mark.parametrize("kind", ["nft", "legacy"])
@isolated
def test_a_kind_that_is_set_is_not_exchanged(kind: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ENDPOINT._replace(iptables=kind)
    tables, warnings = preflight.choose_tables(settings)
    assert (tables.name, warnings) == (kind, [])
    monkeypatch.setattr(TABLES[kind], "check", give_way())
    with pytest.raises(HostError) as caught:
        preflight.choose_tables(settings)
    assert str(caught.value) == "no"


ADMIN, RAW = 1 << 12, 1 << 13


@pytest.mark.parametrize(
    ("kind", "device", "effective", "missing"),
    [
        ("nft", True, ADMIN, ""),
        ("nft", False, ADMIN, ""),
        ("nft", False, ~ADMIN, "CAP_NET_ADMIN"),
        ("legacy", True, ADMIN | RAW, ""),
        ("legacy", False, 0, "CAP_NET_ADMIN and CAP_NET_RAW"),
        ("legacy", True, ~RAW, "CAP_NET_RAW"),
        ("legacy", True, ~ADMIN, "CAP_NET_ADMIN"),
        ("off", True, ADMIN, ""),
        ("off", True, ~ADMIN, "CAP_NET_ADMIN"),
        ("off", False, 0, ""),
    ],
)
@isolated
def test_capabilities(
    monkeypatch: pytest.MonkeyPatch, kind: Mode, device: bool, effective: int, missing: str
) -> None:
    settings = ENDPOINT._replace(device=device, iptables=kind)
    # A second block without rules needs nothing of the tables that the first has.
    tables = NftTables() if kind == "off" else detect.tables_of(kind)
    monkeypatch.setattr(preflight, "_effective", lambda: effective)
    if not missing:
        assert preflight.check(settings, tables) == []
        return
    with pytest.raises(HostError) as caught:
        preflight.check(settings, tables)
    assert (caught.value.kind, str(caught.value)) == (
        "interface_check",
        f"missing {missing}: run as root, or add it to the container's capabilities"
        " (or disable the changes: device off, iptables off)",
    )


@isolated
def test_the_tables_are_checked_for_the_families_in_use() -> None:
    settings = ENDPOINT._replace(ips=("fd00::10",))
    preflight.check(settings, LegacyTables())
    assert legacy.existing_tables(4) == set()
    assert legacy.existing_tables(6) == {"raw", "filter"}
    preflight.check(settings._replace(iptables="off", ips=("10.0.0.1",)), LegacyTables())
    assert legacy.existing_tables(4) == set()


@isolated
def test_foreign_addresses_are_named_with_the_kind_of_link() -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")
    settings = Settings(ips=("169.254.20.10", "fd00::10"), iptables="off")
    assert preflight.check(settings, None) == []
    run("ip", "addr", "add", "10.9.9.9/24", "dev", "nodecache")
    run("ip", "addr", "add", "fd09::9/64", "dev", "nodecache", "nodad")
    run("ip", "addr", "add", "169.254.20.10/32", "dev", "nodecache", "proto", "0xc0", check=False)
    (warning,) = preflight.check(settings, None)
    assert "10.9.9.9, fd09::9" in warning
    (warning,) = preflight.check(settings._replace(interface="lo"), None)
    assert warning.endswith("is already on nodecache: left there, not added again") or (
        warning.startswith("lo is a physical interface with other addresses (127.0.0.1, ::1)")
    )
    assert preflight.check(settings._replace(device=False, interface="lo"), None) == []
