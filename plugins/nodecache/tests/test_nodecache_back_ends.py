"""The back ends of nodecache with libraries and programs of a test: paths, locks, errors."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from corepy_nodecache import legacy, libiptc, lifecycle
from corepy_nodecache.legacy import LegacyTables
from corepy_nodecache.lifecycle import Nodecache
from corepy_nodecache.model import HostError
from corepy_nodecache.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("arch", ["x86_64-linux-gnu", None])
def test_where_libraries_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arch: str | None
) -> None:
    monkeypatch.setattr(
        libiptc, "_LIBRARY_FOLDERS", tuple(f"{tmp_path}/{it}" for it in ("{arch}", "usr", "lib"))
    )
    found: list[Any] = [None]
    monkeypatch.setattr(
        libiptc,
        "importlib",
        SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: found[0])),
    )
    monkeypatch.setattr(
        libiptc, "sysconfig", SimpleNamespace(get_config_var={"MULTIARCH": arch}.get)
    )
    assert libiptc._hints() == {}
    found[0] = SimpleNamespace(origin=None)
    assert libiptc._hints() == {}
    found[0] = SimpleNamespace(origin="/venv/site-packages/iptc/__init__.py")
    libraries = {"IPTABLES_LIBDIR": "/venv/site-packages"}
    assert libiptc._hints() == libraries
    for folder in ("lib", "usr", arch or ""):
        (tmp_path / folder / "xtables").mkdir(parents=True)
        extensions = tmp_path / folder / "xtables"
        assert libiptc._hints() == {**libraries, "XTABLES_LIBDIR": str(extensions)}


class Table:
    """A table of libiptc that notes how it is opened."""

    opened: list[tuple[object, ...]]
    error: Exception | None

    def __init__(self, name: str, *, autocommit: bool) -> None:
        self.opened.append((type(self).__name__, name, autocommit))

    def refresh(self) -> None:
        self.opened.append(("refresh",))
        if self.error is not None:
            raise self.error


class Table6(Table):
    pass


class IPTCError(Exception):
    pass


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    monkeypatch.setattr(Table, "opened", found, raising=False)
    monkeypatch.setattr(Table, "error", None, raising=False)
    library = SimpleNamespace(Table=Table, Table6=Table6, IPTCError=IPTCError)
    monkeypatch.setattr(legacy, "load_iptc", lambda: library)
    return found


def test_tables_are_written_as_a_whole(opened: list[tuple[object, ...]]) -> None:
    assert type(legacy._open(4, "raw")) is Table
    assert type(legacy._open(6, "filter")) is Table6
    assert opened == [
        ("Table", "raw", False), ("refresh",), ("Table6", "filter", False), ("refresh",)
    ]  # fmt: skip


@pytest.mark.usefixtures("opened")
def test_a_table_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "error", IPTCError("no such table"))
    for family, module in ((4, "iptable_raw"), (6, "ip6table_raw")):
        with pytest.raises(HostError) as caught:
            legacy._open(4 if family == 4 else 6, "raw")
        assert (caught.value.kind, str(caught.value)) == (
            "iptables",
            f"no legacy table raw for IPv{family}: no such table; the kernel needs {module}"
            " (modprobe it), or set: iptables nft",
        )


def test_how_long_blocks_wait_for_the_lock_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, waits = [0.0], []
    error = [HostError("iptables_lock", "held")]

    @contextlib.contextmanager
    def lock(wait: float) -> Iterator[None]:
        waits.append(wait)
        if error:
            raise error[0]
        yield

    monkeypatch.setattr(legacy, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(legacy, "xtables_lock", lock)
    tables = LegacyTables(lock_wait=7.0)

    def take(at: float) -> None:
        now[0] = at
        with contextlib.suppress(HostError), tables._lock():
            pass

    for at in (0.0, 0.3, 0.5, 0.75, 1.25):
        take(at)
    assert waits == [7.0, 7.0, 0, 0, 7.0]
    error[:] = [HostError("iptables", "no")]  # another failure is none of the lock
    take(2.0)
    take(2.0)
    assert waits[5:] == [7.0, 7.0]
    error.clear()
    take(3.0)
    take(3.0)
    assert waits[7:] == [7.0, 7.0]
    assert LegacyTables()._lock_wait == 2.0


@pytest.mark.parametrize("is_final", [False, True])
@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize(
    ("added", "served", "keeps"),
    [
        (None, None, True),  # it has not come to its addresses
        (False, False, True),
        (False, True, True),
        (True, False, False),  # a failed start removes what it has added
        (True, True, True),
    ],
)
def test_what_a_block_leaves_behind(
    is_final: bool, skips: bool, added: bool | None, served: bool | None, keeps: bool
) -> None:
    block = Nodecache(Settings(skip_teardown=skips))
    if added is not None and served is not None:
        block._added, block._served = added, served
    context: Any = SimpleNamespace(final=is_final)
    assert block._keeps(context) is (is_final and skips and keeps)
    assert lifecycle._Process().may_sweep
