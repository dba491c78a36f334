"""The parameters of requests, from clients that mean well and others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.http import HTTPRequest
from corepy_pprof.parameters import BadRequest, Parameters, read_parameters


def read(query):
    return read_parameters(HTTPRequest("GET", "/debug/pprof/heap", {}, query))


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", (None, 0, False)),
        ("seconds=5", (5.0, 0, False)),
        ("seconds=0.25&debug=1", (0.25, 1, False)),
        ("seconds=300", (300.0, 0, False)),
        ("seconds=", (None, 0, False)),
        ("debug=2&gc=1", (None, 2, True)),
        ("debug=x&gc=-1", (None, 0, False)),
        ("debug=1&debug=2", (None, 1, False)),
        ("unknown=1", (None, 0, False)),
        ("debug=99999999999999999999", (None, 0, False)),
    ],
)
def test_accepts(query, parameters):
    assert read(query) == Parameters(*parameters)


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "301", "1e2", "inf", "nan", "0x10", "x", "٣", "1_0", "0.0", "1" * 500, "%00", " 1"],
)
def test_refuses_seconds(text):
    with pytest.raises(
        BadRequest, match=r'invalid value for "seconds": .*use a number of up to 300'
    ):
        read(f"seconds={text}")


def test_refuses_many_parameters():
    with pytest.raises(BadRequest, match="more than 20 parameters"):
        read("&".join(["a=1"] * 21))


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_any_query(query):
    for text in (query, f"seconds={query}", f"debug={query}&gc={query}"):
        try:
            found = read(text)
        except BadRequest:
            continue
        assert found.seconds is None or 0 < found.seconds <= 300
