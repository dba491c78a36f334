"""Reads the mounted ConfigMap of kube-dns: stub domains and upstream name servers.

The rules are those of node-cache (pkg/dns/config). A ConfigMap is refused as a whole, with a
message that names file, line and key; the caller keeps the last good one.
"""

from __future__ import annotations

import codecs
import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from corepy.plugin.reading import read_file
from corepy_nodecache.model import LAST_PORT

DEFAULT_FOLDER: Final = "/etc/kube-dns"
STUB_DOMAINS: Final = "stubDomains"
UPSTREAMS: Final = "upstreamNameservers"
MOST_UPSTREAMS: Final = 3
MOST_STUB_DOMAINS: Final = 1000
"""Each is a server block, and the event loop stops while those of a Corefile are loaded."""

MOST_BYTES: Final = 1 << 20
"""The limit of Kubernetes for a whole ConfigMap."""

_DATA: Final = "..data"
"""The symbolic link that kubelet replaces to switch to a new version of all files."""

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LONGEST_DOMAIN: Final = 253
_LONGEST_LABEL: Final = 63
_PORT: Final = re.compile("[0-9]{1,5}")
_STRING_OR_LINE: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\n')
_LONGEST_SHOWN: Final = 60


class ConfigMapError(Exception):
    """The ConfigMap cannot be used; the message has file, line and key."""


class StubDomain(NamedTuple):
    """A domain with name servers of its own, and the line that defines it."""

    domain: str
    servers: tuple[str, ...]
    file: str
    line: int


class KubeDNSConfig(NamedTuple):
    """The content of the ConfigMap."""

    stub_domains: tuple[StubDomain, ...] = ()
    """Sorted by domain."""

    upstreams: tuple[str, ...] = ()


class ConfigMapFiles(NamedTuple):
    """The files of the ConfigMap at one moment; None for a missing one."""

    folder: str
    stub_domains: bytes | None = None
    upstreams: bytes | None = None
    problem: str = ""
    """Why they cannot be read."""

    is_missing: bool = False
    """Whether there is no such folder."""


def read_files(folder: str) -> ConfigMapFiles:
    """Read the files of one version of the ConfigMap, without blocking."""
    before = _version(folder)
    for _ in range(2):
        found = _read_files(folder)
        after = _version(folder)
        if before == after:  # otherwise kubelet has switched while the files were read
            break
        before = after
    return found


def _version(folder: str) -> str:
    try:
        return os.readlink(os.path.join(folder, _DATA))
    except OSError:
        return ""


def _read_files(folder: str) -> ConfigMapFiles:
    if not os.path.exists(folder):
        return ConfigMapFiles(folder, is_missing=True)
    if not os.path.isdir(folder):
        return ConfigMapFiles(folder, problem=f"{folder}: not a folder; see -kubednscm")
    found: list[bytes | None] = []
    for name in (STUB_DOMAINS, UPSTREAMS):
        path = os.path.join(folder, name)
        try:
            found.append(read_file(Path(path), MOST_BYTES)[0])
        except FileNotFoundError:
            found.append(None)
        except OSError as error:
            return ConfigMapFiles(folder, problem=f"{path}: {error.strerror}")
    return ConfigMapFiles(folder, found[0], found[1])


def parse_files(files: ConfigMapFiles) -> KubeDNSConfig:
    """Return the content of the files; raises `ConfigMapError`."""
    if files.problem:
        raise ConfigMapError(files.problem)
    stubs = _File(files.folder, STUB_DOMAINS, files.stub_domains)
    upstreams = _File(files.folder, UPSTREAMS, files.upstreams)
    return KubeDNSConfig(_stub_domains(stubs), _upstreams(upstreams))


class _File:
    """One file of the ConfigMap, and the messages about it."""

    def __init__(self, folder: str, name: str, content: bytes | None) -> None:
        self.path = os.path.join(folder, name)
        self.name = name
        self._content = content
        self._text = ""
        self._lines: dict[str, int] | None = None

    def value(self) -> Any:
        """Return the JSON value of the file, None if it is missing; raises `ConfigMapError`."""
        if self._content is None:
            return None
        if self._content.startswith(codecs.BOM_UTF8):
            message = "begins with a byte order mark; save the text without it"
            raise ConfigMapError(f"{self.path}:1: {self.name}: {message}")
        try:
            self._text = self._content.decode()
            return json.loads(self._text)
        except UnicodeDecodeError:
            raise ConfigMapError(f"{self.path}:1: {self.name}: not UTF-8") from None
        except json.JSONDecodeError as error:
            message = f"{self.path}:{error.lineno}: {self.name}: invalid JSON: {error.msg}"
            raise ConfigMapError(f"{message} (column {error.colno})") from None
        except (RecursionError, ValueError) as error:  # too deep, or a number with 4300 digits
            raise ConfigMapError(f"{self.path}:1: {self.name}: invalid JSON: {error}") from None

    def line_of(self, word: str) -> int:
        """Return the line with `word`, the last one as the last of two equal keys counts; or 1."""
        if self._lines is None:  # a search for each of thousands of domains would take minutes
            self._lines, line = {}, 1
            for match in _STRING_OR_LINE.finditer(self._text):
                if match[0] == "\n":
                    line += 1
                else:
                    self._lines[match[0]] = line
        return self._lines.get(json.dumps(word), 1)

    def error(self, key: str, word: str, message: str) -> ConfigMapError:
        """Return an error at the line of `word`."""
        return ConfigMapError(f"{self.path}:{self.line_of(word)}: {key}: {message}")


def _stub_domains(file: _File) -> tuple[StubDomain, ...]:
    value = file.value()
    if value is None:
        return ()
    if not isinstance(value, dict):
        message = "must be a JSON object of domains, each with a list of name servers"
        raise file.error(STUB_DOMAINS, "", message)
    if len(value) > MOST_STUB_DOMAINS:
        message = f"{len(value)} domains, but at most {MOST_STUB_DOMAINS} are allowed"
        raise file.error(STUB_DOMAINS, "", message)
    found = []
    for domain in sorted(value):
        key = f"{STUB_DOMAINS}[{_shown(domain)}]"
        if not _is_domain(domain):
            raise file.error(key, domain, "invalid domain name: lower case, without a final dot")
        servers = _servers(file, key, domain, value[domain], least_port=0)
        found.append(StubDomain(domain, servers, file.path, file.line_of(domain)))
    return tuple(found)


def _is_domain(text: str) -> bool:
    """Return whether `text` is a subdomain of RFC 1123 (Kubernetes: IsDNS1123Subdomain)."""
    is_short = len(text) <= _LONGEST_DOMAIN and max(map(len, text.split("."))) <= _LONGEST_LABEL
    return is_short and _SUBDOMAIN.fullmatch(text) is not None


def _upstreams(file: _File) -> tuple[str, ...]:
    servers = _servers(file, UPSTREAMS, "", file.value(), least_port=1)
    if len(servers) > MOST_UPSTREAMS:
        message = f"{len(servers)} name servers, but at most {MOST_UPSTREAMS} are allowed"
        raise file.error(UPSTREAMS, servers[MOST_UPSTREAMS], message)
    return servers


def _servers(
    file: _File, key: str, place: str, value: object, *, least_port: int
) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise file.error(key, place, "must be a list of name servers")
    for server in value:
        if not isinstance(server, str):
            raise file.error(key, place, f"{_shown(server)} is not a string")
        if not _is_server(server, least_port):
            message = f"invalid name server {_shown(server)}: write an IP address, or ADDRESS:PORT"
            raise file.error(key, server, message)
    return tuple(value)


def _shown(value: object) -> str:
    """Return a value for a message, which is one line of the log, whatever a file contains."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _is_server(text: str, least_port: int) -> bool:
    if _is_ip(text):
        return True
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or not least_port <= int(port) <= LAST_PORT:
        return False
    if host.startswith("[") and host.endswith("]"):
        return ":" in host and _is_ip(host[1:-1])
    return ":" not in host and _is_ip(host)


def _is_ip(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False
