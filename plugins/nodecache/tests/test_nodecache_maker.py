"""The parts of the effective Corefile at the start and later: each problem counts once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from corepy.plugin import CorefileError
from corepy.testing import MountedConfigMap
from corepy_nodecache import metrics
from corepy_nodecache.node_cache.corefile_maker import CorefileMaker
from corepy_nodecache.node_cache.flags import read_flags
from corepy_nodecache.node_cache.sync import Sync

TEMPLATE = """\
.:53 {
    bind __PILLAR__LOCAL__DNS__
    forward . __PILLAR__UPSTREAM__SERVERS__
}
here.test:53 {
    bind __PILLAR__LOCAL__DNS__
    whoami
}
"""
GOOD = '{"good.test": ["192.0.2.1"]}'


def errors() -> float:
    return float(metrics.setup_errors.labels("configmap").value)


class Files:
    """Template, ConfigMap and output, and a maker with the flags for them."""

    def __init__(self, folder: Path) -> None:
        self.template = folder / "Corefile.base"
        self.template.write_text(TEMPLATE)
        self.kube_dns = MountedConfigMap(folder / "kube-dns")
        options, _ = read_flags(
            [
                "-localip=169.254.20.10", f"-basecorefile={self.template}",
                f"-kubednscm={self.kube_dns.folder}", f"-conf={folder}/Corefile",
            ],
            {},
        )  # fmt: skip
        self.output = Path(options.output)
        self.maker = CorefileMaker(options, {})

    def later(self) -> str:
        """Make the Corefile as after a change; return its text."""
        candidate = self.maker.candidate(self.maker.look())
        self.maker.report(candidate.problems)
        assert candidate.corefile is not None
        return candidate.corefile.text


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem", "is_used"),
    [
        ({"stubDomains": "{"}, "stubDomains: invalid JSON", False),
        ({"stubDomains": GOOD, "upstreamNameservers": '["1.1.1.1", '}, "invalid JSON", False),
        (
            {"stubDomains": GOOD, "upstreamNameservers": str(["192.0.2.9"] * 4).replace("'", '"')},
            "upstreamNameservers: 4 name servers, but at most 3 are allowed",
            False,
        ),
        ({"stubDomains": '{"good.test": [], "No_Domain": []}'}, "invalid domain name", False),
        ({"stubDomains": '{"good.test": ["ns.good.test"]}'}, "invalid name server", False),
        ({"stubDomains": f'{GOOD[:-1]}, "a.test": []}}'}, "the list of name servers is", True),
        (
            {"stubDomains": f'{GOOD[:-1]}, "here.test": ["192.0.2.1"]}}'},
            "the template has a server block for here.test",
            True,
        ),
    ],
)
@pytest.mark.parametrize("is_start", [True, False])
def test_a_problem_of_the_config_map(
    is_start: bool,
    content: dict[str, str],
    problem: str,
    is_used: bool,
    files: Files,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It neither stops the start nor the service; the repaired ConfigMap is used."""
    before = errors()
    if is_start:
        files.kube_dns.swap(**content)
        text = files.maker().text
    else:
        assert "good.test" not in files.maker().text
        files.kube_dns.swap(**content)
        text = files.later()
    assert ("good.test:53 {" in text) is is_used
    assert files.later() == text
    assert errors() == before + 1
    assert [problem in it for it in caplog.messages] == [True]
    files.kube_dns.swap(stubDomains=GOOD, upstreamNameservers='["192.0.2.9"]')
    text = files.later()
    assert "good.test:53 {" in text
    assert "    forward . 192.0.2.9\n" in text
    assert errors() == before + 1


def test_a_broken_config_map_keeps_the_last_good_one(files: Files) -> None:
    """Also where the template changes meanwhile."""
    files.kube_dns.swap(stubDomains=GOOD)
    first = files.maker().text
    files.kube_dns.swap(stubDomains="{")
    assert files.later() == first
    files.template.write_text(TEMPLATE.replace("whoami", "erratic"))
    assert files.later() == first.replace("whoami", "erratic")


def test_a_broken_template_has_no_corefile(files: Files) -> None:
    """So that nothing takes the place of the Corefile in use."""
    files.maker()
    files.template.write_text(TEMPLATE.removesuffix("}\n"))
    candidate = files.maker.candidate(files.maker.look())
    assert candidate.corefile is None
    assert isinstance(candidate.error, CorefileError)


def follow(files: Files, meanwhile: str, is_loaded: bool) -> None:
    """Serve, change the template, and let a signal reload `meanwhile` beside the reload for it."""
    files.maker()
    files.template.write_text(TEMPLATE.replace("whoami", "erratic"))

    async def reload(_reason: str) -> bool:
        first = files.maker()
        files.template.write_text(meanwhile)
        assert files.maker() is first
        return is_loaded

    asyncio.run(Sync(files.maker)._check(reload))


BROKEN = TEMPLATE.replace("whoami", "whoam")


def test_the_corefile_in_use_is_written_whatever_a_signal_reloads_meanwhile(files: Files) -> None:
    follow(files, BROKEN, is_loaded=True)
    assert "erratic" in files.output.read_text()
    assert "whoam" in files.maker().text


def test_a_reload_that_fails_writes_nothing(files: Files) -> None:
    follow(files, TEMPLATE, is_loaded=False)
    assert not files.output.exists()
    assert "whoami" in files.maker().text


def test_the_last_good_corefile_need_not_be_utf_8(tmp_path: Path) -> None:
    """A template with a comment in Latin-1 is served, so its Corefile is also a last good one."""
    before = Files(tmp_path)
    before.template.write_bytes(b"# caf\xe9\n" + TEMPLATE.encode())
    text = before.maker().text
    asyncio.run(Sync(before.maker)._accept(before.maker.offered))
    assert b"# caf\xe9\n" in before.output.read_bytes()
    after = Files(tmp_path)
    after.template.write_text(BROKEN)
    assert after.maker().text == text


def test_the_corefile_is_on_the_disk_before_it_gets_its_name(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power failure may leave an empty file in the place of the last good one."""
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").read_text())
        fsync(descriptor)

    def renamed(source: str, target: str) -> None:
        assert synced == [Path(source).read_text()]
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "rename", renamed)
    made = files.maker()
    asyncio.run(Sync(files.maker)._accept(made))
    assert [files.output.read_text()] == synced == [made.text]
