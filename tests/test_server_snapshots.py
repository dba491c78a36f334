"""Snapshots of the state of handlers: the format, the clocks, the files."""

import asyncio
import os
import stat
from typing import Any

import pytest

from corepy import corefile
from corepy.net.inherited import STATE, Manager, take_state
from corepy.plugin import Cacheability, ProcessGroup, StatefulHandler
from corepy.server import snapshot, snapshots, state_files, state_memory
from corepy.server.build.builder import build
from corepy.server.schedule import Schedule
from corepy.server.snapshot import Clocks, InvalidSnapshot, Selection, parse
from corepy.server.snapshots import Snapshots
from corepy.supervise.store import Store
from corepy.testing import with_handlers
from corepy.testing.open_descriptors import open_files

BOOT, OTHER_BOOT, UNKNOWN = b"a" * 16, b"b" * 16, bytes(16)
SECOND = 10**9
PARTS = [
    snapshot.header(Clocks(5 * SECOND, 3 * SECOND, BOOT)),
    snapshot.section_header(b"i" * 32, 5),
    b"st",
    b"ate",
    snapshot.section_header(b"j" * 32, 0),
]
WHOLE = b"".join(state_files.with_digest(PARTS))
BOTH = Selection({b"i" * 32, b"j" * 32}, 5)


def test_a_snapshot_returns():
    clocks, sections = parse(WHOLE)
    assert clocks == Clocks(5 * SECOND, 3 * SECOND, BOOT)
    assert sections == [(b"i" * 32, b"state"), (b"j" * 32, b"")]
    assert len(WHOLE) == snapshot.OVERHEAD + 2 * snapshot.SECTION_OVERHEAD + 5


def test_any_damage_is_found():
    for at, byte in enumerate(WHOLE):
        with pytest.raises(InvalidSnapshot):
            parse(WHOLE[:at])
        with pytest.raises(InvalidSnapshot):
            parse(WHOLE[:at] + bytes((byte ^ 1,)) + WHOLE[at + 1 :])


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([PARTS[0].replace(b"\0\1", b"\0\2", 1)], "it has version 2 of the format, not 1"),
        ([PARTS[0], PARTS[1], b"sta"], "a section is cut off"),
        ([PARTS[0], PARTS[1][:-1]], "a section is cut off"),
        ([PARTS[0], PARTS[4] * (snapshot.MOST_SECTIONS + 1)], "more than 65536 sections"),
        ([b"x" * 100], "it is not a snapshot of corepy"),
        ([b""], "it is not a snapshot of corepy"),
    ],
)
def test_other_mistakes(parts, problem):
    with pytest.raises(InvalidSnapshot, match=problem):
        parse(b"".join(state_files.with_digest(parts)))


@pytest.mark.parametrize(
    ("now", "passed"),
    [
        (Clocks(15 * SECOND, 13 * SECOND, BOOT), 10),
        (Clocks(25 * SECOND, 13 * SECOND, BOOT), 20),  # set forward, or another time namespace
        (Clocks(1 * SECOND, 13 * SECOND, BOOT), 10),  # set back
        (Clocks(15 * SECOND, 1 * SECOND, BOOT), 10),
        (Clocks(15 * SECOND, 99 * SECOND, OTHER_BOOT), 10),
        (Clocks(15 * SECOND, 99 * SECOND, UNKNOWN), 10),
        (Clocks(4 * SECOND, 99 * SECOND, OTHER_BOOT), None),
        (Clocks(4 * SECOND, 1 * SECOND, BOOT), None),
    ],
)
def test_the_time_that_has_passed_is_never_underestimated(now, passed):
    before = Clocks(5 * SECOND, 3 * SECOND, BOOT)
    if passed is None:
        with pytest.raises(InvalidSnapshot, match="from the future"):
            now.seconds_since(before)
    else:
        assert now.seconds_since(before) == pytest.approx(passed)


def test_boots_that_are_not_known_are_not_equal():
    before, now = (Clocks(5 * SECOND, boot * SECOND, UNKNOWN) for boot in (3, 99))
    assert now.seconds_since(before) == 0


def test_the_clocks_of_this_machine():
    before = Clocks.now()
    assert 0 <= Clocks.now().seconds_since(before) < 600
    assert len(before.boot_id) == 16


def test_a_file_is_written_and_read(tmp_path):
    path = tmp_path / "state"
    assert state_files.read(path, BOTH) is None
    for _ in range(2):
        state_files.write(path, PARTS)
        assert path.read_bytes() == WHOLE
    assert state_files.read(path, BOTH) == parse(WHOLE)
    assert path.stat().st_mode & 0o777 == 0o600
    state_files.write(path, [b"invalid"], lambda: False)
    assert [it.name for it in tmp_path.iterdir()] == ["state"]
    assert path.read_bytes() == WHOLE
    state_files.remove(path)
    state_files.remove(path)
    assert list(tmp_path.iterdir()) == []


def truncate(path):
    os.truncate(path, 100)


def link(path):
    path.rename(path.with_name("target"))
    path.symlink_to("target")


def make_folder(path):
    path.unlink()
    path.mkdir()


def make_fifo(path):
    path.unlink()
    os.mkfifo(path)


def enlarge(path):
    os.truncate(path, 1 << 40)  # sparse


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (truncate, "it is damaged or cut off"),
        (link, "it is a symbolic link"),
        (make_folder, "it is not a regular file"),
        (make_fifo, "it is not a regular file"),
        (lambda path: path.chmod(0o620), "other users may write it"),
        (lambda path: path.chmod(0o602), "other users may write it"),
        (enlarge, "it has 1099511627776 bytes, more than 1073741829"),
        (lambda path: path.write_bytes(b""), "it is not a snapshot of corepy"),
        (lambda path: path.write_text("#!/bin/sh"), "it is not a snapshot of corepy"),
    ],
    ids=["cut", "link", "folder", "fifo", "group", "others", "huge", "empty", "script"],
)
def test_a_file_that_is_not_to_be_trusted(tmp_path, change, problem):
    path = tmp_path / "state"
    state_files.write(path, PARTS)
    change(path)
    with pytest.raises(InvalidSnapshot, match=problem):
        state_files.read(path, BOTH)


@pytest.mark.parametrize(("owner", "is_trusted"), [(1000, True), (0, True), (1001, False)])
def test_the_owner_of_a_file(tmp_path, monkeypatch, owner, is_trusted):
    path = tmp_path / "state"
    state_files.write(path, PARTS)
    status = list(path.stat())
    status[stat.ST_UID] = owner
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result(status))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if is_trusted:
        assert state_files.read(path, BOTH)
    else:
        with pytest.raises(InvalidSnapshot, match="it belongs to another user"):
            state_files.read(path, BOTH)


@pytest.mark.parametrize("change", [link, make_folder, make_fifo], ids=lambda it: it.__name__)
def test_other_files_are_not_replaced(tmp_path, change):
    path = tmp_path / "state"
    state_files.write(path, PARTS)
    change(path)
    before, descriptors = path.lstat(), open_files()
    for attempt in (lambda: state_files.write(path, PARTS), lambda: state_files.remove(path)):
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on the kind of file
            attempt()
    assert path.lstat() == before
    assert open_files() <= descriptors


def test_a_file_with_another_content_is_not_replaced(tmp_path):
    path = tmp_path / "passwd"
    path.write_text("root:x:0:0")
    with pytest.raises(FileExistsError, match="not a snapshot"):
        state_files.write(path, PARTS)
    assert path.read_text() == "root:x:0:0"
    path.write_text("")
    state_files.write(path, PARTS)
    assert state_files.read(path, BOTH)


def test_a_failed_write_leaves_the_file_and_no_other(tmp_path):
    path = tmp_path / "state"
    state_files.write(path, PARTS)

    def parts():
        yield PARTS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        state_files.write(path, parts())
    assert path.read_bytes() == WHOLE
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("selection", "states"),
    [
        (Selection({b"i" * 32}, 5), [b"state"]),
        (Selection({b"i" * 32, b"j" * 32}, 4), [None, b""]),
        (Selection({b"j" * 32}, 0), [b""]),
        (Selection(set(), 0), []),
    ],
    ids=["one", "large", "other", "none"],
)
def test_sections_that_no_block_wants_do_not_count(tmp_path, selection, states):
    path = tmp_path / "state"
    state_files.write(path, PARTS)
    found = state_files.read(path, selection)
    assert found is not None
    assert [it.state for it in found.sections] == states


@pytest.mark.parametrize("at", [0, 9, 50, 100, -1])
def test_damage_of_a_file_is_found_wherever_it_is(tmp_path, at):
    path, damaged = tmp_path / "state", bytearray(WHOLE)
    damaged[at] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InvalidSnapshot):
        state_files.read(path, Selection(set(), 1000))


def test_a_file_with_a_section_that_is_cut_off(tmp_path):
    path = tmp_path / "state"
    state_files.write(path, [PARTS[0], PARTS[1], b"sta"])
    with pytest.raises(InvalidSnapshot, match="a section is cut off"):
        state_files.read(path, BOTH)


def test_a_snapshot_in_memory():
    descriptor = state_memory.write(state_files.with_digest(PARTS))
    try:
        found = state_memory.read(descriptor, len(WHOLE))
        with pytest.raises(OSError, match="not permitted"):
            os.write(descriptor, b"x")
        with pytest.raises(OSError, match="not permitted"):
            os.truncate(descriptor, 5)
        with pytest.raises(InvalidSnapshot, match="bytes, not 1 to"):
            state_memory.read(descriptor, len(WHOLE) - 1)
    finally:
        os.close(descriptor)
    assert found == parse(WHOLE)


def test_a_file_that_could_be_shortened_is_not_mapped(tmp_path):
    with open(os.memfd_create("x", os.MFD_ALLOW_SEALING), "wb") as file:
        file.write(WHOLE)
        file.flush()
        with pytest.raises(InvalidSnapshot, match="it is not sealed"):
            state_memory.read(file.fileno(), 1000)
    with (tmp_path / "file").open("w+b") as file, pytest.raises(InvalidSnapshot):
        state_memory.read(file.fileno(), 1000)


def test_a_file_in_memory_that_is_not_complete_is_closed():
    def parts():
        yield b"x"
        raise OSError(28, "No space left on device")

    before = open_files()
    with pytest.raises(OSError, match="No space"):
        state_memory.write(parts())
    assert open_files() <= before


def test_the_store_of_the_supervisor_keeps_the_last_state():
    store = Store(lambda _: None, os.urandom(8).hex())
    manager = Manager({"NOTIFY_SOCKET": store.path})
    try:
        assert store.descriptors == {}
        for content in (b"one", b"two"):
            descriptor = state_memory.write([content])
            manager.keep_state(descriptor)
            os.close(descriptor)
        told = [it.fields for it in store.receive(lambda _: True)]
        assert [it["FDNAME"] for it in told] == [STATE] * 4
        assert list(store.descriptors) == [STATE]
        assert os.pread(store.descriptors[STATE], 9, 0) == b"two"
        assert store.sockets == {}
        manager.release_state()
        for it in store.receive(lambda _: True):
            store.remove(it.fields["FDNAME"])
        assert store.descriptors == {}
    finally:
        store.forget_state()
        store.close()


def test_the_inherited_state_is_found_by_its_name():
    environment = {
        "LISTEN_FDS": "3",
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDNAMES": f"udp-127.0.0.1-53:{STATE}:other",
    }
    assert take_state(environment) == 4
    assert take_state({**environment, "LISTEN_PID": "1"}) is None
    assert take_state({**environment, "LISTEN_FDNAMES": "a:b"}) is None
    assert take_state({}) is None


class Keeping(StatefulHandler):
    """A handler whose state is a text."""

    name = "keeping"
    cacheability = Cacheability.SAFE
    text = b"empty"

    def dump_state(self, most):
        yield self.text[:2]
        yield self.text[2:]

    def load_state(self, state, elapsed):
        assert 0 <= elapsed < 600
        yield
        self.text = bytes(state)
        return "a text"

    async def serve_dns(self, request):
        return request.error(0)


class Keeper(Manager):
    """A service manager that keeps the state."""

    keeps_sockets = True

    def __init__(self):
        super().__init__({})
        self.kept: Any = None
        self.is_stopped = False

    def keep_state(self, descriptor):
        if self.release_state():
            self.kept = os.dup(descriptor)
        return not self.is_stopped

    def release_state(self):
        if not self.is_stopped and self.kept is not None:
            os.close(self.kept)
            self.kept = None
        return not self.is_stopped


def generation(zone="example.org"):
    plugins = with_handlers(keeping=Keeping)
    return build(corefile.parse(f"{zone} {{\nkeeping\n}}\n", "Corefile"), 0, plugins)


def handler_of(found):
    ((_, handler),) = found.blocks[0].stateful()
    return handler


def test_the_state_in_memory_passes_to_the_next_process():
    async def run():
        manager, first, second, third = Keeper(), generation(), generation(), generation("com")
        keeping = Snapshots(manager, ProcessGroup())
        assert await keeping.restore(first) == []
        handler_of(first).text = b"content"
        await keeping.discard()  # nothing is kept yet
        keeping.start(first)
        await keeping.stop()
        assert keeping.descriptor is None
        for other, text in ((second, b"content"), (third, b"empty")):
            following = Snapshots(manager, ProcessGroup(), os.dup(manager.kept))
            lines = await following.restore(other)
            assert handler_of(other).text == text
            assert len(lines) == 1
            assert not following.is_revoked
        assert not await Snapshots(manager, ProcessGroup()).restore(second)
        following.start(third)
        late = Snapshots(manager, ProcessGroup(), os.dup(following.descriptor or 0))
        await following.discard()
        assert (manager.kept, late.is_revoked) == (None, True)
        lines = await late.restore(second)
        assert lines[0].endswith("the process before is ignored")
        await following.stop()
        os.close(manager.kept)

    asyncio.run(run())


def test_a_step_that_fails_is_repeated(caplog):
    async def run():
        done = asyncio.Event()

        async def step():
            if not caplog.records:
                raise ZeroDivisionError
            done.set()
            return 600.0

        schedule = Schedule("counting", step)
        schedule.start(0.0)
        schedule.start(0.0)
        await done.wait()
        await schedule.stop()
        await schedule.stop()

    asyncio.run(run())
    (record,) = caplog.records
    assert record.getMessage().startswith("counting has failed")


def test_a_new_manager_gets_the_state_again_and_large_ones_are_written_less_often(monkeypatch):
    async def run():
        manager, first = Keeper(), generation()
        keeping = Snapshots(manager, ProcessGroup())
        keeping.send_again()
        assert not manager.kept
        keeping.start(first)
        assert await keeping._write_memory() == snapshots.MEMORY_INTERVAL
        monkeypatch.setattr(snapshots, "BYTES_PER_SECOND", 1)
        assert keeping.descriptor is not None
        seconds = await keeping._write_memory()
        assert seconds == os.fstat(keeping.descriptor).st_size == 119
        manager.release_state()
        keeping.send_again()
        assert manager.kept is not None
        await keeping.stop()
        manager.release_state()

    asyncio.run(run())


def test_a_state_that_is_discarded_while_it_is_written_is_not_kept(monkeypatch):
    async def run():
        manager, first = Keeper(), generation()
        keeping = Snapshots(manager, ProcessGroup())
        keeping.start(first)

        def dump(most):
            yield b""
            discarding.append(asyncio.ensure_future(keeping.discard()))
            yield b""
            yield b""

        discarding: list[Any] = []
        monkeypatch.setattr(manager, "release_state", lambda: None)
        handler_of(first).dump_state = dump
        await keeping._write_memory()
        await asyncio.gather(*discarding)
        assert manager.kept is None
        await keeping._memory.stop()

    asyncio.run(run())


def test_what_a_stopped_manager_keeps_is_discarded():
    """It does not get the later files, nor the request to remove the one that it has."""

    async def run():
        manager = Keeper()
        keeping = Snapshots(manager, ProcessGroup())
        keeping.start(generation())
        before = open_files()
        await keeping._write_memory()
        assert len(open_files() - before) == 2  # the manager's and this one
        manager.is_stopped = True
        for _ in range(3):
            await keeping._write_memory()
        assert len(open_files() - before) == 3
        await keeping.discard()
        assert state_memory.is_revoked(manager.kept)
        assert len(open_files() - before) == 1
        await keeping._write_memory()
        manager.is_stopped = False
        await keeping._write_memory()
        assert not state_memory.is_revoked(manager.kept)
        assert len(open_files() - before) == 2
        await keeping._memory.stop()
        keeping._close_memory()
        manager.release_state()
        assert open_files() <= before

    asyncio.run(run())


def test_no_failure_prevents_a_start_or_a_stop(caplog, monkeypatch):
    async def run():
        def fail(*_):
            raise ZeroDivisionError

        monkeypatch.setattr(state_memory, "read", fail)
        descriptor = state_memory.write([WHOLE])
        keeping = Snapshots(Keeper(), ProcessGroup(), descriptor)
        await keeping.restore(generation())
        monkeypatch.setattr(Keeper, "keep_state", fail)
        keeping.start(generation())
        await keeping.stop()

    asyncio.run(run())
    first, second = (it.getMessage() for it in caplog.records)
    assert first == "the state of the process before is ignored: ZeroDivisionError"
    assert second.startswith("the state is not kept: ZeroDivisionError")


def test_a_bad_state_in_memory_costs_one_warning(caplog):
    async def run():
        descriptor = state_memory.write([WHOLE[:-1]])
        lines = await Snapshots(Keeper(), ProcessGroup(), descriptor).restore(generation())
        assert lines[0].endswith("starts empty: the process before is ignored")
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)

    asyncio.run(run())
    assert [it.getMessage() for it in caplog.records] == [
        "the state of the process before is ignored: it is damaged or cut off"
    ]
