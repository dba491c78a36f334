"""The compared servers: for each, its configuration for a `Setting` and its command.

A new peer is one class here and its name in `PEERS`. Every server is configured with one thread if
it can be, the same cache size, no validation, and no other work. `docs/benchmarks.md` lists the
remaining differences.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ask import free_port
from benchmarks.upstream import ADDRESS, ZONE, knot_config

if TYPE_CHECKING:
    from corepy.testing.certificates import Files

NODE_CACHE = "COREPY_BENCH_NODE_CACHE"
COREDNS = "COREPY_BENCH_COREDNS"
COMPILED = "COREPY_BENCH_COMPILED"
PACKET_CACHE = "COREPY_PACKET_CACHE"


@dataclass(frozen=True)
class Setting:
    """The requirements of a case for a server's configuration."""

    port: int
    upstream: int
    addresses: tuple[str, ...] = (ADDRESS,)
    cache_size: int = 10_000
    log: bool = False
    upstream_tcp: bool = False
    packet_cache: bool = True
    client_limit: int = 0
    """Queries a second of each client, more than it sends; 0 for no limit."""
    zone: Path | None = None
    """The file of the zone `benchmarks.upstream.ZONE` to serve instead of forwarding."""
    tls_port: int = 0
    """The port for DNS over TLS beside plain DNS; 0 for none."""

    https: bool = False
    """Whether that port is for DNS over HTTPS."""
    certificate: Files | None = None


@dataclass(frozen=True)
class Launch:
    """The command and environment of a configured server."""

    command: list[str]
    environment: dict[str, str]


class Server(ABC):
    """A server to compare; subclasses define its configuration and command."""

    name: str
    program: str
    version_flag = "--version"
    forwards = True
    serves_zones = False

    def takes_part(self, setting: Setting) -> bool:
        """Return whether the server is of the kind that the case compares."""
        return self.serves_zones if setting.zone else self.forwards

    def version(self) -> str:
        """Return the version that the program itself prints."""
        done = subprocess.run(
            [self.program, self.version_flag], capture_output=True, text=True, check=False
        )
        return parse_version(done.stdout + done.stderr)

    def unfit(self, setting: Setting) -> str | None:
        """Return why the server cannot run a case with this setting; None if it can."""
        return None

    def remark(self, log: str) -> str:
        """Return a remark for readers of the figures, from the server's output at start."""
        return ""

    @abstractmethod
    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Write the configuration into `folder` and return the command to start the server."""


def parse_version(text: str) -> str:
    """Return the first version number in `text`, "?" without one."""
    found = re.search(r"\d+\.\d+[\w.+-]*", text)
    return found[0] if found else "?"


def corefile(setting: Setting, *, metrics: bool) -> str:
    """Return the Corefile for CoreDNS and corepy."""
    scheme = "https" if setting.https else "tls"
    encrypted = f" {scheme}://.:{setting.tls_port}" if setting.certificate else ""
    lines = [
        f".:{setting.port}{encrypted} {{",
        f"    bind {' '.join(setting.addresses)}",
        *_certificate(setting),
        "    errors",
        *([f"    ratelimit {setting.client_limit}"] if setting.client_limit else []),
        *(["    log"] if setting.log else []),
        *([f"    prometheus {ADDRESS}:{free_port()}"] if metrics else []),
        *([f"    file {setting.zone} {ZONE}"] if setting.zone else _forwarding(setting)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _certificate(setting: Setting) -> list[str]:
    files = setting.certificate
    return [f"    tls {files.certificate} {files.key}"] if files else []


def _forwarding(setting: Setting) -> list[str]:
    return [
        "    cache {",
        f"        success {setting.cache_size}",
        "    }",
        f"    forward . {ADDRESS}:{setting.upstream}" + (" {" if setting.upstream_tcp else ""),
        *(["        force_tcp", "    }"] if setting.upstream_tcp else []),
    ]


class Corepy(Server):
    """The server of this project, run by the same interpreter as the benchmark."""

    name = "corepy"
    serves_zones = True

    def __init__(self, program: str = sys.executable) -> None:
        """`program` is the interpreter of the environment with corepy."""
        self.program = program

    def version(self) -> str:
        """Return the version, the interpreter with its kind of build, and the form."""
        return describe_version(_corepy(self.program, "-version"), _is_optimized(self.program))

    def remark(self, log: str) -> str:
        """Return whether the packet cache is on; the log has a line for each address."""
        states = {line.partition(": packet cache ")[2] for line in log.splitlines()} - {""}
        return f"packet cache {' and '.join(sorted(states))}" if states else "packet cache unknown"

    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Write a Corefile; it includes `prometheus` if that plugin is installed."""
        metrics = "prometheus" in _corepy(self.program, "-plugins").split()
        file = folder / "Corefile"
        file.write_text(corefile(setting, metrics=metrics))
        environment = {} if setting.packet_cache else {PACKET_CACHE: "off"}
        return Launch([*_command(self.program), "-conf", str(file)], environment)


class CompiledCorepy(Corepy):
    """The compiled form of the same source, in an environment of its own."""

    name = "corepy-compiled"


def _command(program: str) -> list[str]:
    # -P: the working directory may be a tree with another form.
    return [program, "-P", "-m", "corepy"]


@cache
def _corepy(program: str, flag: str) -> str:
    command = [*_command(program), flag]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


_BUILD = """\
import sysconfig
print(sysconfig.get_config_var("CONFIG_ARGS"), *sysconfig.get_scheme_names())
"""
_DEBIAN_OPTIMIZES = ("x86_64", "aarch64")


@cache
def _is_optimized(program: str) -> bool:
    done = subprocess.run([program, "-c", _BUILD], capture_output=True, text=True, check=True)
    return is_optimized_build(done.stdout, platform.machine())


def is_optimized_build(text: str, machine: str) -> bool:
    """Return whether an interpreter was built with profile-guided optimization.

    `text` has the arguments of its configure and the names of its installation schemes. Debian's
    interpreters have a scheme of their own; debian/rules optimizes them without that argument, on
    some architectures (Debian's changelog of python3.11).
    """
    if "--enable-optimizations" in text:
        return True
    return "deb_system" in text and machine in _DEBIAN_OPTIMIZES


def describe_version(text: str, is_optimized: bool) -> str:
    """Return a description from the output of `corepy -version`.

    `is_optimized`: the interpreter was built with profile-guided optimization, which saves CPU.
    """
    found = re.search(r", (\w+ [\d.]+\S*), (\w+), ", text)
    interpreter, form = found.groups() if found else ("?", "?")
    build = "with" if is_optimized else "without"
    return f"{parse_version(text)} ({form}, {interpreter} {build} PGO)"


class CoreDns(Server):
    """CoreDNS itself, with the same Corefile as corepy."""

    name = "coredns"
    version_flag = "-version"
    serves_zones = True

    def __init__(self, program: str) -> None:
        self.program = program

    def unfit(self, setting: Setting) -> str | None:
        """Return a reason if the binary was built without a plugin that the case needs."""
        if setting.zone and "file" not in self._plugins():
            return "was built without the plugin file"
        return None

    def _plugins(self) -> list[str]:
        done = subprocess.run(
            [self.program, "-plugins"], capture_output=True, text=True, check=False
        )
        return [line.strip().removeprefix("dns.") for line in done.stdout.splitlines()]

    def version(self) -> str:
        """Return its version and that of Go, which matters as much."""
        done = subprocess.run(
            [self.program, self.version_flag], capture_output=True, text=True, check=False
        )
        found = re.search(r"\bgo[\d.]+", done.stdout)
        return f"{parse_version(done.stdout)} ({found[0] if found else '?'})"

    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Write the Corefile."""
        file = folder / "Corefile"
        file.write_text(corefile(setting, metrics=True))
        return Launch([self.program, "-conf", str(file)], {})


class NodeCache(Server):
    """CoreDNS as shipped in NodeLocal DNSCache, or any server with the same flags."""

    name = "node-cache"
    version_flag = "-version"

    def __init__(self, program: str) -> None:
        self.program = program

    def version(self) -> str:
        """Return CoreDNS's version from the usage: -version alone needs the other flags, too."""
        done = subprocess.run([self.program, "-h"], capture_output=True, text=True, check=False)
        found = re.search(r"CoreDNS v(\S+)", done.stdout + done.stderr)
        return f"CoreDNS {found[1]}" if found else "?"

    def unfit(self, setting: Setting) -> str | None:
        """Return a reason if the case needs a plugin that node-cache lacks."""
        return "has no limit per client" if setting.client_limit else None

    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Write the template from which it makes its Corefile; change nothing on the host."""
        base = folder / "base" / "Corefile.base"
        base.parent.mkdir()
        base.write_text(corefile(setting, metrics=True))
        flags = {
            "localip": ",".join(setting.addresses),
            "setupinterface": "false",
            "setupiptables": "false",
            "skipteardown": "true",
            "metrics-listen-address": f"{ADDRESS}:{free_port()}",
            "dns.port": str(setting.port),
            "basecorefile": str(base),
            "conf": str(folder / "Corefile"),
        }
        return Launch([self.program, *(f"-{key}={value}" for key, value in flags.items())], {})


class Unbound(Server):
    """unbound as a caching forwarder, one thread, no validation."""

    name = "unbound"
    program = "unbound"
    version_flag = "-V"

    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Write unbound.conf; the cache limits, in bytes, fit every name of any case."""
        interfaces = "".join(
            f"    interface: {address}@{port}\n"
            for address in setting.addresses
            for port in filter(None, (setting.port, setting.tls_port))
        )
        if files := setting.certificate:
            interfaces += (
                f"    {'https' if setting.https else 'tls'}-port: {setting.tls_port}\n"
                f'    tls-service-pem: "{files.certificate}"\n'
                f'    tls-service-key: "{files.key}"\n'
            )
        file = folder / "unbound.conf"
        file.write_text(f"""\
server:
{interfaces}    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    logfile: ""
    log-queries: {"yes" if setting.log else "no"}
    num-threads: 1
    module-config: "iterator"
    do-not-query-localhost: no
    do-ip6: no
    tcp-upstream: {"yes" if setting.upstream_tcp else "no"}
    incoming-num-tcp: 100
    outgoing-range: 4096
    num-queries-per-thread: 4096
    ip-ratelimit: {setting.client_limit}
    msg-cache-size: 128m
    rrset-cache-size: 128m
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {ADDRESS}@{setting.upstream}
""")
        return Launch([self.program, "-d", "-c", str(file)], {})


class Dnsmasq(Server):
    """dnsmasq, configured by flags only."""

    name = "dnsmasq"
    program = "dnsmasq"

    def unfit(self, setting: Setting) -> str | None:
        """Return a reason if the case needs a feature that dnsmasq lacks."""
        if setting.client_limit:
            return "has no limit per client"
        if setting.certificate:
            return "has no DNS over TLS"
        return "cannot forward UDP queries over TCP" if setting.upstream_tcp else None

    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Return the flags; `folder` stays empty."""
        flags = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=" + ("root" if os.geteuid() == 0 else ""),
            "--log-facility=-",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            f"--port={setting.port}",
            f"--cache-size={setting.cache_size}",
            "--dns-forward-max=10000",
            f"--server={ADDRESS}#{setting.upstream}",
            *(f"--listen-address={address}" for address in setting.addresses),
            *(["--log-queries"] if setting.log else []),
        ]
        return Launch([self.program, *flags], {})


class Dnsdist(Server):
    """dnsdist with a packet cache: like corepy's, it answers without parsing records."""

    name = "dnsdist"
    program = "dnsdist"

    def unfit(self, setting: Setting) -> str | None:
        """Return a reason if the case needs a feature that dnsdist lacks."""
        return None if setting.packet_cache else "has no cache but its packet cache"

    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Write the Lua configuration; security polling is off, it would query other hosts."""
        first, *rest = (f'"{address}:{setting.port}"' for address in setting.addresses)
        files = setting.certificate
        tcp = "true" if setting.upstream_tcp else "false"
        lines = [
            'setSecurityPollSuffix("")',
            f"setLocal({first})",
            *(f"addLocal({address})" for address in rest),
            *(
                _dnsdist_encryption(f"{address}:{setting.tls_port}", files, https=setting.https)
                for address in (setting.addresses if files else ())
                if files
            ),
            f'upstream = newServer({{address="{ADDRESS}:{setting.upstream}", tcpOnly={tcp}}})',
            "upstream:setUp()",
            f'getPool(""):setCache(newPacketCache({setting.cache_size}, {{maxTTL=86400}}))',
            *(
                [f"addAction(MaxQPSIPRule({setting.client_limit}, 32, 64), DropAction())"]
                if setting.client_limit
                else []
            ),
            *(
                ['addAction(AllRule(), LogAction("", false, true, false, false, true))']
                if setting.log
                else []
            ),
        ]
        file = folder / "dnsdist.conf"
        file.write_text("\n".join(lines) + "\n")
        return Launch([self.program, "--supervised", "--disable-syslog", "-C", str(file)], {})


class Knot(Server):
    """knot with one thread for UDP and one for TCP, as the upstream is."""

    name = "knot"
    program = "knotd"
    forwards = False
    serves_zones = True

    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Write knot.conf."""
        assert setting.zone
        file = folder / "knot.conf"
        file.write_text(knot_config(folder, setting.addresses, setting.port, setting.zone))
        return Launch([self.program, "-c", str(file)], {})


class Nsd(Server):
    """nsd with one serving process, without its limit of responses per client network."""

    name = "nsd"
    program = "nsd"
    version_flag = "-v"
    forwards = False
    serves_zones = True

    def configure(self, setting: Setting, folder: Path) -> Launch:
        """Write nsd.conf; all of its state is in `folder`."""
        addresses = "".join(
            f"    ip-address: {address}@{setting.port}\n" for address in setting.addresses
        )
        file = folder / "nsd.conf"
        file.write_text(f"""\
server:
{addresses}    server-count: 1
    username: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: "{folder}/nsd.pid"
    zonelistfile: "{folder}/zone.list"
    xfrdfile: "{folder}/xfrd.state"
    xfrdir: "{folder}"
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: "{ZONE}"
    zonefile: "{setting.zone}"
""")
        return Launch([self.program, "-d", "-c", str(file)], {})


PEERS: tuple[type[Server], ...] = (Unbound, Dnsmasq, Dnsdist, Knot, Nsd)


def all_servers() -> list[Server]:
    """Return the servers to compare, those of this project first.

    The compiled form and node-cache take part only if the environment names them; CoreDNS if the
    environment names it or the PATH has it.
    """
    servers: list[Server] = [Corepy()]
    if compiled := os.environ.get(COMPILED):
        servers.append(CompiledCorepy(str(Path(compiled).absolute())))
    servers += [peer() for peer in PEERS]
    if coredns := os.environ.get(COREDNS) or shutil.which("coredns"):
        servers.append(CoreDns(str(Path(coredns).resolve())))
    if binary := os.environ.get(NODE_CACHE):
        servers.append(NodeCache(str(Path(binary).resolve())))
    return servers


def _dnsdist_encryption(address: str, files: Files, *, https: bool) -> str:
    start = f'"{address}", "{files.certificate}", "{files.key}"'
    return f'addDOHLocal({start}, {{"/dns-query"}})' if https else f"addTLSLocal({start})"
