"""The program `node-cache` as a process, without the interface and the rules: files and signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from corepy.testing import Command
from corepy.testing.command import wait_until
from corepy.testing.netns import host, isolated
from corepy_nodecache.node_cache.corefile_template import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROGRAM = [sys.executable, "-c", "from corepy_nodecache.node_cache import script; exit(script())"]
NO_CHANGES = ("-setupinterface=false", "-setupiptables=false", "-metrics-listen-address=")
GOOD = ". {\n    bind __PILLAR__LOCAL__DNS__\n    whoami\n}\n"
OTHER = ". {\n    bind __PILLAR__LOCAL__DNS__\n    erratic\n}\n"
BROKEN = GOOD.replace("whoami", "whoam")
SERVED, SERVFAIL = 0, 2


def start(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
    )


def ended(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[int, str]:
    with start(*arguments, env=env, cwd=cwd) as process:
        output = process.communicate(timeout=100)[0]
    return process.returncode, output


class Place:
    """The folder of one test: template, ConfigMap and output."""

    def __init__(self, folder: Path) -> None:
        self.template = folder / "Corefile.base"
        self.kube_dns = folder / "kube-dns"
        self.output = folder / "Corefile"
        self.flags = (
            "-localip=127.0.0.1", "-dns.port=0", *NO_CHANGES,
            f"-basecorefile={self.template}", f"-kubednscm={self.kube_dns}",
        )  # fmt: skip

    @contextlib.contextmanager
    def server(self, *flags: str, output: str = "-conf") -> Iterator[Command]:
        process = start(*self.flags, f"{output}={self.output}", *flags)
        server = Command(process, self.output)
        try:
            server.wait_for("corepy-")
            yield server
        finally:
            server.end()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    found.template.write_text(GOOD)
    return found


def rcode(server: Command, name: str) -> int:
    return int(server.ask(name).header.rcode)


def test_updates_of_template_and_config_map(place: Place) -> None:
    """Without *reload* in the template; a broken file changes neither the server nor the output."""
    stubs = place.kube_dns / "stubDomains"
    with place.server(output="-corefile") as server:  # node-cache serves whoami everywhere then
        wait_until(place.output.exists)
        text = place.output.read_text()
        assert text.startswith(f"{HEADER}{place.template}")
        assert "bind 127.0.0.1\n    whoami\n}\n" in text
        assert rcode(server, "a.stub.test") == SERVED

        place.kube_dns.mkdir()  # a folder that appears later
        stubs.write_text('{"stub.test":\n  ["127.0.0.1:1", 7]}')
        server.wait_for(f"{stubs}:1: stubDomains['stub.test']: 7 is not a string")
        stubs.write_text('{"stub.test": ["127.0.0.1:1"]}')
        server.wait_for("Reloading complete")
        assert (rcode(server, "a.stub.test"), rcode(server, "test")) == (SERVFAIL, SERVED)
        wait_until(lambda: "stub.test:0 {" in place.output.read_text())

        before = place.output.read_text()
        place.template.write_text(BROKEN)
        server.wait_for(f"{place.template}:3:5: unknown directive 'whoam'")
        server.wait_for("the new Corefile is tried again in 5s, or after a change")
        assert (rcode(server, "a.stub.test"), rcode(server, "test")) == (SERVFAIL, SERVED)
        assert place.output.read_text() == before

        stubs.write_text("{")  # the template goes on with the last good ConfigMap
        place.template.write_text(OTHER)
        server.wait_for("Reloading complete", times=2)
        wait_until(lambda: "erratic" in place.output.read_text())
        assert rcode(server, "a.stub.test") == SERVFAIL
        server.send_signal(signal.SIGUSR1)
        server.wait_for("Reloading complete", times=3)
        assert rcode(server, "a.stub.test") == SERVFAIL
        server.send_signal(signal.SIGHUP)
        assert rcode(server, "a.stub.test") == SERVFAIL
        assert server.stop() == 0
        assert server.output.count("Reloading complete") == 3
    assert [it.name for it in place.output.parent.iterdir() if it.name.endswith(".new")] == []


def test_the_last_good_corefile_serves_while_the_template_is_broken(place: Place) -> None:
    pidfile = Path(f"{place.output}.pid")
    with place.server("-pidfile", str(pidfile)) as server:
        wait_until(place.output.exists)
        assert server.stop(signal.SIGQUIT) == 0
    assert not pidfile.exists()
    before = place.output.read_text()
    place.template.write_text(BROKEN)
    with place.server("-pidfile", str(pidfile)) as server:
        assert f"{place.template}:3:5: unknown directive 'whoam'" in server.output
        assert f"{place.output} is used in its place" in server.output
        assert rcode(server, "test") == SERVED
        assert pidfile.read_text() == f"{server.process.pid}\n"
        assert place.output.read_text() == before
        place.template.write_text(OTHER)
        server.wait_for("Reloading complete")
        wait_until(lambda: "erratic" in place.output.read_text())
        assert server.stop(signal.SIGINT) == 0
    assert not Path(f"{place.output}.pid").exists()


def test_without_a_template_the_corefile_is_used_and_not_changed(place: Place) -> None:
    """Charts that mount the Corefile itself at -conf."""
    place.template.unlink()
    place.output.write_text(GOOD)
    with place.server() as server:
        assert rcode(server, "test") == SERVED
        place.output.write_text(OTHER)
        server.wait_for("Reloading complete")
        place.output.write_text(BROKEN)  # reported after the one before was written, if it was
        server.wait_for("the new Corefile is tried again")
        assert server.stop() == 0
    assert place.output.read_text() == BROKEN


def test_an_output_that_cannot_be_written(place: Place) -> None:
    place.output = Path("/proc/no/such/Corefile")
    with place.server() as server:
        server.wait_for(f"cannot write {place.output}: No such file or directory; the server runs")
        assert rcode(server, "test") == SERVED


def test_a_start_that_fails(place: Place) -> None:
    """Exit code 1, and no Corefile."""
    place.template.write_text(GOOD.replace("whoami", "forward . __PILLAR__CLUSTER__DNS__"))
    conf = f"-conf={place.output}"
    found = ended(
        *place.flags, conf, "-upstreamsvc=up-stream", env={"UP_STREAM_SERVICE_HOST": "None"}
    )
    assert found == (
        1,
        f"{place.template}:3: __PILLAR__CLUSTER__DNS__: the variable UP_STREAM_SERVICE_HOST has no IP"
        " address; -upstreamsvc must name a Service of this namespace, and 'up-stream' is not one\n",
    )
    place.template.unlink()
    code, output = ended(*place.flags, conf)
    assert (code, output) == (
        1,
        f"cannot read the template {place.template}: No such file or directory;"
        " -basecorefile names the file\n",
    )
    assert not place.output.exists()


def test_a_port_in_use(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = ended(*place.flags, f"-dns.port={port}", f"-conf={place.output}")
    assert code == 1
    assert f"127.0.0.1:{port}" in output
    assert not place.output.exists()


@pytest.mark.parametrize(
    "arguments",
    [("-version",), ("-plugins",), ("-help",), ("-version", "-localip=169.254.20.10")],
    ids=" ".join,
)
@isolated
def test_flags_that_print_and_touch_nothing(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """With -localip, node-cache first writes the Corefile, adds the interface and opens 9353."""
    before = host("nft")
    template = tmp_path / "Corefile.base"
    template.write_text(GOOD)
    code, output = ended(*arguments, f"-basecorefile={template}", cwd=tmp_path)
    first = {"-version": "corepy-", "-plugins": "", "-help": "usage: node-cache -localip"}
    assert code == 0
    assert output.startswith(first[arguments[0]])
    assert list(tmp_path.iterdir()) == [template]
    assert host("nft") == before


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["-localips"], 2, "flag provided but not defined: -localips, did you mean -localip?"),
        (["-syncinterval=0"], 2, "invalid value '0' for -syncinterval: must be at least 1s"),
        (["-localip=x"], 1, "invalid value 'x' for -localip: 'x' is not an IP address to serve"),
        ([], 1, "-localip is missing: the addresses to serve, such as 169.254.20.10"),
    ],
)
def test_wrong_flags_end_the_program(arguments: list[str], code: int, output: str) -> None:
    assert ended(*arguments) == (code, f"node-cache: {output}; see node-cache -help\n")


def test_print_corefile(place: Place) -> None:
    arguments = (*place.flags, "-print-corefile", f"-conf={place.output}")
    with start(*arguments) as process:
        text = process.communicate(timeout=100)[0]
    assert process.returncode == 0
    assert text.startswith(
        f"{HEADER}{place.template}; changes here are lost.\n. {{\n    nodecache {{"
    )
    place.template.write_text(BROKEN)
    code, output = ended(*arguments)
    assert code == 1
    assert f"{place.template}:3:5: unknown directive 'whoam'" in output
    assert not place.output.exists()
