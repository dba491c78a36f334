"""The directive: the cases of plugin/trace/setup_test.go, and every option with its mistakes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.plugin import Cacheability, CorefileError
from corepy.testing import refusal, set_up
from corepy_trace.settings import Kind, LocalEndpoint, target_of

ZIPKIN = "http://localhost:9411/api/v2/spans"


def directive(text, hosts=("",)):
    """Set up a directive; return its settings, and the messages of its warnings."""
    controller = set_up(text, hosts=hosts)
    (handler,) = controller.handlers
    assert controller.hooks == []
    return handler.settings, [warning.message for warning in controller.warnings]


@pytest.mark.parametrize(
    ("text", "url", "every", "service", "client_server", "limits"),
    [
        ("trace", ZIPKIN, 1, "coredns", False, (1000, 100, 1)),
        ("trace localhost:1234", "http://localhost:1234/api/v2/spans", 1, "coredns", False, (1000, 100, 1)),
        ("trace http://localhost:1234/somewhere/else", "http://localhost:1234/somewhere/else", 1, "coredns", False, (1000, 100, 1)),
        ("trace zipkin localhost:1234", "http://localhost:1234/api/v2/spans", 1, "coredns", False, (1000, 100, 1)),
        ("trace datadog localhost", "http://localhost:8126/v0.4/traces", 1, "coredns", False, (1000, 100, 1)),
        ("trace datadog http://localhost:8127", "http://localhost:8127/v0.4/traces", 1, "coredns", False, (1000, 100, 1)),
        ("trace datadog localhost {\n datadog_analytics_rate 0.1\n}", "http://localhost:8126/v0.4/traces", 1, "coredns", False, (1000, 100, 1)),
        ("trace {\n every 100\n}", ZIPKIN, 100, "coredns", False, (1000, 100, 1)),
        ("trace {\n every 100\n service foobar\nclient_server\n}", ZIPKIN, 100, "foobar", True, (1000, 100, 1)),
        ("trace {\n every 2\n client_server true\n}", ZIPKIN, 2, "coredns", True, (1000, 100, 1)),
        ("trace {\n client_server false\n}", ZIPKIN, 1, "coredns", False, (1000, 100, 1)),
        ("trace {\n zipkin_max_backlog_size 100\n zipkin_max_batch_size 200\n zipkin_max_batch_interval 10s\n}", ZIPKIN, 1, "coredns", False, (100, 200, 10)),
    ],
)  # fmt: skip
def test_coredns_accepts(text, url, every, service, client_server, limits):
    settings, warnings = directive(text)
    assert settings.target.url == url
    assert (settings.every, settings.service) == (every, service)
    assert settings.client_server is client_server
    assert (settings.backlog, settings.batch, settings.interval) == limits
    assert settings.analytics_rate == (0.1 if "rate" in text else 0)
    assert settings.local == LocalEndpoint("", 53)
    assert warnings == []


@pytest.mark.parametrize(
    ("hosts", "local"),
    [
        (["127.0.0.1"], ("127.0.0.1", 53)),
        (["3d47:98c0:b113::3"], ("3d47:98c0:b113::3", 53)),
        (["3d47:98c0:b113::3", "127.0.0.1"], ("3d47:98c0:b113::3", 53)),
        (["fe80::1%eth0"], ("fe80::1", 53)),
        (["0.0.0.0"], ("", 53)),
        (["::"], ("", 53)),
    ],
)
def test_local_endpoint(hosts, local):
    assert directive("trace", hosts)[0].local == local


@pytest.mark.parametrize(
    ("text", "message", "token"),
    [
        # CoreDNS's.
        ("trace footype localhost:4321", "tracing endpoint type 'footype' is not supported", "footype"),
        ("trace {\n every 2\n client_server junk\n}", "not a boolean: 'junk'", "junk"),
        ("trace datadog localhost {\n datadog_analytics_rate 2\n}", "datadog analytics rate must be between 0 and 1, not '2'", "2"),
        ("trace {\n zipkin_max_backlog_size wrong\n}", "not a whole number: 'wrong'", "wrong"),
        ("trace {\n zipkin_max_batch_size wrong\n}", "not a whole number: 'wrong'", "wrong"),
        ("trace {\n zipkin_max_batch_interval wrong\n}", "invalid duration 'wrong'", "wrong"),
        ("trace {\n zipkin_max_backlog_size\n}", "wrong argument count or unexpected line ending after 'zipkin_max_backlog_size'", "zipkin_max_backlog_size"),
        ("trace {\n zipkin_max_batch_size\n}", "wrong argument count or unexpected line ending after 'zipkin_max_batch_size'", "zipkin_max_batch_size"),
        ("trace {\n zipkin_max_batch_interval\n}", "wrong argument count or unexpected line ending after 'zipkin_max_batch_interval'", "zipkin_max_batch_interval"),
        ("trace {\n evrey 100\n}", "unknown option 'evrey'", "evrey"),
        # Further ones.
        ("trace zipkin a b", "wrong argument count or unexpected line ending after 'b'", "b"),
        ("trace {\n every\n}", "wrong argument count or unexpected line ending after 'every'", "every"),
        ("trace {\n every -1\n}", "not a whole number: '-1'", "-1"),
        ("trace {\n every 18446744073709551616\n}", "not a whole number: '18446744073709551616'", "18446744073709551616"),
        ("trace {\n service\n}", "wrong argument count or unexpected line ending after 'service'", "service"),
        ("trace {\n client_server yes\n}", "not a boolean: 'yes'", "yes"),
        ("trace {\n client_server true false\n}", "wrong argument count or unexpected line ending after 'false'", "false"),
        ("trace datadog a {\n datadog_analytics_rate -0.1\n}", "datadog analytics rate must be between 0 and 1, not '-0.1'", "-0.1"),
        ("trace datadog a {\n datadog_analytics_rate NaN\n}", "not a number: 'NaN'", "NaN"),
        ("trace datadog a {\n datadog_analytics_rate 1_0\n}", "not a number: '1_0'", "1_0"),
        ("trace {\n zipkin_max_backlog_size -1\n}", "negative number of spans '-1'", "-1"),
        ("trace {\n zipkin_max_batch_interval -1s\n}", "negative duration '-1s'", "-1s"),
        ("trace http://", "'http://' is not an endpoint: the URL names no host", "http://"),
        ("trace otlp host:port", "'host:port' is not an endpoint: the port of the URL is not a number from 1 to 65535", "host:port"),
        ("trace :9411", "':9411' is not an endpoint: the URL names no host", ":9411"),
    ],
)  # fmt: skip
def test_refused(text, message, token):
    diagnostic = refusal(text)
    assert diagnostic.message == message
    assert diagnostic.token.text == token


def test_hints():
    assert refusal("trace zpkin a").hint == "did you mean 'zipkin'?"
    assert refusal("trace jaeger a").hint == "known types: zipkin, datadog, otlp"
    assert refusal("trace {\nevrey 1\n}").hint == "did you mean 'every'?"
    hint = "such as localhost:4318 or http://localhost:4318/v1/traces"
    assert refusal("trace otlp http://").hint == hint


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(CorefileError) as caught:
        set_up("trace nothing a {\n every x\n service\n}")
    assert [it.token.text for it in caught.value.diagnostics] == ["nothing", "x", "service"]


@pytest.mark.parametrize(
    ("kind", "endpoint", "url"),
    [
        ("zipkin", "", ZIPKIN),
        ("zipkin", "collector", "http://collector/api/v2/spans"),
        ("zipkin", "myhttpd:9411", "http://myhttpd:9411/api/v2/spans"),
        ("zipkin", "[::1]:9411", "http://[::1]:9411/api/v2/spans"),
        ("zipkin", "https://collector/", "https://collector/"),
        ("datadog", "", "http://localhost:8126/v0.4/traces"),
        ("datadog", "[::1]", "http://[::1]:8126/v0.4/traces"),
        ("datadog", "agent:80", "http://agent/v0.4/traces"),
        ("datadog", "https://agent/proxy/", "https://agent/proxy/v0.4/traces"),
        ("datadog", "http://agent/v0.4/traces", "http://agent/v0.4/traces"),
        ("otlp", "", "http://localhost:4318/v1/traces"),
        ("otlp", "collector", "http://collector:4318/v1/traces"),
        ("otlp", "collector/v1/traces", "http://collector:4318/v1/traces"),
        ("otlp", "collector:1/custom", "http://collector:1/custom"),
        ("otlp", "HTTPS://collector:4318", "https://collector:4318/v1/traces"),
        ("otlp", "https://collector/otlp/v1/traces", "https://collector/otlp/v1/traces"),
    ],
)
def test_endpoints(kind, endpoint, url):
    assert target_of(Kind(kind), endpoint).url == url


def test_the_query_of_a_url_without_a_path_is_kept():
    assert target_of(Kind.OTLP, "https://collector?key=1").path == "/v1/traces?key=1"
    assert target_of(Kind.ZIPKIN, "https://collector?key=1").path == "/?key=1"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(Kind), st.text(max_size=20))
def test_any_text_is_an_endpoint_or_refused(kind, text):
    try:
        target = target_of(kind, text)
    except ValueError:
        return
    assert target.host
    assert target.url.startswith(("http://", "https://"))


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("trace otlp", ["'otlp' is taken as the host of a zipkin collector"]),
        ("trace Datadog", ["'Datadog' is taken as the host of a zipkin collector"]),
        ("trace http://zipkin:9411/", ["the URL has no path, and zipkin takes no spans there"]),
        ("trace {\nevery 0\n}", ["every 0 traces no query"]),
        ("trace otlp a {\nclient_server\n}", ["client_server has no effect with otlp"]),
        ("trace {\ndatadog_analytics_rate 1\n}", ["datadog_analytics_rate has no effect with zipkin"]),
        ("trace {\nzipkin_max_backlog_size 1000000\n}", ["1000000 spans use up to 800 MB of memory"]),
    ],
)  # fmt: skip
def test_warnings(text, warnings):
    assert directive(text)[1] == warnings


def test_several_directives_and_defaults():
    settings, warnings = directive(
        "trace otlp a {\n every 5\n zipkin_max_batch_size 7\n}\n"
        "trace datadog b {\n zipkin_max_batch_size 0\n zipkin_max_batch_interval 0\n}"
    )
    assert (settings.kind, settings.target.host, settings.every) == (Kind.DATADOG, "b", 5)
    assert (settings.batch, settings.interval, warnings) == (100, 1, [])


@pytest.mark.parametrize(("every", "listens"), [(0, False), (1, True), (2, False)])
def test_the_packet_cache_stays_on(every, listens):
    (handler,) = set_up(f"trace {{\nevery {every}\n}}").handlers
    assert handler.cacheability is Cacheability.OBSERVES
    assert handler.listens_to_hits is listens
