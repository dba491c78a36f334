"""kube-dns' ConfigMap: what is accepted and refused, with file, line and key, and its versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.testing import MountedConfigMap
from corepy_nodecache.node_cache.configmap import (
    ConfigMapError,
    ConfigMapFiles,
    KubeDNSConfig,
    StubDomain,
    parse_files,
    read_files,
)

STUBS, UPSTREAMS = "/cm/stubDomains", "/cm/upstreamNameservers"


def parse(stubs: str | bytes | None = None, upstreams: str | bytes | None = None) -> KubeDNSConfig:
    first, second = (it.encode() if isinstance(it, str) else it for it in (stubs, upstreams))
    return parse_files(ConfigMapFiles("/cm", first, second))


def servers_of(config: KubeDNSConfig) -> dict[str, list[str]]:
    return {stub.domain: list(stub.servers) for stub in config.stub_domains}


@pytest.mark.parametrize(
    "stubs",
    [
        # node-cache's own cases (pkg/dns/config/config_test.go), without those with host names,
        # which its second check refuses
        {},
        {"foo.com": ["1.2.3.4"]},
        {"foo.com": ["1.2.3.4:32564"]},
        {"acme.local": ["2001:db8:1:1:1::1"]},
        {"widget.local": ["[2001:db8:2:2:2::2]:10053", "2001:db8:3:3:3::3"]},
        # others
        {"a-b.c0": ["1.1.1.1", "8.8.8.8"]},
        {"acme": []},
        {"10.in-addr.arpa": ["10.0.0.2"]},
        {"a": ["1.2.3.4:0"]},
    ],
)
def test_stub_domains(stubs: dict[str, list[str]]) -> None:
    assert servers_of(parse(json.dumps(stubs))) == stubs


@pytest.mark.parametrize(
    "servers",
    [
        [],
        ["1.2.3.4"],
        ["1.2.3.4", "8.8.4.4", "8.8.8.8"],
        ["1.2.3.4:53"],
        ["[2001:db8:2:2:2::2]:10053", "2001:db8:3:3:3::3"],
    ],
)
def test_upstreams(servers: list[str]) -> None:
    assert parse(None, json.dumps(servers)) == KubeDNSConfig((), tuple(servers))


def test_null_is_nothing_as_in_go() -> None:
    assert parse("null", "null") == KubeDNSConfig()
    assert servers_of(parse('{"a": null}')) == {"a": []}


def test_the_line_of_each_domain() -> None:
    text = '{\n  "b.test": ["1.1.1.1"],\n  "a.test": ["2.2.2.2"]\n}\n'
    assert parse(text).stub_domains == (
        StubDomain("a.test", ("2.2.2.2",), STUBS, 3),
        StubDomain("b.test", ("1.1.1.1",), STUBS, 2),
    )


DOMAIN = "invalid domain name: lower case, without a final dot"
SERVER = "write an IP address, or ADDRESS:PORT"


@pytest.mark.parametrize(
    ("stubs", "message"),
    [
        ('{"": ["1.2.3.4"]}', f"{STUBS}:1: stubDomains['']: {DOMAIN}"),
        ('{\n"$$$$": ["1.2.3.4"]}', f"{STUBS}:2: stubDomains['$$$$']: {DOMAIN}"),
        ('{"Acme.local": []}', DOMAIN),
        ('{"acme.local.": []}', DOMAIN),
        ('{"*.acme": []}', DOMAIN),
        ('{"a_b": []}', DOMAIN),
        (f'{{"{"a" * 64}.b": []}}', DOMAIN),
        (f'{{"{".".join(["a" * 49] * 6)}": []}}', DOMAIN),
        ('{"a": [\n"$$$$"]}', f"{STUBS}:2: stubDomains['a']: invalid name server '$$$$': {SERVER}"),
        ('{"foo.com": ["1.2.3.4:65564"]}', f"invalid name server '1.2.3.4:65564': {SERVER}"),
        ('{"foo.com": ["ns.foo.com"]}', f"invalid name server 'ns.foo.com': {SERVER}"),
        ('{"a": ["1.2.3.4:"]}', SERVER),
        ('{"a": ["fe80::1%eth0"]}', SERVER),
        ('{"a": ["tls://1.1.1.1"]}', SERVER),
        ('{"a": ["1.1.1.1 2.2.2.2"]}', SERVER),
        ('{"a": ["[1.2.3.4]:53"]}', SERVER),
        ('{"a": "1.2.3.4"}', f"{STUBS}:1: stubDomains['a']: must be a list of name servers"),
        ('{"a": [1]}', "stubDomains['a']: 1 is not a string"),
        ("[]", f"{STUBS}:1: stubDomains: must be a JSON object of domains"),
        ("", f"{STUBS}:1: stubDomains: invalid JSON: Expecting value (column 1)"),
        ('{\n"a": [1.1.1.1]}', f"{STUBS}:2: stubDomains: invalid JSON: Expecting"),
        ("{} {}", "invalid JSON: Extra data"),
        ("[" * 100_000, f"{STUBS}:1: stubDomains: invalid JSON"),
        (b"\xff", f"{STUBS}:1: stubDomains: not UTF-8"),
        (b"\xef\xbb\xbf{}", f"{STUBS}:1: stubDomains: begins with a byte order mark; save the text"),
    ],
)  # fmt: skip
def test_refused_stub_domains(stubs: str, message: str) -> None:
    with pytest.raises(ConfigMapError) as caught:
        parse(stubs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("upstreams", "message"),
    [
        (
            '["1.1.1.1",\n"2.2.2.2",\n"3.3.3.3",\n"4.4.4.4"]',
            f"{UPSTREAMS}:4: upstreamNameservers: 4 name servers, but at most 3 are allowed",
        ),
        ('["1.1.1.1:abc"]', f"{UPSTREAMS}:1: upstreamNameservers: invalid name server"),
        ('["1.1.1.1:123456789"]', SERVER),
        ('["1.1.1.1:0"]', SERVER),
        ('["cluster.local"]', SERVER),
        ('{"a": 1}', f"{UPSTREAMS}:1: upstreamNameservers: must be a list of name servers"),
        ('"1.1.1.1"', "must be a list of name servers"),
    ],
)
def test_refused_upstreams(upstreams: str, message: str) -> None:
    with pytest.raises(ConfigMapError) as caught:
        parse(None, upstreams)
    assert message in str(caught.value)


def test_versions_of_a_mounted_config_map(tmp_path: Path) -> None:
    volume = MountedConfigMap(tmp_path / "cm")
    folder = str(volume.folder)
    assert read_files(folder) == ConfigMapFiles(folder, is_missing=True)
    volume.swap(stubDomains="{}", other="\x00")
    assert read_files(folder) == ConfigMapFiles(folder, b"{}")
    volume.swap(upstreamNameservers="[]")
    assert read_files(folder) == ConfigMapFiles(folder, None, b"[]")
    volume.swap()
    assert read_files(folder) == ConfigMapFiles(folder)
    assert parse_files(read_files(folder)) == KubeDNSConfig()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "stubDomains").mkdir()
    files = read_files(str(tmp_path))
    with pytest.raises(ConfigMapError, match=f"^{tmp_path}/stubDomains: Is a directory$"):
        parse_files(files)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """A missing folder is none of these mistakes: it may appear later."""
    path = tmp_path / "stubDomains"
    path.write_text("{}")
    with pytest.raises(ConfigMapError, match=f"^{path}: not a folder; see -kubednscm$"):
        parse_files(read_files(str(path)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("1.2.3.4"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(JSON.map(json.dumps) | st.text(max_size=40), JSON.map(json.dumps) | st.binary(max_size=40))
def test_any_content_is_read_or_refused(stubs: str, upstreams: str | bytes) -> None:
    try:
        config = parse(stubs.encode("utf-8", "surrogatepass"), upstreams)
    except ConfigMapError:
        return
    assert len(config.upstreams) <= 3
    assert all(stub.domain == stub.domain.strip().lower() for stub in config.stub_domains)
