"""JSON that arrives in portions: lines of documents, and the elements of a long array."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.http.json_stream import JSONItems, JSONLines
from corepy.net.backoff import Backoff, jittered

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda it: st.lists(it, max_size=3) | st.dictionaries(st.text(max_size=5), it, max_size=3),
    max_leaves=8,
)
SPACE = st.sampled_from([None, 1])
TOKENS = st.sampled_from([*'{}[],:" \\1', '"items":[', "]}", '{"a":', '"b"'])


def pieces(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


def items_of(name, data, size):
    reader = JSONItems(name)
    found = [it for piece in pieces(data, size) for it in reader.feed(piece)]
    found += reader.feed(b"", final=True)
    assert reader.is_complete
    return found, reader.members


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(JSON, max_size=5), st.dictionaries(st.text(max_size=5), JSON), SPACE, st.data())
def test_the_elements_of_a_list_split_anywhere(items, others, indent, data):
    others.pop("items", None)
    names = data.draw(st.permutations([*others, "items"]))
    document = {name: items if name == "items" else others[name] for name in names}
    text = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    assert items_of("items", text, data.draw(st.integers(1, 30))) == (items, others)


@settings(max_examples=50, deadline=None)
@given(st.lists(JSON, max_size=5), st.integers(1, 30))
def test_lines_split_anywhere(documents, size):
    text = "".join(f"{json.dumps(it, ensure_ascii=False)}\n" for it in documents).encode()
    lines = JSONLines()
    assert [it for piece in pieces(text, size) for it in lines.feed(piece)] == documents


@settings(max_examples=50, deadline=None)
@given(st.lists(TOKENS, max_size=20).map("".join).map(str.encode), st.integers(1, 9))
def test_any_text_is_the_document_that_json_decodes_or_an_error(text, size):
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    try:
        items, members = items_of("items", text, size)
    except ValueError:
        assert not isinstance(expected, dict)
    else:
        assert isinstance(expected, dict)
        wanted = expected.pop("items") if isinstance(expected.get("items"), list) else []
        if text.count(b"items") < 2:  # else there may be several arrays, whose elements are joined
            assert (items, members) == (wanted, expected)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[1]", "unexpected '\\['"),
        (b'{"items":[1]', "ends early"),
        (b'{"items":[1,]}', "."),
        (b'{"items":[,1]}', "."),
        (b'{"items":[1 2]}', "unexpected '2'"),
        (b'{"items":[]} x', "unexpected 'x'"),
        (b'{"a":1,}', "."),
        (b'{"a"}', "unexpected '}'"),
        (b"{1:2}", "a key in JSON is not a string"),
        (b'{"items":[' + b"[" * 200_000, "nested too deeply"),
        (b'{"items":["\xff"]}', "utf-8"),
        (b"", "ends early"),
    ],
)
def test_malformed_lists(text, problem):
    with pytest.raises(ValueError, match=problem):
        items_of("items", text, 50_000)


def test_a_long_element_is_decoded_a_few_times_only(monkeypatch):
    reader, original = JSONItems("items"), JSONItems._wait
    decoded = 0

    def wait(self):
        nonlocal decoded
        decoded += 1
        return original(self)

    monkeypatch.setattr(JSONItems, "_wait", wait)
    text = json.dumps({"items": ["x" * 100_000]}).encode()
    found = [it for piece in pieces(text, 100) for it in reader.feed(piece)]
    assert [*found, *reader.feed(b"", final=True)] == ["x" * 100_000]
    assert decoded < 20


def test_limits():
    lines = JSONLines(largest=10)
    assert list(lines.feed(b'"12345678"\n')) == ["12345678"]
    with pytest.raises(ValueError, match="more than 10 bytes"):
        list(lines.feed(b'"1234567890'))
    reader = JSONItems("items", largest=10)
    with pytest.raises(ValueError, match="more than 10 characters"):
        list(reader.feed(b'{"items":["123456789012'))


def test_a_line_that_is_nested_too_deeply():
    with pytest.raises(ValueError, match="nested too deeply"):
        list(JSONLines().feed(b"[" * 200_000 + b"\n"))


def test_delays_double_up_to_a_limit_and_begin_again():
    backoff = Backoff(0.5, 30.0)
    delays = [backoff.next_delay() for _ in range(80)]
    steps = [min(30.0, 0.5 * 2**n) for n in range(80)]
    assert all(step / 2 <= it <= step for it, step in zip(delays, steps, strict=True))
    backoff.reset()
    assert backoff.next_delay() <= 0.5
    assert 1.0 <= jittered(1.0, 2.0) <= 2.0
