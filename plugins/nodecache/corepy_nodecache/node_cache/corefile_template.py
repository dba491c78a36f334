"""Makes the effective Corefile from the template, the flags and the ConfigMap (app/configmap.go).

Works on lines, each with its origin, so that messages about the result name the file to correct.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.commands.run_server import GeneratedCorefile, outline_generated
from corepy_nodecache.node_cache.flag_values import WILDCARDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.commands.run_server import BlockOutline
    from corepy_nodecache.node_cache.configmap import KubeDNSConfig, StubDomain
    from corepy_nodecache.node_cache.flags import Options

UPSTREAM_SERVERS: Final = "__PILLAR__UPSTREAM__SERVERS__"
CLUSTER_DNS: Final = "__PILLAR__CLUSTER__DNS__"
LOCAL_DNS: Final = "__PILLAR__LOCAL__DNS__"
DNS_SERVER: Final = "__PILLAR__DNS__SERVER__"
PROMETHEUS: Final = "__PROMETHEUS__ENDPOINT__"

RESOLV_CONF: Final = "/etc/resolv.conf"
HEADER: Final = "# Made by node-cache from "
"""The beginning of each Corefile that is written, by which a later start recognizes it."""

_CACHE_TTL: Final = 30
_PLACEHOLDER: Final = re.compile(r"__(?:PILLAR|PROMETHEUS)__\w*?__(?![A-Z_])", re.ASCII)
_FORWARD: Final = re.compile(r"\s*forward\s.*" + UPSTREAM_SERVERS)
_LOCAL_ENDPOINT: Final = re.compile(rf"\[?{LOCAL_DNS}\]?(?=:[0-9])")
_FORCE_TCP: Final = re.compile(r"\s*force_tcp\s*(#.*)?")
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")


class TemplateError(Exception):
    """The template cannot be used; the message has file and line."""


class Line(NamedTuple):
    """A line of the effective Corefile, and where it comes from."""

    text: str
    file: str
    number: int


class Inputs(NamedTuple):
    """The parts of an effective Corefile."""

    template: str
    """The text of the template."""

    template_name: str
    options: Options
    config: KubeDNSConfig
    cluster_dns: str
    """The address of the cluster's DNS; empty if it is unknown."""


class Made(NamedTuple):
    """An effective Corefile, and notes about parts of the ConfigMap that it lacks."""

    corefile: GeneratedCorefile
    left_out: tuple[str, ...]


def make_corefile(inputs: Inputs) -> Made:
    """Return the effective Corefile.

    Raises `TemplateError`, or `CorefileError` if the template with its values is no Corefile.
    """
    options = inputs.options
    texts = inputs.template.removeprefix("\ufeff").rstrip("\n").split("\n")
    lines = [Line(text, inputs.template_name, at) for at, text in enumerate(texts, 1)]
    if inputs.config.upstreams:
        lines = _without_force_tcp(lines)
    values = _values(inputs)
    lines = [line._replace(text=_filled(line, values, options)) for line in lines]
    blocks = outline_generated(_corefile(options, lines), options.port)
    if not blocks:
        raise TemplateError(f"{inputs.template_name}: the template has no server block")
    stubs, left_out = _stub_lines(inputs, blocks)
    header = Line(f"{HEADER}{inputs.template_name}; changes here are lost.", options.output, 1)
    lines = [header, *_with_nodecache(lines, blocks, options), *stubs]
    return Made(_corefile(options, lines), left_out)


def _corefile(options: Options, lines: Sequence[Line]) -> GeneratedCorefile:
    text = "".join(f"{line.text}\n" for line in lines)
    return GeneratedCorefile(options.output, text, [(it.file, it.number) for it in lines])


def _values(inputs: Inputs) -> dict[str, str]:
    options = inputs.options
    return {
        UPSTREAM_SERVERS: " ".join(inputs.config.upstreams) or RESOLV_CONF,
        CLUSTER_DNS: inputs.cluster_dns,
        LOCAL_DNS: " ".join(options.local_ips),
        DNS_SERVER: "",
        PROMETHEUS: options.prometheus_address,
    }


def _filled(line: Line, values: dict[str, str], options: Options) -> str:
    """Replace the placeholders of a line; raises `TemplateError` for one without a value."""
    text = _LOCAL_ENDPOINT.sub(_first_host(options), line.text)
    for placeholder, value in values.items():
        if placeholder in text and not (value or placeholder == DNS_SERVER):
            if placeholder not in _COMMENT.sub("", text):
                continue
            raise TemplateError(f"{line.file}:{line.number}: {_missing(placeholder, options)}")
        text = text.replace(placeholder, value)
    left = _PLACEHOLDER.search(_COMMENT.sub("", text))
    if left:
        hint = "the installation must replace it"
        raise TemplateError(f"{line.file}:{line.number}: {left[0]} has no value here: {hint}")
    return text


def _first_host(options: Options) -> str:
    """Return the address for a place with a port, as in `health __PILLAR__LOCAL__DNS__:8080`.

    It is the first one, which the installation script of the official manifest writes there.
    node-cache itself writes all of them, and *health* then refuses the start.
    """
    first = next(iter(options.local_ips), LOCAL_DNS)
    return f"[{first}]" if ":" in first else first


def _missing(placeholder: str, options: Options) -> str:
    if placeholder != CLUSTER_DNS:
        return f"{placeholder} has no value"
    service = options.upstream_service
    return (
        f"{placeholder}: the variable {service_variable(service)} has no IP address; -upstreamsvc"
        f" must name a Service of this namespace, and {service!r} is not one"
    )


def service_variable(service: str) -> str:
    """Return the variable in which Kubernetes gives the address of a Service."""
    return f"{service.replace('-', '_').upper()}_SERVICE_HOST"


def _without_force_tcp(lines: Sequence[Line]) -> list[Line]:
    """Remove `force_tcp` from *forward* to upstreams of the ConfigMap, which may lack TCP.

    A block that has no other option becomes one line, as in node-cache.
    """
    kept: list[Line] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        opens = _COMMENT.sub("", line.text).rstrip()
        if not _FORWARD.match(line.text) or not opens.endswith("{"):
            kept.append(line)
            continue
        end = next(
            (it for it in range(at, len(lines)) if lines[it].text.lstrip().startswith("}")), None
        )
        if end is None:
            kept.append(line)
            continue
        options = [it for it in lines[at:end] if not _FORCE_TCP.fullmatch(it.text)]
        if any(it.text.strip() for it in options):
            kept += [line, *options, lines[end]]
        else:
            kept.append(line._replace(text=opens.removesuffix("{").rstrip()))
        at = end + 1
    return kept


def _with_nodecache(
    lines: Sequence[Line], blocks: Sequence[BlockOutline], options: Options
) -> list[Line]:
    """Add *nodecache* with the values of the flags to the first block, unless a block has it."""
    is_there = any("nodecache" in block.directives for block in blocks)
    if is_there or not (_managed_addresses(options) or options.metrics_address):
        return list(lines)
    block = next((block for block in blocks if block.opening is not None), None)
    opening = None if block is None else block.opening
    if opening is None and not _managed_addresses(options):
        return list(lines)  # only the second address of the metrics is missing
    if opening is None:
        message = "all server blocks are in imported files: write nodecache into one of them"
        raise TemplateError(f"{lines[0].file}: {message}")
    added = [Line(f"    {text}", options.output, 1) for text in _nodecache(options)]
    at = opening.line - 1
    if opening.text != "{":  # a block without braces
        at += 0 if block is not None and block.directives else 1  # after its zone, if that is all
        return [*lines[:at], *added, *lines[at:]]
    line = lines[at]
    head, rest = line.text[: opening.column], line.text[opening.column :]
    tail = [line._replace(text=rest)] if rest.strip() else []
    return [*lines[:at], line._replace(text=head), *added, *tail, *lines[at + 1 :]]


def _nodecache(options: Options) -> list[str]:
    addresses = _managed_addresses(options)
    metrics = [f"    metrics {options.metrics_address}"] if options.metrics_address else []
    if not addresses:
        return ["nodecache {", "    device off", "    iptables off", *metrics, "}"]
    return [
        "nodecache skipteardown {" if options.skip_teardown else "nodecache {",
        f"    interface {options.interface}",
        f"    address {' '.join(addresses)}",
        f"    port {options.port}",
        f"    health_port {options.health_port}",
        f"    interval {options.interval:.10g}s",
        *([] if options.setup_interface else ["    device off"]),
        *([] if options.setup_iptables else ["    iptables off"]),
        *metrics,
        "    best_effort",
        "    adopt_node_cache",
        "}",
    ]


def _managed_addresses(options: Options) -> list[str]:
    return [ip for ip in options.local_ips if ip not in WILDCARDS]


def _stub_lines(
    inputs: Inputs, blocks: Sequence[BlockOutline]
) -> tuple[list[Line], tuple[str, ...]]:
    """Return the server blocks of the stub domains, and notes about those that are left out."""
    options = inputs.options
    served = {(key.zone, key.port) for block in blocks for key in block.keys}
    has_end = all(block.opening is None or block.opening.text == "{" for block in blocks)
    lines: list[Line] = []
    left_out = []
    for stub in inputs.config.stub_domains:
        problem = ""
        if not stub.servers:
            problem = "the list of name servers is empty"
        elif (f"{stub.domain}.", options.port) in served:
            problem = f"the template has a server block for {stub.domain}"
        elif not has_end:
            problem = "the server block of the template has no braces, so that none can follow"
        if problem:
            key = f"stubDomains[{stub.domain!r}]"
            left_out.append(f"{stub.file}:{stub.line}: {key}: {problem}; the domain is left out")
        else:
            lines += _stub_block(stub, options)
    return lines, tuple(left_out)


def _stub_block(stub: StubDomain, options: Options) -> list[Line]:
    texts = (
        "",
        f"{stub.domain}:{options.port} {{",
        "    errors",
        f"    cache {_CACHE_TTL}",
        f"    bind {' '.join(options.local_ips)}",
        f"    forward . {' '.join(stub.servers)}",
        "}",
    )
    return [Line(text, stub.file, stub.line) for text in texts]
