"""The syntax of *view*, and what its filters depend on."""

import pytest

from corepy.plugin import BlockFilters, Cacheability, CorefileError
from corepy.testing import make_request, refusal, set_up

# All cases of CoreDNS's plugin/view/setup_test.go: text, whether it is refused, number of `expr`.
COREDNS = [
    ("view example {\n expr name() == 'example.com.'\n}", False, 1),
    ("view example {\n expr incidr(client_ip(), '10.0.0.0/24')\n}", False, 1),
    (
        "view example {\n expr name() == 'example.com.'\n expr name() == 'example2.com.'\n}",
        False,
        2,
    ),
    ("view", True, 0),
    ("view example {\n expr invalid expression\n}", True, 0),
    ("view x {\n foo bar\n}\n", True, 0),
    ("view a { }\nview b { }\n", True, 0),
]


@pytest.mark.parametrize(("text", "is_refused", "count"), COREDNS)
def test_the_cases_of_coredns(text, is_refused, count):
    if is_refused:
        assert refusal(text)
        return
    controller = set_up(text)
    (found,) = controller.config.get(BlockFilters).filters
    assert found.view in ("example", "x")
    assert len(found.function.__self__._runs) == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("view", "wrong argument count or unexpected line ending after 'view'"),
        ("view a b", "wrong argument count or unexpected line ending after 'b'"),
        ("view a {\n expr\n}", "wrong argument count or unexpected line ending after 'expr'"),
        ("view a {\n exp true\n}", "unknown option 'exp'"),
        ("view a\nview b", "this plugin can only be used once per Server Block"),
        ("view a {\n expr name() = 'b.'\n}", "invalid expression: unexpected '='"),
        ("view a {\n expr type(1) == 'A'\n}", "invalid expression: too many arguments for type"),
        ("view a {\n expr name == 'b.'\n}", "invalid expression: 'name' is a function"),
    ],
)
def test_what_is_refused(text, message):
    assert refusal(text).message == message


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(CorefileError) as caught:
        set_up("view a {\n expr nam()\n expr true\n expr incidr(1, 2)\n}")
    assert [each.message for each in caught.value.diagnostics] == [
        "invalid expression: unknown function 'nam'",
        "invalid expression: incidr needs string, not int",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("view a", "view without expr accepts all queries"),
        ("view a {\n expr 1\n}", "the value of the expression is never true: its type is int"),
        ("view a {\n expr incidr(client_ip(), '1.2.3.4')\n}", "'1.2.3.4' is not a network"),
    ],
)
def test_warnings(text, message):
    (warning,) = set_up(text).warnings
    assert message in warning.message


SAFE, UNSAFE = Cacheability.SAFE, Cacheability.UNSAFE
HERE = Cacheability.DEPENDS_ON_LOCAL_ADDRESS


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], [SAFE]),
        (["type() == 'A'"], [SAFE]),
        (["client_ip() == '::1'"], [UNSAFE]),
        (["server_ip() == '::1'"], [HERE]),
        (["client_ip() == '::1' && type() == 'A'"], [SAFE, UNSAFE]),
        (["client_ip() == '::1'", "type() == 'A'"], [SAFE, UNSAFE]),
        (["client_ip() == '::1'", "server_ip() == '::1'", "name() == '.'"], [SAFE, HERE, UNSAFE]),
        (["client_ip() == '::1' || type() == 'A'"], [UNSAFE]),
        (["id() > 5", "do()"], [SAFE, UNSAFE]),
    ],
)
def test_what_the_filters_depend_on(lines, expected):
    options = "".join(f" expr {line}\n" for line in lines)
    filters = set_up(f"view inside {{\n{options}}}").config.get(BlockFilters)
    assert [each.cacheability for each in filters.filters] == expected
    assert filters.view == "inside"


def test_the_verdicts():
    controller = set_up("view a {\n expr name() endsWith '.a.' && type() == 'A'\n expr !do()\n}")
    (found,) = controller.config.get(BlockFilters).filters
    for name, qtype, do, expected in (
        ("x.a.", "A", False, True),
        ("x.A.", "A", False, True),
        ("x.b.", "A", False, False),
        ("x.a.", "AAAA", False, False),
        ("x.a.", "A", True, False),
    ):
        assert found.accepts(make_request(name, qtype, do=do)) is expected


@pytest.mark.parametrize("text", ["1", "'true'", "nil", "[true]", "fromJSON('1')"])
def test_only_true_is_true(text):
    controller = set_up(f"view a {{\n expr {text}\n}}")
    (found,) = controller.config.get(BlockFilters).filters
    assert found.accepts(make_request("a.", "A")) is False


def test_a_condition_that_fails_is_not_true(caplog):
    controller = set_up("view a {\n expr incidr(name(), '10.0.0.0/8')\n}")
    (found,) = controller.config.get(BlockFilters).filters
    request = make_request("a.example.", "A")
    for received in (1.0, 2.0, 10.9, 11.1):
        request.received = received
        assert found.accepts(request) is False
    assert [record.getMessage() for record in caplog.records] == [
        "view a rejects a.example. A: incidr: 'a.example.' is not an IP address"
    ] * 2


def test_the_label_of_the_view():
    (handler,) = set_up("view office {\n expr true\n}").handlers
    assert handler.metadata() == {"view/name": "office"}
    assert handler.explain_state(make_request("a.", "A")) == {"state": "office"}
    assert handler.cacheability is SAFE
