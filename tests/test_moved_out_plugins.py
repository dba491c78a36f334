"""Plugins of the tree, moved into a distribution of their own, work as well as inside.

*errors*, *loadbalance*, *cache* and *minimal* are copied, renamed, built, and installed with pip
beside corepy. The same queries then get the same answers, at the same cost: what is counted are
function calls in the event loop's thread, so a busy machine makes no difference.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOVED = {
    "errors": ("watch", 'before = ("stash",)'),
    "loadbalance": ("spread", 'before = ("stash",)'),
    "cache": ("stash", ""),
    "minimal": ("slim", 'after = ("cache", "stash")'),
}
"""The new names, and the places in the chain that the old names have without saying so."""

PROJECT = """
[project]
name = "corepy-moved"
version = "1.0"
dependencies = ["corepy-dns"]

[project.entry-points."corepy.plugins"]
{entries}

[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = [{packages}]
"""
SCRIPT = """
import json, sys, time
from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.chain_task import task_set_aside
from corepy.testing import Upstream, query, serve

RECORDS = {
    "www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN A 192.0.2.2"],
}
PEER = ("127.0.0.1", 40000)


def calls(server, name):
    # Count the calls of a hit in the chain, not in the packet cache.
    def run():
        (endpoint,) = server.server.endpoints.values()
        pipeline = endpoint.listener("udp").pipeline
        runner = ChainRunner(lambda task, reply: None)
        message, count = query(name), 0

        def note(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        ask = lambda: pipeline.begin(message, time.monotonic(), PEER, PEER, runner)
        assert ask() is not None
        sys.setprofile(note)
        for _ in range(100):
            ask()
        sys.setprofile(None)
        return count

    def apart():
        with task_set_aside():
            return run()

    return server.call(apart)


def misses(server):
    count = 0

    def note(frame, event, argument):
        nonlocal count
        module = frame.f_globals.get("__name__", "")
        count += event == "call" and not module.startswith(("asyncio", "selectors"))

    server.call(sys.setprofile, note)
    for number in range(50):
        server.ask(f"{number}.example.org")
    server.call(sys.setprofile, None)
    return count


def look(text):
    with Upstream(RECORDS) as upstream:
        with serve(text.replace("UPSTREAM", upstream.to)) as server:
            answers = []
            for name in ("www.example.org", "no.example.org", "www.example.org"):
                reply = server.ask(name)
                rdata = sorted(str(rr.rdata) for rr in reply.rr)
                answers.append([reply.header.rcode, rdata, len(reply.auth)])
            (endpoint,) = server.server.endpoints.values()
            kept = server.call(lambda: len(endpoint.listener("udp").pipeline.packets.entries))
            (route,) = endpoint.listener("udp").pipeline.router.routes
            return {
                "answers": answers,
                "kept": kept,
                "obstacle": route.obstacle,
                "observing": len(route.observing_handlers),
                "hit": calls(server, "www.example.org"),
                "miss": misses(server),
            }


print(json.dumps([look(text) for text in sys.argv[1:]]))
"""
FAST = ". {\nbind 127.0.0.1\nerrors\ncache\nminimal\nforward . UPSTREAM\n}"
SHUFFLED = ". {\nbind 127.0.0.1\nloadbalance\ncache\nforward . UPSTREAM\n}"


def moved(text):
    """A Corefile with the new names of the directives."""
    lines = text.split("\n")
    return "\n".join(MOVED[line][0] if line in MOVED else line for line in lines)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder in which the distribution with the moved plugins is installed."""
    source = tmp_path_factory.mktemp("moved")
    for old, (new, place) in MOVED.items():
        package = ROOT / "plugins" / old / f"corepy_{old}"
        for path in package.rglob("*.py"):
            target = source / f"corepy_{new}" / path.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text().replace(f"corepy_{old}", f"corepy_{new}")
            target.write_text(text.replace(f'ClassVar[str] = "{old}"', f'ClassVar[str] = "{new}"'))
        with (source / f"corepy_{new}" / "__init__.py").open("a") as init:
            init.write(f"\n{place}\n")
    new_names = [new for new, _ in MOVED.values()]
    project = PROJECT.format(
        entries="\n".join(f'{name} = "corepy_{name}"' for name in new_names),
        packages=", ".join(f'"corepy_{name}"' for name in new_names),
    )
    (source / "pyproject.toml").write_text(project)
    folder = source / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    subprocess.run([*pip, "--no-build-isolation", "--target", str(folder), str(source)], check=True)
    return folder


def look(site, *corefiles):
    """Run servers in a process that finds the moved plugins."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *corefiles],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_plugins_outside_work_as_inside(site):
    fast, shuffled = look(site, FAST, SHUFFLED)
    fast_outside, shuffled_outside = look(site, moved(FAST), moved(SHUFFLED))
    for inside, outside in ((fast, fast_outside), (shuffled, shuffled_outside)):
        assert inside["answers"] == outside["answers"]
        assert outside["hit"] <= inside["hit"] * 1.02
        assert outside["miss"] <= inside["miss"] * 1.1
    assert fast["answers"][0] == [0, ["192.0.2.1", "192.0.2.2"], 0]
    assert fast["kept"] == fast_outside["kept"] > 0
    assert fast_outside["obstacle"] is None
    assert fast_outside["observing"] == 1
    assert shuffled_outside["obstacle"] == "spread"
