"""Makes the Corefile for the server: reads template and ConfigMap, and keeps the last good parts.

A ConfigMap that cannot be used leaves the last good one in use. A template that cannot be used is
an error, which leaves the running configuration in use; at the start, the Corefile that an earlier
process has written takes its place.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.commands.run_server import GeneratedCorefile, check_generated
from corepy.plugin import CorefileError, Diagnostic, plugin_logger
from corepy.plugin.reading import read_file
from corepy_nodecache import metrics
from corepy_nodecache.node_cache.configmap import (
    DEFAULT_FOLDER,
    ConfigMapError,
    ConfigMapFiles,
    KubeDNSConfig,
    parse_files,
    read_files,
)
from corepy_nodecache.node_cache.corefile_template import (
    HEADER,
    Inputs,
    TemplateError,
    make_corefile,
    service_variable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy_nodecache.node_cache.flags import Options

log = plugin_logger("nodecache")


_MOST_LINES: Final = 10
"""Problems that are logged one by one; a ConfigMap may have a thousand."""


class Snapshot(NamedTuple):
    """The files that a Corefile is made of, at one moment."""

    name: str
    """The path of the template."""

    template: bytes
    problem: str
    """Why the template cannot be read; empty otherwise."""

    files: ConfigMapFiles


class Candidate(NamedTuple):
    """The Corefile that a snapshot results in."""

    corefile: GeneratedCorefile | None
    error: CorefileError | None
    """Why there is none."""

    problems: Sequence[str]
    """Everything that was left out, and the error."""


class CorefileMaker:
    """Makes the effective Corefile; an instance is the `make_corefile` of `run_server`."""

    def __init__(self, options: Options, environment: Mapping[str, str]) -> None:
        """Take the flags, and the variables with the addresses of Services."""
        self.options = options
        self.offered: GeneratedCorefile | None = None
        """The Corefile that the server has got last."""
        self.pinned: GeneratedCorefile | None = None
        """The Corefile for each reload, whatever the files contain; None to make it from them."""
        self.template = options.template
        """The template in use, which is the output file where there is no other."""
        self._cluster_dns = _address(environment.get(service_variable(options.upstream_service)))
        self._config = KubeDNSConfig()
        self._reported: frozenset[str] = frozenset()

    def look(self) -> Snapshot:
        """Read the template and the ConfigMap; only regular files are opened."""
        files = read_files(self.options.kube_dns_folder or DEFAULT_FOLDER)
        name, output = self.options.template, self.options.output
        try:
            return Snapshot(name, _read(name), "", files)
        except FileNotFoundError as error:
            problem = f"{name}: {error.strerror}"
        except OSError as error:
            return Snapshot(name, b"", f"{name}: {error.strerror}", files)
        try:
            content = _read(output)
        except OSError:
            return Snapshot(name, b"", problem, files)
        if content.startswith(HEADER.encode()):
            return Snapshot(name, b"", problem, files)
        return Snapshot(output, content, "", files)  # as node-cache without a template

    def candidate(self, snapshot: Snapshot) -> Candidate:
        """Return the Corefile of a snapshot; remembers its ConfigMap if that is valid."""
        problems = []
        self.template = snapshot.name
        if not snapshot.files.is_missing:
            try:
                self._config = parse_files(snapshot.files)
            except ConfigMapError as error:
                problems.append(f"{error}; the last good ConfigMap stays in use")
        try:
            made = make_corefile(self._inputs(snapshot))
        except CorefileError as error:
            return Candidate(None, error, (*problems, str(error)))
        except TemplateError as error:
            return Candidate(None, CorefileError(Diagnostic(str(error))), (*problems, str(error)))
        return Candidate(made.corefile, None, (*problems, *made.left_out))

    def _inputs(self, snapshot: Snapshot) -> Inputs:
        if snapshot.problem:
            raise TemplateError(
                f"cannot read the template {snapshot.problem}; -basecorefile names the file"
            )
        text = snapshot.template.decode("utf-8", "surrogateescape")
        return Inputs(text, snapshot.name, self.options, self._config, self._cluster_dns)

    def report(self, problems: Sequence[str]) -> None:
        """Log and count each problem once, until it has gone."""
        new = [problem for problem in problems if problem not in self._reported]
        metrics.setup_errors.labels("configmap").inc(len(new))
        for problem in new[:_MOST_LINES]:
            log.error("%s", problem)
        if len(new) > _MOST_LINES:
            log.error("and %d more, which `-print-corefile` lists", len(new) - _MOST_LINES)
        self._reported = frozenset(problems)

    def __call__(self) -> GeneratedCorefile:
        """Return the Corefile for a start or a reload; raises `CorefileError`."""
        if self.pinned is not None:
            return self.pinned
        candidate = self.candidate(self.look())
        if self.offered is None:
            candidate = self._for_start(candidate)
        else:
            self.report([it for it in candidate.problems if it != str(candidate.error)])
        if candidate.error is not None:
            raise candidate.error
        self.offered = candidate.corefile
        assert self.offered is not None
        return self.offered

    def _for_start(self, candidate: Candidate) -> Candidate:
        """Return the candidate, or the last good Corefile if the template is broken."""
        others = [it for it in candidate.problems if it != str(candidate.error)]
        self.report(others)
        last = self._last_good(candidate)
        if last is None:
            return candidate
        error: Exception | None = candidate.error
        if candidate.corefile is not None:
            errors = check_generated(candidate.corefile, self.options.port)
            if not errors:
                return candidate
            error = CorefileError(*errors)
        if check_generated(last, self.options.port):
            return candidate
        self.report([*others, f"{error}\n{self.options.output} is used in its place"])
        self.pinned = last
        return Candidate(last, None, ())

    def _last_good(self, candidate: Candidate) -> GeneratedCorefile | None:
        """Return the Corefile that an earlier process has written, if it differs."""
        output = self.options.output
        try:
            text = _read(output).decode("utf-8", "surrogateescape")
        except OSError:
            return None
        is_same = candidate.corefile is not None and candidate.corefile.text == text
        if is_same or not text.startswith(HEADER):
            return None
        return GeneratedCorefile(output, text)


def _read(path: str) -> bytes:
    if not path:
        raise FileNotFoundError(2, os.strerror(2), path)
    return read_file(Path(path))[0]


def _address(text: str | None) -> str:
    """Return the address of a Service in its variable, or "" (a headless Service has "None")."""
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return ""
