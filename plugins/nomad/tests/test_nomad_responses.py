"""Nomad's responses: well-formed ones, cut anywhere, and malformed ones."""

import json
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.testing import helper_module
from corepy_nomad import responses
from corepy_nomad.responses import InstanceList, NameList

instance = helper_module(__file__, "nomad_stub").instance

QUIET = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
LABELS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9-]{0,20}\Z")
CUTS = st.lists(st.integers(0, 400), max_size=5)


def fed(reader, data, cuts=()):
    """Feed bytes in portions, and return the reader."""
    ends = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(ends):
        reader.feed(data[start:end])
    reader.finish()
    return reader


def list_of(names, namespace="default"):
    services = [{"ServiceName": name, "Tags": ["a]", "b"]} for name in names]
    return json.dumps([{"Namespace": namespace, "Services": services}]).encode()


@QUIET
@given(st.lists(LABELS, max_size=8), CUTS, st.sampled_from(["", " ", "\n\t"]))
def test_names_are_read_wherever_the_list_is_cut(names, cuts, space):
    data = space.encode() + list_of(names) + space.encode()
    found = fed(NameList("default"), data, [min(cut, len(data)) for cut in cuts])
    assert found.names == {name.lower() for name in names}
    for name in names:
        assert name in responses.spellings_of(name.lower(), found.spellings)


@QUIET
@given(st.lists(st.tuples(LABELS, st.integers(0, 65535)), max_size=5), CUTS)
def test_instances_are_read_wherever_they_are_cut(pairs, cuts):
    data = json.dumps([instance(*pair) for pair in pairs]).encode()
    found = fed(InstanceList(), data, [min(cut, len(data)) for cut in cuts])
    assert found.instances == list(dict.fromkeys(pairs))
    assert found.unusable == 0


def test_spellings():
    found = fed(NameList("default"), list_of(["redis", "Redis", "Web", "db"]))
    assert found.names == {"redis", "web", "db"}
    assert found.spellings == {"redis": ("redis", "Redis"), "web": ("Web",)}
    assert responses.spellings_of("db", found.spellings) == ("db",)


def test_a_namespace_without_services():
    for data in (b"[]", b" [ ] ", b'[{"Services": null, "Namespace": "default"}]'):
        assert fed(NameList("default"), data).names == set()


def test_names_that_no_label_can_have_are_left_out():
    names = ["ok", "", "a" * 64, "ä", "a.b", "a b"]
    assert fed(NameList("default"), list_of(names)).names == {"ok", "a.b", "a b"}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"null", b"<html>", b"[", b"[{", b"]", b"[]]", b"[[]]", b"[1]", b'["a"]'),
        *(b'[{"Namespace":"default"}', b'[{"Namespace":"other","Services":[]}]', b"[{}]"),
        *(b'[{"Services":[{}],"Namespace":"default"}]', b'[{"Services":[1]}]', b"[] []"),
        *(b'[{"Services":[{"ServiceName":7}]}]', b"\xff", b"[\xff]", b"[" * 100_000),
        b'[{"Namespace":"default","Services":[]},{"Namespace":"other","Services":[]}]',
        list_of(["a"])[:-1],
        list_of(["a"])[:-9],
    ],
    ids=lambda data: repr(data[:60]),
)
def test_malformed_lists(data):
    with pytest.raises(ValueError, match=r"."):
        fed(NameList("default"), data)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"null", b"<html>", b"[", b"[{", b"]", b"[]]", b"[1]", b'["a"]', b"[] []"),
        *(
            b'[],"other":[]',
            b'[],"items":[1]',
            b"\xff",
            b"[[]]",
            b'[{"Address":"1"',
            b"[" * 100_000,
        ),
    ],
    ids=lambda data: repr(data[:60]),
)
def test_malformed_instances(data):
    with pytest.raises(ValueError, match=r"."):
        fed(InstanceList(), data)


@QUIET
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    for reader in (NameList("default"), InstanceList()):
        try:
            fed(reader, data)
        except ValueError:
            pass


def test_instances_that_are_unusable_do_not_concern_the_others():
    odd = [{"Address": ""}, {"Address": 1}, {}, {"Address": "192.0.2.1", "Port": -1}]
    odd += [{"Address": "192.0.2.1", "Port": it} for it in (65536, "80", 1.5, True, None)]
    document = [*odd, {"Address": "192.0.2.2"}, instance("host.example", 80)]
    found = fed(InstanceList(), json.dumps(document).encode())
    assert found.instances == [("192.0.2.2", 0), ("host.example", 80)]
    assert found.unusable == len(odd)


def test_a_description_is_bounded(monkeypatch):
    monkeypatch.setattr(responses, "MOST_INSTANCES", 2)
    document = [instance("192.0.2.1"), *(instance(f"192.0.2.{it}") for it in range(1, 9))]
    found = fed(InstanceList(), json.dumps(document).encode())
    assert found.instances == [("192.0.2.1", 8080), ("192.0.2.2", 8080)]


def test_the_spellings_of_a_name_are_bounded(monkeypatch):
    monkeypatch.setattr(responses, "MOST_SPELLINGS", 3)
    found = fed(NameList("default"), list_of(["web", "Web", "wEb", "weB", "WEB", "wEb"]))
    assert found.spellings == {"web": ("web", "Web", "wEb")}


def test_a_list_of_names_is_bounded(monkeypatch):
    monkeypatch.setattr(responses, "MOST_NAMES", 3)
    assert len(fed(NameList("default"), list_of("abc")).names) == 3
    with pytest.raises(ValueError, match="more than 3 services"):
        fed(NameList("default"), list_of("abcd"))
