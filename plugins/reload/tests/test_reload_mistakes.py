"""Every kind of broken Corefile, dropped in under load: DNS, health and metrics go on."""

import asyncio
import re
from pathlib import Path

from corepy import corefile
from corepy.plugin import CorefileError, metrics
from corepy.server.build.builder import build
from corepy.testing import free_port, http_get, serve_file
from corepy.testing.command import wait_until
from corepy.testing.load import Load
from corepy_reload import watcher

FAILED = r"(?m)^coredns_reload_failed_total ([0-9.]+)$"
GOLDEN = Path(__file__).parents[3] / "tests" / "golden" / "mistakes.txt"


def mistakes():
    """Yield the Corefiles of the golden file that are refused; some are only warned of."""
    for case in GOLDEN.read_text().split("=== ")[1:]:
        content = case.partition("\n")[2].partition("\n---\n")[0]
        try:
            build(corefile.parse(content))
        except CorefileError:
            yield content


def failures():
    (found,) = [it for it in metrics.registered() if it.name == "coredns_reload_failed_total"]
    return found.labels().value


def test_nothing_is_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(watcher, "SETTLE", 0.01)
    monkeypatch.setattr(watcher, "PAUSE", 0.02)
    conf, health, scrape = tmp_path / "Corefile", free_port(), free_port()
    good = (
        f".:0 {{\n bind 127.0.0.1\n reload 1h 0s\n health 127.0.0.1:{health}\n"
        f" prometheus 127.0.0.1:{scrape}\n whoami\n}}\n"
    )
    conf.write_text(good)
    broken = list(mistakes())
    assert len(broken) >= 50

    def drop_in(content):
        before = failures()
        conf.with_name("new").write_text(content)
        conf.with_name("new").rename(conf)
        wait_until(lambda: failures() > before)
        assert http_get(health, "/health").text == "OK"
        at_least = failures()
        shown = re.search(FAILED, http_get(scrape, "/metrics").text)
        assert at_least <= float(shown[1]) <= failures()  # it may be tried again meanwhile

    async def main():
        async with serve_file(conf) as server:
            (endpoint,) = server.endpoints.values()
            generation = server.generation
            with Load(("127.0.0.1", endpoint.port), rate=300) as load:
                for content in broken:
                    await asyncio.to_thread(drop_in, content)
                await asyncio.to_thread(load.__exit__)
            assert server.generation is generation
        return load.outcome

    outcome = asyncio.run(main())
    assert outcome.sent > 100
    assert (outcome.unanswered, outcome.wrong) == (0, 0)
