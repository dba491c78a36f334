"""The copy: keys, values, names, limits."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text
from corepy_etcd import store as store_module
from corepy_etcd import tree as tree_module
from corepy_etcd.skydns import Entry, UnusableRecord, name_of_key, service_of_value
from corepy_etcd.store import Store

PREFIX = b"/skydns/"
GOOD = b'{"host": "192.0.2.1"}'


def made(*keys, value=GOOD):
    changed: list[bytes] = []
    store = Store("/skydns/", changed.append)
    for key in keys:
        store.put(PREFIX + key.encode(), value, 0)
    changed.clear()
    return store, changed


def found(store, name, *, exact=False):
    entries = store.find(from_text(name), exact=exact)
    return (
        None if entries is None else sorted(it.key.removeprefix(PREFIX).decode() for it in entries)
    )


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("/skydns/local/skydns/www", "www.skydns.local."),
        ("/skydns/local/skydns/www/", "www.skydns.local."),
        ("/skydns/Local/WWW", "www.local."),
        ("/skydns/local/a.b", "a.b.local."),
        (r"/skydns/local/a\.b", r"a\.b.local."),
        ("/skydns/", None),
        ("/skydns/local//www", None),
        (f"/skydns/{'a' * 64}", None),
        ("/skydns/" + "/".join(["a" * 63] * 4), None),
        ("/skydns/\\300", None),
    ],
)
def test_keys(key, name):
    if name is None:
        with pytest.raises(UnusableRecord, match="not a domain name"):
            name_of_key(key.encode(), PREFIX)
    else:
        assert name_of_key(key.encode(), PREFIX) == from_text(name)


@pytest.mark.parametrize("path", ["/a/b/", "/"])
def test_the_whole_path_is_cut_off(path):
    """CoreDNS cuts the first segment of any path."""
    assert name_of_key(f"{path}local/www".encode(), path.encode()) == from_text("www.local.")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ("", "not JSON"),
        ('{"port": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        (r'{"host": "\ud800"}', "host has half of a surrogate pair"),
        (r'{"host": "192.0.2.1", "text": "\ud800"}', "text has half of a surrogate pair"),
        (r'{"host": "192.0.2.1", "group": "\udc80"}', "group has half of a surrogate pair"),
        ("[]", "not a JSON object"),
        ("5", "not a JSON object"),
        ("[" * 5000, "not JSON"),
        ('{"host": 5}', "host is not a string"),
        ('{"host": "a..b"}', "neither an address nor a domain name"),
        (f'{{"host": "{"a" * 64}"}}', "neither an address nor a domain name"),
        ('{"text": ["a"]}', "text is not a string"),
        ('{"mail": 1}', "mail is neither true nor false"),
        ('{"priority": 65536}', "priority is not a whole number from 0 to 65535"),
        ('{"port": -1}', "port is not"),
        ('{"weight": 1.5}', "weight is not"),
        ('{"ttl": true}', "ttl is not"),
        ('{"ttl": 2147483648}', "ttl is not"),
        ('{"targetstrip": 256}', "targetstrip is not"),
        (json.dumps({"text": "x" * 65536}), "more than 65536 bytes"),
    ],
)
def test_unusable_values(members, reason):
    with pytest.raises(UnusableRecord, match=reason):
        service_of_value(members.encode(), b"\0")


def test_values():
    service = service_of_value(b'{"Host": "a.b", "port": null, "owner": 5, "ttl": 60}', b"\0")
    assert (service.host, service.port, service.priority, service.ttl) == ("a.b", 0, 10, 60)


@given(st.binary(max_size=40) | st.from_regex(rb'\{"(host|ttl|mail)": ?[^}]{0,9}\}'))
@settings(max_examples=60, deadline=None, database=None)
def test_any_value_is_a_service_or_unusable(value):
    store, _ = made("test/a")
    store.put(PREFIX + b"test/a", value, 0)
    store.put(PREFIX + value, GOOD, 0)
    assert len(store.entries) + len(store.unusable) >= 1


def test_look_ups_of_names_above():
    store, _ = made("test/a/x", "test/a/y/z", "test/b", "test/b/", "test/c", "test/c/d")
    assert found(store, "a.test") == ["test/a/x", "test/a/y/z"]
    assert found(store, "a.test", exact=True) == []
    assert found(store, "y.a.test", exact=True) == []
    assert found(store, "b.test") == ["test/b", "test/b/"]
    assert found(store, "c.test") == ["test/c/d"]  # as in SkyDNS
    assert found(store, "c.test", exact=True) == ["test/c"]
    assert found(store, "no.test") is None
    assert found(store, "x.b.test") is None
    assert found(store, "*.test") == sorted(
        it.key.removeprefix(PREFIX).decode() for it in store.entries.values()
    )
    assert found(store, "z.any.*.test") == ["test/a/y/z"]
    assert found(store, "q.*.test") is None
    assert len(found(store, ".")) == 6
    assert made()[0].find(b"\0", exact=False) is None


def test_removed_keys_leave_nothing_behind():
    keys = ["test/a/x", "test/a/y/z", "test/a", "test/b"]
    store, changed = made(*keys)
    for key in keys:
        store.remove(PREFIX + key.encode())
    store.remove(PREFIX + b"test/none/at/all")
    assert changed == [PREFIX + key.encode() for key in keys]
    assert (store.size, store.entries, store._tree._root.is_empty) == (0, {}, True)


def test_unchanged_values_change_nothing():
    store, changed = made("test/a")
    store.put(PREFIX + b"test/a", GOOD, 0)
    relist = store.relist()
    relist.put(PREFIX + b"test/a", GOOD, 0)
    relist.finish()
    assert changed == []
    store.put(PREFIX + b"test/a", GOOD, 5)
    assert changed == [PREFIX + b"test/a"]


def test_one_look_up_has_a_bound(monkeypatch):
    monkeypatch.setattr(tree_module, "MOST_FOUND", 3)
    monkeypatch.setattr(tree_module, "MOST_VISITED", 5)
    store, _ = made(*(f"test/n{number}" for number in range(9)))
    assert len(found(store, "test")) == 3
    assert len(found(store, "*.test")) == 3
    store, _ = made(*(f"test/n{number}/below/it" for number in range(9)))
    assert len(found(store, "test")) == 1


def test_the_copy_has_a_bound(monkeypatch, caplog):
    monkeypatch.setattr(store_module, "OVERHEAD", 0)
    size = len(PREFIX + b"test/a" + GOOD)
    monkeypatch.setattr(store_module, "MOST_BYTES", 2 * size)
    store, changed = made("test/a", "test/b", "test/c", "test/d")
    assert found(store, "test") == ["test/a", "test/b"]
    assert [it for it in caplog.messages if "left out" in it] == [caplog.messages[0]]
    assert "such as /skydns/test/c" in caplog.text
    assert store.problem.endswith("some are left out")
    store.remove(PREFIX + b"test/a")
    relist = store.relist()
    relist.put(PREFIX + b"test/c", GOOD, 0)
    relist.finish()
    assert found(store, "test") == ["test/c"]
    assert not store.problem
    relist = store.relist()
    for number in range(9):
        relist.put(PREFIX + b"test/c%d" % number, GOOD, 0)
    assert relist._seen == set()  # what is left out takes no memory, either
    changed.clear()
    store.put(PREFIX + b"test/c", GOOD + b" " * 2 * size, 0)  # it would be a wrong answer
    assert found(store, "test") is None
    assert changed == [PREFIX + b"test/c"]


def test_warnings_have_a_bound(monkeypatch, caplog):
    monkeypatch.setattr(store_module, "MOST_WARNINGS", 2)
    monkeypatch.setattr(store_module, "MOST_UNUSABLE", 5)
    store, _ = made(*(f"test/{number}" for number in range(9)), value=b"\xff")
    store.put(PREFIX + b"\n\x80", b"", 0)
    assert len(caplog.messages) == 3
    assert caplog.messages[2] == "more than 2 keys are ignored; no more are logged"
    assert len(store.unusable) == 5


def test_a_key_is_shown_as_one_line(caplog):
    store, _ = made()
    store.put(PREFIX + b"a\n\x80", b"", 0)
    assert "key /skydns/a\\x0a\\x80 is ignored" in caplog.text


def test_names_that_a_change_affects():
    store, _ = made()
    for name, host in {"a": "192.0.2.1", "b": "a.test", "c/x": "B.test", "d": "d.test"}.items():
        store.put(PREFIX + b"test/" + name.encode(), json.dumps({"host": host}).encode(), 0)
    names = store.affected_names([PREFIX + b"test/a"])
    assert names == {
        from_text(it) for it in ["a.test", "test", ".", "b.test", "x.c.test", "c.test", "d.test"]
    } - {from_text("d.test")}
    assert store.affected_names([PREFIX + b"test/d"]) >= {from_text("d.test")}
    assert store.affected_names([PREFIX + b"//"]) == set()
    store.remove(PREFIX + b"test/b")
    assert from_text("c.test") not in store.affected_names([PREFIX + b"test/a"])


def test_leases_in_use():
    store, _ = made()
    entry = Entry(PREFIX + b"test/a", service_of_value(GOOD, from_text("a.test")), 7, 1)
    leases = store.leases
    for _ in range(200):
        store.replace(entry.key, entry)
        store.replace(entry.key, None)
    assert len(leases._due) <= 65
    assert leases.next_due() is None
    store.replace(entry.key, entry)
    assert leases.next_due() == (0.0, 7)
    leases.checked(7, 100.0, 60, 60)
    assert leases.next_due() == (120.0, 7)
    assert leases.seconds_left(7, 110.0) == 50
    assert leases.seconds_left(8, 110.0) is None
    leases.checked(8, 100.0, -1, 0)  # its last key was removed meanwhile
    assert leases.next_due() == (120.0, 7)
    assert leases.ends == {7: 160.0}
    leases.learn({7: 170.0, 8: 1.0})
    assert leases.ends == {7: 170.0}
