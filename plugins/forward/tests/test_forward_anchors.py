"""The trust anchors of a server: lookup, files, key updates over months, and their state file."""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pluggy
import pytest

from corepy.dns.names import ROOT, from_text
from corepy.dns.presentation import rdata_to_text
from corepy.plugin import LifecycleContext
from corepy.plugin.process_group import ProcessGroup
from corepy.testing import until
from corepy_forward.validation import (
    anchor_service,
    anchor_state_file,
    anchor_updates,
    anchors,
)
from corepy_forward.validation.anchor import ROOT_ANCHORS, Anchor, SeenKeys, ds_of, key_tag
from corepy_forward.validation.anchor_files import read_anchor_file
from corepy_forward.validation.anchor_service import AnchorService
from corepy_forward.validation.anchor_sources import AnchorSources
from corepy_forward.validation.anchor_states import DAY, State
from corepy_forward.validation.anchor_store import read_states, write_states
from corepy_forward.validation.anchor_updates import AnchorKeeper
from corepy_forward.validation.anchors import NegativeAnchor, TrustAnchors

EXAMPLE = from_text("example.org")
START = 1_800_000_000.0


def key(number: int, flags: int = 257) -> bytes:
    return flags.to_bytes(2, "big") + b"\3\x0d" + bytes((number,)) * 64


ONE, TWO, THREE = key(1), key(2), key(3)
REVOKED = 385


class Clock:
    """The time of day, and the time since boot."""

    def __init__(self) -> None:
        self.now = START
        self.running = 50.0

    def move(self, seconds: float) -> None:
        self.now += seconds
        self.running += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    fake = SimpleNamespace(
        time=lambda: clock.now, clock_gettime=lambda _: clock.running, CLOCK_BOOTTIME=7
    )
    monkeypatch.setattr(anchor_state_file, "_LONGEST_WRITE", None)  # the machine may be slow
    for module in (anchor_service, anchor_updates, anchors):
        monkeypatch.setattr(module, "time", fake)
    return clock


class Follower(ProcessGroup):
    is_leader = False


class Server:
    """A server with trust anchors; `keys` are in the zone, `signers` have signed them."""

    def __init__(
        self, path: Path, clock: Clock, state: str = "state", group: ProcessGroup | None = None
    ) -> None:
        self.clock = clock
        self.keys: Sequence[bytes] = [ONE]
        self.signers: Sequence[bytes] = [ONE]
        self.failure: Exception | None = None
        self.queries = self.forgotten = 0
        sources = AnchorSources({path: read_anchor_file(path)})
        self.keeper = AnchorKeeper(sources, path.parent / state if state else None)
        self.service = AnchorService(self.keeper)
        self.service.add_line(EXAMPLE, self.fetch)
        self.anchors = TrustAnchors(self.service)
        self.context = LifecycleContext(
            pluggy.PluginManager("corepy"),
            never,
            self.forget,
            process_group=group or ProcessGroup(),
        )
        self.service.before_listen(self.context)

    def forget(self) -> None:
        self.forgotten += 1

    async def fetch(self, zone: bytes) -> None:
        self.queries += 1
        if self.failure is not None:
            raise self.failure
        self.observe()

    def observe(self) -> None:
        expires = int(self.clock.now) + 20 * DAY
        seen = SeenKeys(tuple(self.keys), frozenset(self.signers), 2 * DAY, expires)
        self.anchors.observe(EXAMPLE, seen)

    async def run(self, days: float) -> None:
        """Check often while some days pass."""
        for _ in range(int(days * 2)):
            self.clock.move(DAY / 2)
            await self.check()

    async def check(self) -> None:
        await self.service.check(self.context)
        file = self.service.file
        if file is not None:
            await file.close()

    @property
    def trusted(self) -> list[int]:
        """The numbers of the trusted keys."""
        anchor = self.anchors.closest(EXAMPLE)
        return [] if anchor is None else sorted(it[5] for it in anchor.dnskeys)

    @property
    def states(self) -> dict[int, State]:
        return {it[5]: found.state for it, found in self.keeper.zones[EXAMPLE].keys.items()}

    @property
    def problems(self) -> str:
        return "\n".join(self.service.problems())


async def never(_: str) -> bool:
    return False


@pytest.fixture
def anchor_file(tmp_path: Path) -> Path:
    path = tmp_path / "anchors"
    write_anchors(path, ONE)
    return path


def write_anchors(path: Path, *keys: bytes) -> None:
    write_lines(path, *(f"example.org. DNSKEY {rdata_to_text(48, it)}" for it in keys))


def write_lines(path: Path, *lines: str) -> None:
    path.with_suffix(".new").write_text("\n".join(lines))
    path.with_suffix(".new").replace(path)


def lookup(zones: dict[bytes, Anchor], *negative: NegativeAnchor) -> TrustAnchors:
    service = AnchorService(AnchorKeeper(AnchorSources({})))
    service.keeper.anchors = zones
    service.keeper.sources.zones = {}
    return TrustAnchors(service, negative)


def test_the_deepest_anchor_above_a_name_is_found() -> None:
    root, example = Anchor(ROOT, (b"a",)), Anchor(EXAMPLE, (b"b",))
    both = lookup({ROOT: root, EXAMPLE: example})
    for name, found in {
        ".": root,
        "org": root,
        "example.org": example,
        "a.b.example.org": example,
        "notexample.org": root,
    }.items():
        assert both.closest(from_text(name)) is found
    only = lookup({EXAMPLE: example})
    assert only.closest(from_text("example.com")) is None
    assert only.explain(from_text("example.com")) == "none: no trust anchor is above the name"
    assert only.explain(from_text("a.example.org")) == "from the trust anchor of example.org."


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.lan", True),
        ("lan", True),
        ("plan", False),
        ("org", False),
        ("x.org", False),
        ("example.org", True),
        ("a.example.org", True),
        ("signed.example.org", False),
        ("a.signed.example.org", False),
        ("old.test", False),
    ],
)
def test_names_below_a_negative_anchor_are_not_validated(
    clock: Clock, name: str, expected: bool
) -> None:
    """An anchor below a negative one applies; one at the same name does not (RFC 7646)."""
    zones = [ROOT, EXAMPLE, from_text("signed.example.org")]
    negative = [
        NegativeAnchor(from_text("lan")),
        NegativeAnchor(EXAMPLE, START + 1),
        NegativeAnchor(from_text("old.test"), START),
    ]
    found = lookup({zone: Anchor(zone, (b"a",)) for zone in zones}, *negative)
    assert found.is_negative(from_text(name)) is expected
    assert found.explain(from_text(name)).startswith("none: a negative" if expected else "from")


def test_the_anchors_of_the_root_are_built_in() -> None:
    found = TrustAnchors(AnchorService(AnchorKeeper(AnchorSources({}))))
    anchor = found.closest(EXAMPLE)
    assert anchor == Anchor(ROOT, tuple(it.rdata for it in ROOT_ANCHORS))
    assert found.service.status() == {
        "state": "trust anchors . (20326, 38696)",
        "problems": [],
    }
    found.observe(ROOT, SeenKeys((ONE,), frozenset([ONE]), 0, 0))  # without a state file
    assert found.closest(EXAMPLE) is anchor
    assert found.service.problems() == [
        "no trust anchor of . has signed its keys: its names are bogus"
    ]


def test_the_status_of_many_zones_is_short() -> None:
    zones = {from_text(f"z{number}"): Anchor(ROOT) for number in range(7)}
    found = lookup(zones)
    found.keeper.sources.zones = {zone: [ROOT_ANCHORS[0]] for zone in zones}
    state = found.service.status()["state"]
    assert state.startswith("trust anchors z0. (20326), z1. (20326), ")
    assert state.endswith("z4. (20326), and 2 more zones")


def test_a_rollover_of_months(
    anchor_file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A new key, its use after 30 days, the revocation of the old one, and a restart."""
    caplog.set_level(logging.INFO)

    async def test() -> None:
        server = Server(anchor_file, clock)
        await server.check()
        assert server.trusted == [1]
        server.keys = [ONE, TWO]
        await server.run(29)
        assert (server.trusted, server.states[2]) == ([1], State.PENDING)
        await server.run(3)
        assert server.trusted == [1, 2]
        server = Server(anchor_file, clock)
        assert server.trusted == [1, 2]  # from the state file
        server.keys, server.signers = [key(1, REVOKED), TWO], [key(1, REVOKED), TWO]
        await server.run(2)
        assert (server.trusted, server.states[1]) == ([2], State.REVOKED)
        server.keys = server.signers = [TWO]
        await server.run(31)
        assert server.states == {1: State.REMOVED, 2: State.VALID}
        server = Server(anchor_file, clock)
        server.keys, server.signers = [ONE], [ONE]  # the configured key is not trusted again
        await server.run(3)
        assert server.trusted == [2]
        assert "no trusted key has signed them" in server.problems

    asyncio.run(test())
    tags = {"1": key_tag(ONE), "2": key_tag(TWO)}
    prefix = "trust anchors of example.org.: key"
    lines = [it.getMessage() for it in caplog.records if it.getMessage().startswith(prefix)]
    first = [line for line in lines if "will be trusted" not in line]
    assert first == [
        f"{prefix} {tags['1']} is valid",
        f"{prefix} {tags['2']} is trusted now",
        f"{prefix} {tags['1']} was revoked; it is not trusted any more",
        f"{prefix} {tags['1']} was removed after its revocation",
    ]
    assert len(lines) == 5


def test_the_problems_of_a_zone_end_with_its_anchors(anchor_file: Path, clock: Clock) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock)
        server.failure = OSError("unreachable")
        await server.check()
        assert "trust anchors of example.org.: the keys cannot be updated" in server.problems
        server.failure = None
        write_lines(anchor_file, f"test. DNSKEY {rdata_to_text(48, ONE)}")
        await server.check()
        assert "example.org" not in server.problems
        assert set(read_states(anchor_file.with_name("state")).zones) == {from_text("test"), ROOT}

    asyncio.run(test())


def test_queries_for_keys_follow_the_intervals(
    anchor_file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock)
        await server.check()
        await server.check()
        assert server.queries == 1
        await server.run(10)
        assert 9 <= server.queries <= 11  # half of the TTL is a day
        server.failure = OSError("unreachable")
        caplog.clear()
        before = server.queries
        await server.run(2)
        assert server.queries - before >= 3  # a tenth of the TTL is less than half a day
        assert "example.org.: the keys cannot be updated: unreachable" in server.problems
        assert len(caplog.records) == 1
        server.failure = None
        await server.run(1)
        assert server.problems == ""

    asyncio.run(test())


def test_the_keys_are_queried_that_a_line_needs(anchor_file: Path, clock: Clock) -> None:
    """The upstreams of a zone of its own may not know the root."""
    queried: list[tuple[str, bytes]] = []

    async def test() -> None:
        for zone in (".", "org", "a.example.org", "com"):
            service = Server(anchor_file, clock, state=f"state-{zone}").service
            service._fetchers.clear()

            async def fetch(found: bytes, zone: str = zone) -> None:
                queried.append((zone, found))

            service.add_line(from_text(zone), fetch)
            await service._refresh()

    asyncio.run(test())
    assert queried == [
        (".", EXAMPLE),
        (".", ROOT),
        ("org", EXAMPLE),
        ("org", ROOT),
        ("a.example.org", EXAMPLE),
        ("com", ROOT),
    ]


def test_without_a_state_file_no_keys_are_queried(anchor_file: Path, clock: Clock) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock, state="")
        server.keys = [ONE, TWO]
        await server.run(40)
        server.observe()
        assert (server.queries, server.trusted, server.keeper.zones) == (0, [1], {})
        server.signers = [TWO]
        server.observe()
        bogus = "no trust anchor of example.org. has signed its keys: its names are bogus"
        assert server.problems == bogus
        server.signers = [ONE]
        server.observe()
        assert server.problems == ""

    asyncio.run(test())


def test_a_clock_that_is_set_does_not_end_a_hold_down_time(anchor_file: Path, clock: Clock) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock)
        server.keys = [ONE, TWO]
        await server.run(2)
        clock.now += 40 * DAY
        await server.run(20)
        assert server.trusted == [1]
        clock.now -= 40 * DAY
        await server.run(5)
        assert server.trusted == [1]
        await server.run(5)
        assert server.trusted == [1, 2]

    asyncio.run(test())


def test_the_leader_writes_and_followers_read(anchor_file: Path, clock: Clock) -> None:
    async def test() -> None:
        leader = Server(anchor_file, clock)
        follower = Server(anchor_file, clock, group=Follower())
        follower.keys = leader.keys = [ONE, TWO]
        await leader.check()
        await follower.check()
        assert (follower.queries, follower.states[2]) == (0, State.PENDING)
        state = anchor_file.with_name("state")
        written = state.stat().st_mtime_ns
        follower.observe()
        await follower.check()
        assert state.stat().st_mtime_ns == written
        await leader.run(32)
        version = follower.anchors.version
        await follower.check()
        assert follower.trusted == [1, 2]
        assert (follower.anchors.version, follower.forgotten) == (version + 1, 1)

    asyncio.run(test())


def test_a_reload_and_an_upgrade_share_the_state(anchor_file: Path, clock: Clock) -> None:
    """The old generation and the new one are active at the same time."""

    async def test() -> None:
        old = Server(anchor_file, clock)
        old.keys = [ONE, TWO]
        await old.check()
        new = Server(anchor_file, clock)
        assert new.states == old.states == {1: State.VALID, 2: State.PENDING}
        old.signers = old.keys = [key(1, REVOKED), TWO]
        old.observe()
        await old.service.shutdown()
        await old.check()
        new.keys, new.signers = [ONE, TWO], [ONE]
        new.observe()
        assert new.states[1] is State.REVOKED

    asyncio.run(test())


def test_a_revocation_is_kept_when_the_file_does_not_have_it(
    anchor_file: Path, clock: Clock
) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock)
        await server.check()
        before = server.keeper.zones
        server.keys = server.signers = [key(1, REVOKED)]
        server.observe()
        await server.check()
        write_states(anchor_file.with_name("state"), before)  # a generation that knows less
        server.failure = OSError("unreachable")
        await server.check()
        assert server.states == {1: State.REVOKED}
        assert read_states(anchor_file.with_name("state")).zones == server.keeper.zones
        await server.run(31)
        assert server.states == {1: State.REMOVED}

    asyncio.run(test())


def test_changes_that_could_not_be_written_are_not_lost(
    anchor_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def test() -> None:
        server = Server(anchor_file, clock)
        await server.check()
        before = server.keeper.zones
        monkeypatch.setattr(anchor_state_file, "write_states", fail)
        server.keys = [ONE, TWO]
        server.observe()
        await server.check()
        write_states(anchor_file.with_name("state"), before)
        server.keeper.adopt(server.keeper.zones)  # as after a change of a file with anchors
        await server.check()
        assert server.states == {1: State.VALID, 2: State.PENDING}
        monkeypatch.setattr(anchor_state_file, "write_states", write_states)
        await server.check()
        assert read_states(anchor_file.with_name("state")).zones == server.keeper.zones

    asyncio.run(test())


def test_a_zone_without_keys_has_no_anchor(anchor_file: Path, clock: Clock) -> None:
    """RFC 5011 section 5: once all keys were revoked, the anchor above the zone is used."""

    async def test() -> None:
        server = Server(anchor_file, clock)
        server.keys = server.signers = [key(1, REVOKED)]
        await server.check()
        assert server.anchors.closest(EXAMPLE) == server.anchors.closest(ROOT) is not None
        await server.check()
        assert server.queries == 2  # the keys of the root, from which the zone is validated now
        assert "all trust anchors of example.org. were revoked" in server.problems
        write_lines(anchor_file, f"test. DNSKEY {rdata_to_text(48, ONE)}")
        await server.check()
        assert "example.org" not in server.problems

    asyncio.run(test())


def test_expired_anchors_make_names_bogus(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "anchors.xml"
    ds = ds_of(EXAMPLE, ONE)
    ends = "2027-01-15T08:01:40+00:00"  # a hundred seconds from the start
    path.write_text(
        f"<TrustAnchor><Zone>example.org</Zone><KeyDigest validUntil='{ends}'><KeyTag>"
        f"{key_tag(ONE)}</KeyTag><Algorithm>13</Algorithm><DigestType>2</DigestType><Digest>"
        f"{ds[4:].hex()}</Digest></KeyDigest></TrustAnchor>"
    )

    async def test() -> None:
        server = Server(path, clock, state="")
        assert server.anchors.closest(EXAMPLE) == Anchor(EXAMPLE, (ds,))
        clock.move(100)
        await server.check()
        assert server.anchors.closest(EXAMPLE) == Anchor(EXAMPLE)
        assert (
            "no trust anchor of example.org. is valid now: its names are bogus" in server.problems
        )

    asyncio.run(test())


def test_a_changed_file_is_read_again(
    anchor_file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock, state="")
        write_anchors(anchor_file, TWO, THREE)
        await server.check()
        assert (server.trusted, server.forgotten) == ([2, 3], 1)
        write_lines(anchor_file, "broken")
        for _ in range(2):
            await server.check()
        assert server.trusted == [2, 3]
        assert "anchors:1: not a DS or DNSKEY record: type is missing" in server.problems
        assert len(caplog.records) == 1
        write_anchors(anchor_file, ONE)
        await server.check()
        assert (server.trusted, server.problems) == ([1], "")

    asyncio.run(test())


def test_states_of_other_anchors_are_not_used(anchor_file: Path, clock: Clock) -> None:
    """An operator who replaces all anchors of a zone does not trust the keys of the old ones."""

    async def test() -> None:
        server = Server(anchor_file, clock)
        server.keys = server.signers = [ONE, TWO, THREE]
        await server.run(32)
        server.keys = server.signers = [ONE, TWO, key(3, REVOKED)]
        await server.run(2)
        write_anchors(anchor_file, ONE, key(4))
        assert Server(anchor_file, clock).trusted == [1, 2, 4]
        write_anchors(anchor_file, key(4), THREE)
        other = Server(anchor_file, clock)
        assert other.trusted == [4]  # key 3 is still known to be revoked
        await other.check()

    asyncio.run(test())


@pytest.mark.parametrize("runs", [True, False], ids=["while it runs", "while it is stopped"])
def test_an_anchor_that_the_operator_removes_is_not_trusted(
    anchor_file: Path, clock: Clock, runs: bool
) -> None:
    write_anchors(anchor_file, ONE, TWO)

    async def test() -> None:
        server = Server(anchor_file, clock)
        server.keys = [ONE, TWO, THREE]
        await server.run(32)
        assert server.trusted == [1, 2, 3]
        write_anchors(anchor_file, ONE)
        server = server if runs else Server(anchor_file, clock)
        server.keys = [ONE, TWO, THREE]
        await server.run(1)
        assert server.trusted == [1, 3]
        assert server.states[2] is State.PENDING

    asyncio.run(test())


def test_a_damaged_state_file_is_written_anew(
    anchor_file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock)
        await server.check()
        state = server.keeper.state
        assert state is not None
        state.write_bytes(state.read_bytes()[:80])
        again = Server(anchor_file, clock)
        assert again.trusted == [1]
        assert "it is damaged; it will be written anew" in again.problems
        await again.check()
        assert again.problems == ""
        assert read_states(state).zones == again.keeper.zones
        state.unlink()
        await again.check()
        await again.check()
        assert again.states == {1: State.VALID}
        assert read_states(state).zones == again.keeper.zones
        assert len(caplog.records) == 1

    asyncio.run(test())


def test_a_foreign_file_is_not_replaced(anchor_file: Path, clock: Clock) -> None:
    async def test() -> None:
        state = anchor_file.with_name("state")
        state.write_text("nameserver 192.0.2.1\n")
        server = Server(anchor_file, clock)
        await server.run(2)
        assert state.read_text() == "nameserver 192.0.2.1\n"
        assert "it is another program's file; it is not used" in server.problems
        state.unlink()
        await server.run(1)
        assert server.problems == ""
        assert read_states(state).zones == server.keeper.zones

    asyncio.run(test())


def test_a_disk_that_cannot_be_written_is_tried_again(
    anchor_file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock, state="missing/state")
        await server.run(2)
        assert "missing/state': No such file or directory; changes of trust" in server.problems
        assert len(caplog.records) == 1
        write_anchors(anchor_file, ONE, TWO)
        await server.run(1)
        write_anchors(anchor_file, ONE)
        await server.run(1)
        os.mkdir(anchor_file.with_name("missing"))
        await server.run(1)
        assert server.problems == ""

    asyncio.run(test())


def test_an_expired_negative_anchor_is_reported_once(
    anchor_file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock, state="")
        later, earlier = NegativeAnchor(EXAMPLE, START + DAY), NegativeAnchor(ROOT, START - DAY)
        server.service.add_negative([later, earlier])
        await server.check()
        assert server.problems == "the negative trust anchor . expired on 2027-01-14"
        await server.run(2)
        assert "the negative trust anchor example.org. expired on 2027-01-16" in server.problems
        assert len(caplog.records) == 1  # the setup has warned of the other one

    asyncio.run(test())


def test_the_hooks_run_the_checks(anchor_file: Path, clock: Clock) -> None:
    async def test() -> None:
        server = Server(anchor_file, clock)
        server.service.serving(server.context)
        await until(lambda: server.queries == 1)
        await server.service.shutdown()
        state = server.keeper.state
        assert state is not None
        assert read_states(state).zones == server.keeper.zones
        other = Server(anchor_file, clock)
        other.service.rehearse(other.context)
        shown = other.service.status()["state"]
        root = ". (20326, 38696)"
        valid = f"{key_tag(ONE)} valid since 2027-01-15"
        assert shown == f"trust anchors example.org. ({valid}), {root}"

    asyncio.run(test())


def test_an_unexpected_failure_does_not_end_the_checks(
    anchor_file: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(anchor_service, "INTERVAL", 0)

    async def test() -> None:
        server = Server(anchor_file, clock)
        looks = iter([ZeroDivisionError("a mistake")])

        def look() -> bool:
            for error in looks:
                raise error
            return False

        monkeypatch.setattr(server.keeper.sources, "look", look)
        server.service.serving(server.context)
        await until(lambda: server.queries == 1)
        await server.service.shutdown()
        assert "failed to check the trust anchors: ZeroDivisionError: a mistake" in caplog.text

    asyncio.run(test())


def test_the_shutdown_does_not_wait_for_a_disk_that_hangs(
    anchor_file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchor_state_file, "_LONGEST_WRITE", 0)

    async def test() -> None:
        hangs = asyncio.Event()

        async def never_done(_: object) -> None:
            await hangs.wait()

        monkeypatch.setattr(anchor_state_file, "in_thread", never_done)
        server = Server(anchor_file, clock)
        await server.service.check(server.context)
        await server.service.shutdown()
        assert not hangs.is_set()

    asyncio.run(test())
