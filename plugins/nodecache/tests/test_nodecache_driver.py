"""Whether a kernel has the dummy driver, by its configuration and the lists of its modules."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import pytest

from corepy_nodecache import cli, survey
from corepy_nodecache.driver import lacks_dummy
from corepy_nodecache.survey import Step

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = os.uname().release
WITHOUT = b"CONFIG_NET=y\n# CONFIG_DUMMY is not set\nCONFIG_DUMMY_CONSOLE=y\n"
BUILT_IN, MODULE = (b"CONFIG_NET=y\nCONFIG_DUMMY=%s\n" % value for value in (b"y", b"m"))
CONFIG, BOOT = "proc/config.gz", f"boot/config-{RELEASE}"
DEP, BUILTIN = (f"lib/modules/{RELEASE}/modules.{name}" for name in ("dep", "builtin"))
LISTED = b"kernel/drivers/net/dummy.ko.xz:\nkernel/net/sched/sch_fq.ko:\n"
OTHERS = b"kernel/net/sched/sch_fq.ko:\n"


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        ({}, False),  # nothing tells
        ({CONFIG: gzip.compress(WITHOUT)}, True),
        ({CONFIG: gzip.compress(BUILT_IN)}, False),
        ({CONFIG: gzip.compress(MODULE)}, False),  # a container, without the host's modules
        ({CONFIG: b"cut off"}, False),
        ({CONFIG: gzip.compress(WITHOUT)[:-9]}, False),
        ({CONFIG: gzip.compress(WITHOUT)[:12] + b"\xff" * 20}, False),
        ({BOOT: WITHOUT}, True),
        ({BOOT: MODULE, DEP: LISTED, BUILTIN: OTHERS}, False),
        ({BOOT: MODULE, DEP: OTHERS, BUILTIN: OTHERS}, True),  # in another package
        ({BOOT: BUILT_IN, DEP: OTHERS, BUILTIN: LISTED}, False),
        ({DEP: OTHERS, BUILTIN: OTHERS}, True),
        ({DEP: OTHERS}, False),
    ],
)
def test_the_driver(tmp_path: Path, files: dict[str, bytes], lacks: bool) -> None:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert lacks_dummy(tmp_path) is lacks


@pytest.mark.parametrize(
    ("steps", "lacks", "said"),
    [
        ([Step("add", "interface nodecache"), Step("add", "address 192.0.2.1 on x")], True, True),
        ([Step("add", "interface nodecache")], False, False),
        ([Step("add", "address 192.0.2.1 on eth0")], True, False),
    ],
)
def test_a_plan_that_would_fail_says_so(
    steps: list[Step],
    lacks: bool,
    said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (path := tmp_path / "Corefile").write_text(".:5300 {\n nodecache\n whoami\n}\n")
    monkeypatch.setattr(survey, "steps", lambda *_: steps)
    monkeypatch.setattr(cli, "lacks_dummy", lambda: lacks)
    assert cli.main(["plan", "-conf", str(path)]) == 0
    out, errors = capsys.readouterr()
    assert steps[0].what in out
    expected = "a start would fail: this kernel has no dummy driver: load the module"
    assert (expected in errors) is said
