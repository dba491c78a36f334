"""Reads the flags of node-cache, with the syntax of Go's flag package and from the environment.

The table has all flags of node-cache (cmd/node-cache/main.go) and of CoreDNS (coremain/run.go) that
the program has, and `-print-corefile`. The last flag wins, then comes the environment, then the
default.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from corepy.plugin import parse_boolean, suggest
from corepy_nodecache.node_cache.flag_values import READERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy_nodecache.node_cache.flag_values import Kind

PREFIX: Final = "COREPY_NODE_CACHE_"
"""The environment variable of a flag: this prefix, and its name in upper case with underscores."""

USAGE, FAILURE = 2, 1
"""Exit codes: Go's flag package exits with 2, node-cache's own checks exit with 1."""

_SERVICE: Final = re.compile(r"SERVICE_|PORT$|PORT_")
"""Variables that kubelet sets for a Service with the name corepy-node-cache."""

_SERVICE_PORT: Final = re.compile("(tcp|udp|sctp)://")
"""The value of a variable that ends in PORT, for any Service: one named corepy-node-cache-health
has the variable of -health-port."""

_NO_WORD: Final = re.compile(r'[\s"{}#\\]')
"""Characters that would make more or less than one word of the value in the Corefile."""


class FlagError(Exception):
    """The flags are wrong; the message names the flag or variable. `code` is the exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


class HelpRequestedError(Exception):
    """The arguments request the help."""


class Options(NamedTuple):
    """The values of the flags."""

    local_ips: tuple[str, ...] = ()
    setup_interface: bool = True
    interface: str = "nodelocaldns"
    setup_iptables: bool = True
    interval: float = 60.0
    """Seconds."""

    metrics_address: str = "0.0.0.0:9353"
    prometheus_address: str = ":9253"
    template: str = "/etc/coredns/Corefile.base"
    conf: str = ""
    corefile: str = "/etc/Corefile"
    kube_dns_folder: str = ""
    upstream_service: str = "kube-dns"
    health_port: int = 8080
    skip_teardown: bool = False
    reload_with_signal: bool = False
    port: int = 53
    pidfile: str = ""
    quiet: bool = False
    plugins: bool = False
    version: bool = False
    print_corefile: bool = False

    @property
    def output(self) -> str:
        """The file that gets the effective Corefile."""
        return self.conf or self.corefile


class Flag(NamedTuple):
    """A flag: its field in `Options`, its reader, and its help."""

    field: str
    kind: Kind
    help: str


FLAGS: Final = {
    "localip": Flag("local_ips", "addresses", "addresses to serve, separated by commas; required"),
    "setupinterface": Flag("setup_interface", "bool", "add the interface and the addresses"),
    "interfacename": Flag("interface", "interface", "name of the interface"),
    "setupiptables": Flag("setup_iptables", "bool", "add the rules"),
    "syncinterval": Flag(
        "interval", "interval", "interval between two checks of the host: seconds, or such as 1m30s"
    ),
    "metrics-listen-address": Flag(
        "metrics_address", "string", "second address of the metrics; empty for none"
    ),
    "prometheus-listen-address": Flag(
        "prometheus_address", "string", "replaces __PROMETHEUS__ENDPOINT__ in the template"
    ),
    "basecorefile": Flag("template", "string", "the template of the Corefile"),
    "corefile": Flag("corefile", "string", "file to write the Corefile to, without -conf"),
    "kubednscm": Flag(
        "kube_dns_folder", "string", "folder of kube-dns' ConfigMap, by default /etc/kube-dns"
    ),
    "upstreamsvc": Flag("upstream_service", "string", "Service of the cluster's DNS"),
    "health-port": Flag("health_port", "port", "port of health, for the rules"),
    "skipteardown": Flag("skip_teardown", "bool", "leave interface and rules when stopping"),
    "reloadwithsignal": Flag("reload_with_signal", "bool", "accepted; every change is reloaded"),
    "conf": Flag("conf", "string", "file to write the Corefile to"),
    "dns.port": Flag("port", "port", "port of zones without a port, of stub domains and rules"),
    "p": Flag("port", "port", "the same as -dns.port"),
    "pidfile": Flag("pidfile", "string", "keep the process ID in this file while running"),
    "quiet": Flag("quiet", "bool", "print no banner at the start"),
    "plugins": Flag("plugins", "bool", "list the installed plugins and quit"),
    "version": Flag("version", "bool", "show the version and quit"),
    "print-corefile": Flag("print_corefile", "bool", "print the effective Corefile and quit"),
}


def variable_of(name: str) -> str:
    """Return the environment variable of a flag."""
    return PREFIX + re.sub("[-.]", "_", name).upper()


def read_flags(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[Options, list[str]]:
    """Return the options, and warnings about values that are not used.

    Raises `FlagError`, or `HelpRequestedError`.
    """
    values, warnings = _from_environment(environment)
    values |= _from_arguments(arguments)
    if "metrics_address" in values:
        problem = _address_problem(values["metrics_address"])
        if problem:
            warnings.append(problem)
            values["metrics_address"] = ""
    return Options()._replace(**values), warnings


def _address_problem(text: str) -> str:
    """Return why there can be no metrics at an address, or "".

    It does not end the program, nor that of node-cache: a node without DNS is worse.
    """
    from corepy.http import check_address

    try:
        if _NO_WORD.search(text):
            raise ValueError(f"{text!r} is no address")
        if text:
            check_address(text)
    except ValueError as error:
        return f"-metrics-listen-address: {error}; the metrics have no second address"
    return ""


def require_addresses(options: Options) -> None:
    """Raise `FlagError` if there are no addresses to serve."""
    if not options.local_ips:
        message = "-localip is missing: the addresses to serve, such as 169.254.20.10"
        raise FlagError(message, FAILURE)


def _from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the variables; empty ones count as not set."""
    values: dict[str, Any] = {}
    warnings = []
    known = {variable_of(name): name for name in FLAGS if name != "p"}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX) or not text:
            continue
        if variable.endswith("_PORT") and _SERVICE_PORT.match(text):
            continue
        if variable in known:
            flag = FLAGS[known[variable]]
            values[flag.field] = _value(flag, text, variable)
        elif not _SERVICE.match(variable.removeprefix(PREFIX)):
            warnings.append(f"the variable {variable} names no flag{_near(variable, known)}")
    return values, warnings


def _from_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse the arguments (Go: flag.FlagSet.parseOne)."""
    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest and len(rest[0]) > 1 and rest[0].startswith("-"):
        argument = rest.pop(0)
        if argument == "--":
            break
        name, equals, text = argument.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {argument}")
        if name not in FLAGS:
            _refuse(name)
        flag = FLAGS[name]
        if not equals and flag.kind == "bool":
            text = "true"
        elif not equals:
            if not rest:
                raise FlagError(f"flag needs an argument: -{name}")
            text = rest.pop(0)
        values[flag.field] = _value(flag, text, f"-{name}")
    if rest:
        is_value = parse_boolean(rest[0]) is not None
        hint = " (a switch takes its value after =)" if is_value else ""
        raise FlagError(f"extra command line arguments: {' '.join(rest)}{hint}", FAILURE)
    return values


def _refuse(name: str) -> NoReturn:
    if name in ("h", "help"):
        raise HelpRequestedError
    near = _near(name, FLAGS, "-")
    raise FlagError(f"flag provided but not defined: -{name}{near}")


def _near(word: str, known: Mapping[str, object], dash: str = "") -> str:
    near = suggest(word, known)
    return f", did you mean {dash}{near}?" if near else ""


def _value(flag: Flag, text: str, source: str) -> Any:
    """Read a value; `source` is the flag or the variable that it comes from."""
    try:
        return READERS[flag.kind](text)
    except ValueError as error:
        code = FAILURE if flag.kind in ("addresses", "port") else USAGE
        raise FlagError(f"invalid value {text!r} for {source}: {error}", code) from error


def help_text() -> str:
    """Return the output of -help."""
    lines = [
        "usage: node-cache -localip ADDRESS[,ADDRESS]... [FLAG]...",
        "",
        "A DNS cache for a Kubernetes node, with the flags of node-cache.",
        f"Each flag can also be set by a variable, such as {variable_of('localip')}.",
        "",
    ]
    defaults = Options()
    for name, flag in FLAGS.items():
        value = "" if flag.kind == "bool" else f" {flag.kind.upper()}"
        lines += [f"  -{name}{value}", f"        {flag.help}{_default(flag, defaults)}"]
    return "\n".join(lines) + "\n"


def _default(flag: Flag, defaults: Options) -> str:
    value = getattr(defaults, flag.field)
    if flag.kind == "interval":
        return f" (default {value:g}s)"
    return f" (default {str(value).lower() if value is True else value})" if value else ""
