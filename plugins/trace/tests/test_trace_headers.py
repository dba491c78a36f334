"""Header fields of requests: from the option and the environment, and never in a message."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.plugin import CorefileError
from corepy.testing import refusal, serve, set_up
from corepy.testing.http_recorder import HTTPRecorder
from corepy_trace.headers import OWN, VARIABLES, from_environment, header_field

TRACES, ALL = VARIABLES


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("environment", "fields", "problems"),
    [
        ({}, [], []),
        ({ALL: ""}, [], []),
        ({ALL: "a=b"}, [("a", "b")], []),
        ({ALL: " api-key = x%20y%3D , b==c,"}, [("api-key", "x y="), ("b", "=c")], []),
        ({ALL: "a=1,A=2"}, [("A", "2")], []),
        ({ALL: "a=1", TRACES: "b=2"}, [("b", "2")], []),
        ({ALL: "a=1", TRACES: ""}, [("a", "1")], []),
        ({ALL: "x-%41=1"}, [("x-A", "1")], []),
        (
            {ALL: "secret,a b=secret,a=1"},
            [("a", "1")],
            [
                f"entry {number} of {ALL} is ignored: it does not begin with the name of a header"
                " field and '='"
                for number in (1, 2)
            ],
        ),
        (
            {TRACES: "Host=secret"},
            [],
            [f"entry 1 of {TRACES} is ignored: the server sets Host itself"],
        ),
        (
            {TRACES: "a=%0d%0asecret: 1"},
            [],
            [
                f"entry 1 of {TRACES} is ignored: the value of a has characters other than"
                " printable ASCII"
            ],
        ),
    ],
)
def test_the_environment(environment, fields, problems):
    assert from_environment(environment) == (fields, problems)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_any_environment_is_read(text):
    fields, problems = from_environment({ALL: text})
    assert len(fields) + len(problems) <= text.count(",") + 1
    for field in fields:
        assert header_field(*field) == field
        assert field.name.lower() not in OWN


def fields_of(text):
    controller = set_up(text)
    (handler,) = controller.handlers
    warnings = [it.message for it in controller.warnings]
    return [tuple(it) for it in handler.settings.headers], warnings


def test_the_option_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv(ALL, "a=1,b=2,Authorization=x")
    text = 'trace otlp http://u:p@h:4318 {\nheader A "3 4"\nheader c 5\nheader C 6\n}'
    assert fields_of(text) == ([("A", "3 4"), ("C", "6"), ("b", "2")], [])
    assert fields_of("trace otlp h")[0] == [("a", "1"), ("b", "2"), ("Authorization", "x")]
    assert fields_of("trace zipkin h {\nheader c 5\n}")[0] == [("c", "5")]


def test_a_mistake_of_the_environment_is_a_warning(monkeypatch):
    monkeypatch.setenv(ALL, "secret")
    fields, (warning,) = fields_of("trace otlp h")
    assert fields == []
    assert "secret" not in warning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trace {\nheader a\n}", "wrong argument count or unexpected line ending after 'a'"),
        ("trace {\nheader a: b\n}", "'a:' is not the name of a header field"),
        ("trace {\nheader host b\n}", "the server sets host itself"),
        ('trace {\nheader a "ä"\n}', "the value of a has characters other than printable ASCII"),
        (
            "trace otlp http://u:p@h {\nheader authorization b\n}",
            "the URL sets Authorization, too",
        ),
    ],
)
def test_what_cannot_be_sent_is_refused(text, message):
    assert message in refusal(text).message
    with pytest.raises(CorefileError):
        set_up(text)


@pytest.mark.parametrize("kind", ["zipkin", "datadog", "otlp"])
def test_the_fields_are_sent(kind):
    with HTTPRecorder() as collector:
        text = (
            f". {{\nbind 127.0.0.1\ntrace {kind} 127.0.0.1:{collector.port} {{\n"
            'zipkin_max_batch_interval 1ms\nheader Authorization "Bearer t"\n}\nwhoami\n}'
        )
        with serve(text) as server:
            server.ask("www.test.")
            request = collector.next()
    assert request.headers["authorization"] == "Bearer t"
    assert request.headers["content-type"] in ("application/json", "application/msgpack")
