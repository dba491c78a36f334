"""The pure parts: what is wanted, and how it is written for each kind of iptables."""

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy_nodecache import nft, xtentry
from corepy_nodecache.link import is_marked, kernel_keeps_protocol
from corepy_nodecache.lock import lock_path
from corepy_nodecache.model import (
    MARK,
    Address,
    DesiredState,
    Family,
    FilterRule,
    UntrackedEndpoint,
    canonical_ip,
    difference,
    rules_for,
    spec,
)
from corepy_nodecache.settings import Settings, union

DNS = UntrackedEndpoint("dns", "169.254.20.10", 53)
DNS6 = UntrackedEndpoint("dns", "fd00::10", 53)
HEALTH = UntrackedEndpoint("health", "169.254.20.10", 8080)

ports = st.integers(1, 65535)
ips = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: socket.inet_ntop(socket.AF_INET, ip.packed)),
    st.ip_addresses(v=6).map(lambda ip: socket.inet_ntop(socket.AF_INET6, ip.packed)),
)


@st.composite
def any_rule(draw: st.DrawFn) -> FilterRule:
    endpoint = UntrackedEndpoint(
        draw(st.sampled_from(["dns", "health"])),
        draw(ips),
        draw(ports),
        draw(st.sampled_from(["corepy", "node-cache"])),
    )
    return draw(st.sampled_from(rules_for(endpoint)))


def test_rules_of_an_endpoint_are_node_caches() -> None:
    texts = {f"{rule.table} {spec(rule)}" for rule in rules_for(DNS) if rule.protocol == "udp"}
    mark = '-m comment --comment "corepy nodecache"'
    ip = "169.254.20.10/32"
    assert texts == {
        f"raw PREROUTING -d {ip} -p udp -m udp --dport 53 {mark} -j NOTRACK",
        f"raw OUTPUT -d {ip} -p udp -m udp --dport 53 {mark} -j NOTRACK",
        f"raw OUTPUT -s {ip} -p udp -m udp --sport 53 {mark} -j NOTRACK",
        f"filter INPUT -d {ip} -p udp -m udp --dport 53 {mark} -j ACCEPT",
        f"filter OUTPUT -s {ip} -p udp -m udp --sport 53 {mark} -j ACCEPT",
    }


def test_the_comments_of_node_cache() -> None:
    shared = rules_for(DNS._replace(style="node-cache"))
    assert {(rule.target, rule.comment) for rule in shared} == {
        ("NOTRACK", "NodeLocal DNS Cache: skip conntrack"),
        ("ACCEPT", "NodeLocal DNS Cache: allow DNS traffic"),
    }
    assert [rule.bare for rule in shared] == [rule.bare for rule in rules_for(DNS)]
    assert {rule.ip for rule in shared} == {DNS.ip}
    want = DesiredState(endpoints=frozenset({DNS6, HEALTH._replace(style="node-cache")}))
    assert want.adopted_rules() == {rule.bare for rule in rules_for(HEALTH)}
    without = rules_for(HEALTH)[0].bare
    assert spec(without) == "OUTPUT -d 169.254.20.10/32 -p tcp -m tcp --dport 8080 -j NOTRACK"


def test_the_health_check_is_tcp_in_raw_output() -> None:
    assert {(rule.table, rule.chain, rule.protocol) for rule in rules_for(HEALTH)} == {
        ("raw", "OUTPUT", "tcp")
    }
    assert len(rules_for(HEALTH)) == 2


def test_blocks_that_want_the_same_share_it() -> None:
    one = Settings(ips=("169.254.20.10",)).want()
    assert len(union([one, one, DesiredState()]).rules()) == 10


@pytest.mark.parametrize(
    ("settings", "addresses", "endpoints"),
    [
        (Settings(), 1, 1),
        (Settings(device=False), 0, 1),
        (Settings(adopt_node_cache=True), 1, 1),
        (Settings(iptables="off"), 1, 0),
        (Settings(ips=("10.0.0.1", "fd00::1"), ports=(53, 54)), 2, 4),
        (Settings(health=(("192.168.10.100", 8080),)), 1, 2),
    ],
)
def test_settings_become_wishes(settings: Settings, addresses: int, endpoints: int) -> None:
    want = settings.want()
    assert (len(want.addresses), len(want.endpoints)) == (addresses, endpoints)


def test_what_is_adopted() -> None:
    shared = Settings(interface="dns0", adopt_node_cache=True)
    assert shared.want().adopted == {"dns0"}
    assert {endpoint.style for endpoint in shared.want().endpoints} == {"node-cache"}
    assert shared._replace(device=False).adopted() == Settings().adopted() == set()
    assert union([shared.want(), Settings().want()]).adopted == {"dns0"}


def test_difference_adds_thins_out_and_removes() -> None:
    first, second, third, *_ = rules_for(DNS)
    actual = [first, third, first, second]
    change = difference(actual, {second, first, rules_for(DNS6)[0]}, lambda _: True)
    assert change == ([rules_for(DNS6)[0]], [1, 2])
    assert difference(actual, {first, second}, lambda _: False) == ([], [2])


@settings(deadline=None)
@given(any_rule())
def test_entry_bytes_read_back(rule: FilterRule) -> None:
    entry = xtentry.encode(rule)
    target = "CT" if rule.target == "NOTRACK" else rule.target
    assert xtentry.decode(rule.family, rule.table, rule.chain, entry, target) == rule


@settings(deadline=None)
@given(any_rule())
def test_entries_with_another_comment_are_not_ours(rule: FilterRule) -> None:
    entry = xtentry.encode(rule).replace(b"ache", b"achE")
    assert xtentry.decode(rule.family, rule.table, rule.chain, entry, "ACCEPT") is None


@settings(deadline=None)
@given(any_rule())
def test_a_deletable_entry_names_its_target(rule: FilterRule) -> None:
    entry = xtentry.encode(rule)
    name = "CT" if rule.target == "NOTRACK" else rule.target
    assert xtentry.named(entry, rule.family, name) == entry


@settings(deadline=None)
@given(st.lists(any_rule(), unique=True, max_size=8), st.sampled_from([4, 6]))
def test_what_restore_is_given_reads_back(rules: list[FilterRule], family: Family) -> None:
    rules = [rule for rule in rules if rule.family == family]
    text = nft.transaction(rules, [])
    for table in ("raw", "filter"):
        _, _, rest = text.partition(f"*{table}\n")
        body = rest.partition("COMMIT")[0].replace("-I ", "-A ")
        assert nft.parse(family, table, body) == [it for it in rules if it.table == table]


@pytest.mark.parametrize(
    "line",
    [
        '-A INPUT -d 10.0.0.1/32 -m comment --comment "not corepy nodecache at all" -j ACCEPT',
        '-A INPUT -i eth0 -d 10.0.0.1/32 -m comment --comment "corepy nodecache" -j ACCEPT',
        '-A INPUT ! -d 10.0.0.1/32 -m comment --comment "corepy nodecache" -j ACCEPT',
        "-A INPUT -d 10.0.0.0/31 -p udp -m udp --dport 53 -j ACCEPT",
        "-A INPUT -d 10.0.0.1/32 -p udp -m udp --dport 53:54 -j ACCEPT",
        "-A INPUT -d 10.0.0.1/32 -p udp -m udp --dport 53 -j DROP",
        "-A INPUT -i eth0 -d 10.0.0.1/32 -p udp -m udp --dport 53 -j ACCEPT",
        "-A INPUT ! -d 10.0.0.1/32 -p udp -m udp --dport 53 -j ACCEPT",
        '-A INPUT -d 10.0.0.1/32 -p udp -m udp --dport 53 -m comment --comment "a b" -j ACCEPT',
        "-A INPUT -d 10.0.0.1/32 -p udp -m udp --dport 53 -m comment --comment a -j ACCEPT",
        "-A KUBE -d 10.0.0.1/32 -p udp -m udp --dport 53 -j ACCEPT",
        f'-A INPUT -d 10.0.0.1/32 -m comment --comment "{MARK} \\" " -j ACCEPT',
    ],
)
def test_rules_built_differently_are_not_ours(line: str) -> None:
    shared = UntrackedEndpoint("dns", "10.0.0.1", 53, "node-cache")
    adopted = DesiredState(endpoints=frozenset({shared})).adopted_rules()
    assert nft.parse(4, "filter", line, adopted) == nft.parse(4, "filter", line) == []


def test_rules_without_a_comment_are_read_where_asked_for() -> None:
    bare = [rule.bare for rule in rules_for(DNS) if rule.table == "raw"]
    text = "".join(f"-A {spec(rule)}\n" for rule in bare)
    assert nft.parse(4, "raw", text) == nft.parse(4, "raw", text, bare[:0]) == []
    assert nft.parse(4, "raw", text, bare[1:]) == bare[1:]


def test_both_spellings_of_notrack_are_the_same() -> None:
    start = f'-A OUTPUT -s 10.0.0.1/32 -p tcp -m tcp --sport 53 -m comment --comment "{MARK}"'
    old, new = nft.parse(4, "raw", f"{start} -j NOTRACK\n{start} -j CT --notrack")
    assert old == new == FilterRule(4, "raw", "OUTPUT", "tcp", "10.0.0.1", "", 53, 0, "NOTRACK")


@pytest.mark.parametrize(
    ("text", "ip"), [("010.0.0.1", None), ("FD00:0::1", "fd00::1"), ("10.0.0.1", "10.0.0.1")]
)
def test_addresses_are_spelt_as_the_kernel_does(text: str, ip: str | None) -> None:
    if ip is None:
        with pytest.raises(ValueError, match=r"\S"):
            canonical_ip(text)
    else:
        assert canonical_ip(text) == ip


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "fe80::1%eth0", "::ffff:10.0.0.1", "x", ""]
)
def test_addresses_no_host_has_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        canonical_ip(text)


@pytest.mark.parametrize(
    ("release", "keeps"),
    [("6.1.0-13-amd64", True), ("5.18.0", True), ("5.17.9", False), ("4.18.0-553.el8", False)],
)
def test_kernels_that_keep_an_addresss_protocol(release: str, keeps: bool) -> None:
    assert kernel_keeps_protocol(release) == keeps
    # Without the mark, a host address on our own link counts where the mark cannot be.
    assert is_marked(None, True, release) is not keeps
    assert is_marked(0xC0, False, release)
    assert not is_marked(None, False, release)
    assert not is_marked(2, True, release)


def test_the_lock_file_is_iptables_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XTABLES_LOCKFILE", raising=False)
    assert lock_path() == "/run/xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", "/tmp/elsewhere")
    assert lock_path() == "/tmp/elsewhere"


def test_a_families_address_is_recognised() -> None:
    assert [Address("x", ip).family for ip in ("10.0.0.1", "fd00::1")] == [4, 6]
