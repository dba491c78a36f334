"""The functions of a query, and expressions in a Corefile with messages at their columns."""

import socket
import struct
import sys

import pytest

from corepy.dns.address import address_bytes, packed
from corepy.expr import (
    BOOL,
    INT,
    STRING,
    Environment,
    ExpressionError,
    Function,
    Impossible,
    compile_conditions,
    compile_expression,
    query_functions,
    read_expression,
)
from corepy.expr.incidr import read_network
from corepy.plugin import Cacheability, CorefileError
from corepy.testing import controller_for, make_request

ENVIRONMENT = Environment.of(query_functions())


def request(name="www.Example.org.", qtype="A", **options):
    made = make_request(name, qtype, peer=("192.0.2.7", 4000), **options)
    made.local = ("192.0.2.53", 53)
    return made


def value(text, asked=None):
    return compile_expression(text, ENVIRONMENT).evaluate(request() if asked is None else asked)


# -- the functions of CoreDNS (plugin/pkg/expression)


@pytest.mark.parametrize(
    ("text", "expected", "depends"),
    [
        ("bufsize()", 1232, Cacheability.SAFE),
        ("class()", "IN", Cacheability.SAFE),
        ("client_ip()", "192.0.2.7", Cacheability.UNSAFE),
        ("do()", True, Cacheability.SAFE),
        ("id()", None, Cacheability.UNSAFE),
        ("name()", "www.example.org.", Cacheability.SAFE),
        ("opcode()", 0, Cacheability.SAFE),
        ("port()", "4000", Cacheability.UNSAFE),
        ("proto()", "udp", Cacheability.SAFE),
        ("server_ip()", "192.0.2.53", Cacheability.DEPENDS_ON_LOCAL_ADDRESS),
        ("server_port()", "53", Cacheability.SAFE),
        ("size()", None, Cacheability.SAFE),
        ("type()", "A", Cacheability.SAFE),
        ("metadata('geo/country')", "", Cacheability.UNSAFE),
        ("incidr('192.0.2.1', '192.0.2.0/24')", True, Cacheability.SAFE),
    ],
)
def test_functions_of_a_query(text, expected, depends):
    asked = request(do=True, edns=1232)
    compiled = compile_expression(text, ENVIRONMENT)
    assert compiled.depends is depends
    found = compiled.evaluate(asked)
    assert found == {"id()": asked.id, "size()": len(asked.wire)}.get(text, expected)
    assert compiled.type.kind.value == {int: "int", bool: "bool", str: "string"}[type(found)]


def test_values_of_other_queries():
    assert value("bufsize()") == 512
    assert value("do()") is False
    tcp = request(protocol="tcp")
    assert value("bufsize()", tcp) == 65535
    assert value("proto()", tcp) == "tcp"
    asked = make_request("a.example.", "TYPE65280", peer=("2001:db8::1", 53))
    assert value("client_ip() + ' ' + type()", asked) == "2001:db8::1 TYPE65280"
    asked.metadata["geo/country"] = "NL"
    assert value("metadata('geo/country') == 'NL'", asked) is True


@pytest.mark.parametrize(
    ("address", "network", "expected"),
    [
        ("1.2.3.4", "1.2.0.0/16", True), ("10.2.3.4", "1.2.0.0/16", False),
        ("1:2::3:4", "1:2::/64", True), ("A:2::3:4", "1:2::/64", False),
        ("192.0.2.129", "192.0.2.128/25", True), ("192.0.2.127", "192.0.2.128/25", False),
        ("192.0.2.1", "0.0.0.0/0", True), ("::1", "0.0.0.0/0", False), ("192.0.2.1", "::/0", False),
        ("::ffff:192.0.2.1", "192.0.2.0/24", True), ("192.0.2.1", "::ffff:192.0.2.0/120", True),
        ("192.0.2.1", "192.0.2.1/32", True), ("2001:db8::1", "2001:db8::1/128", True),
        ("fe80::1%eth0", "fe80::/10", True), ("192.0.2.200", "192.0.2.77/25", False),
    ],
)  # fmt: skip
def test_incidr(address, network, expected):
    assert value(f"incidr('{address}', '{network}')") is expected
    assert value(f"incidr('{address}', '{network}' + '')") is expected
    assert value(f"any(['{network}'], incidr('{address}', #))") is expected
    for client in clients(address):
        asked = request()
        asked.set_client(client)
        assert value(f"incidr(client_ip(), '{network}')", asked) is expected, client


def clients(address):
    """The forms in which a client's address may be in a request."""
    host, _, zone = address.partition("%")
    yield (host, 4000, 0, 0) if ":" in host else (host, 4000)
    port = struct.pack("!H", 4000)
    raw = packed(host) or b""
    family = socket.AF_INET6 if len(raw) == 16 else socket.AF_INET
    head = family.to_bytes(2, sys.byteorder) + port
    if len(raw) == 4:
        yield head + raw + bytes(8)
        mapped = bytes(10) + b"\xff\xff" + raw
        yield socket.AF_INET6.to_bytes(2, sys.byteorder) + port + bytes(4) + mapped + bytes(4)
    else:
        yield (
            head
            + bytes(4)
            + raw
            + (1).to_bytes(4, sys.byteorder) * bool(zone)
            + bytes(4 * (not zone))
        )


NO_NETWORKS = ["invalid", "", "1.2.0.0", "1.2.0.0/33", "1::/129", "1.2.3.4/255.0.0.0", "01.2.3.4/8",
               "1.2.3.4/-1", "1.2.3.4/ 8", "fe80::1%eth0/64", "1.2.3.4/\u0661", "1.2.3.4/0008"]  # fmt: skip


@pytest.mark.parametrize("network", NO_NETWORKS)
def test_texts_that_are_no_networks(network):
    with pytest.raises(ValueError, match="is not a network"):
        read_network(network)
    for text in (f"incidr(client_ip(), '{network}')", f"incidr('1.2.3.4', '{network}' + '')"):
        with pytest.raises(ExpressionError, match="is not a network"):
            value(text)
    compiled = compile_expression(f"incidr(client_ip(), '{network}')", ENVIRONMENT)
    (warning,) = compiled.warnings
    assert warning.offset == 20


def test_addresses_that_are_none():
    for text in ("incidr('invalid', '1.2.0.0/16')", "incidr(name(), '1.2.0.0/16')"):
        with pytest.raises(ExpressionError, match="is not an IP address"):
            value(text)
    (warning,) = compile_expression("incidr('invalid', '1.2.0.0/16')", ENVIRONMENT).warnings
    assert (warning.offset, str(warning)) == (
        7, "'invalid' is not an IP address, so the expression fails"
    )  # fmt: skip
    asked = request()
    asked.set_client("/run/socket")
    for text in ("incidr(client_ip(), '0.0.0.0/0')", "incidr(client_ip(), '0.0.0.0' + '/0')"):
        with pytest.raises(ExpressionError, match="IP address"):
            value(text, asked)
    assert address_bytes(None) == b""


def test_another_function_for_the_client():
    """`incidr` takes the address of the socket only for its own `client_ip`."""
    other = Function("client_ip", (), STRING, lambda subject: "203.0.113.9")
    environment = Environment.of([*query_functions(), other])
    for network, expected in (("203.0.113.0/24", True), ("192.0.2.0/24", False)):
        for text in (f"'{network}'", f"'{network}' + ''"):
            compiled = compile_expression(f"incidr(client_ip(), {text})", environment)
            assert compiled.evaluate(request()) is expected


def test_conditions_are_compiled_one_by_one():
    text = "name() == 'a.' && (incidr(client_ip(), '::/0') and type() == 'A') && true"
    conditions = compile_conditions(text, ENVIRONMENT)
    assert [each.depends for each in conditions] == [
        Cacheability.SAFE, Cacheability.UNSAFE, Cacheability.SAFE
    ]  # fmt: skip
    assert {each.text for each in conditions} == {text}
    assert len(compile_conditions("true || false", ENVIRONMENT)) == 1


# -- comparisons that are never true

POINTLESS = [
    ("name() == 'www.example.org'", 10, "is never 'www.example.org': names are in lower case, with",
     "write 'www.example.org.'"),
    ("name() != ('WWW.example.org.')", 11, "is never", "write 'www.example.org.'"),
    ("'a' == name()", 0, "name() is never 'a'", "write 'a.'"),
    ("do() || name() in ['a.', 'b', lower('C')]", 25, "name() is never 'b'", "write 'b.'"),
    ("not (name() not in ['a'])", 20, "name() is never 'a'", "write 'a.'"),
    ("name() == ''", 10, "name() is never ''", "write '.'"),
    ("name() endsWith '.Example.org'", 16, "never ends with", "write '.example.org.'"),
    ("name() startsWith 'WWW'", 18, "never starts with 'WWW'", "write 'www'"),
    ("name() contains 'Org'", 16, "never contains 'Org'", "write 'org'"),
    ("name() contains 'ü'", 16, "never contains 'ü': names are ASCII", "xn--"),
    (r"name() matches '^WWW.example\\.'", 15, "never matches", r"write '^www.example\\.'"),
    (r"name() matches `^(www|ftp)\.example\.org$`", 15, "never matches", "write [.]$ for the end"),
    (r"name() matches `\d$`", 15, "never matches", "write [.]$ for the end"),
    ("type() == 'a'", 10, "type() is never 'a': the function returns 'A'", "write 'A'"),
    ("type() in ['A', 'TYPE28']", 16, "the function returns 'AAAA'", "write 'AAAA'"),
    ("type() == 'AAAAA'", 10, "it is not known", "did you mean 'AAAA'?"),
    ("class() == 'in'", 11, "class() is never 'in'", "write 'IN'"),
    ("class() == 'CHAOS'", 11, "it is not known", None),
    ("proto() == 'UDP'", 11, "the protocol of a socket is 'udp' or 'tcp'", "write 'udp'"),
    ("proto() != 'tls'", 11, "the protocol of a socket is 'udp' or 'tcp'", None),
    ("client_ip() in ['10.0.0.0/8']", 16, "it is not an IP address",
     "for a network, write incidr(client_ip(), '10.0.0.0/8')"),
    ("server_ip() == '2001:DB8:0::1'", 15, "the function returns '2001:db8::1'", "write"),
    ("server_ip() == '::ffff:192.0.2.1'", 15, "the function returns '192.0.2.1'", "write '192.0.2.1'"),
    ("client_ip() == '[::1]'", 15, "it is not an IP address", "write '::1'"),
    ("client_ip() == '192.0.2.1:53'", 15, "it is not an IP address", None),
    ("port() == 'domain'", 10, "a port is a number up to 65535", None),
    ("server_port() in ['53', '053']", 24, "a port is a number up to 65535", None),
]  # fmt: skip
POSSIBLE = [
    "name() == '.' && name() startsWith 'www' && name() contains 'example.org'",
    "name() endsWith '' || name() endsWith '.' || name() == 'a.' + 'b' || name() == lower('A')",
    "let n = name(); upper(name()) == 'WWW.EXAMPLE.ORG.' || n == 'a'",
    "name() == nil || name() < 'a' || type() == 'TYPE65280' || type() in ['None', 'Reserved']",
    "type() startsWith 'ns' || type() in {a: 1} || class() == 'CLASS9' || proto() contains 'T'",
    "client_ip() in ['', '192.0.2.1', '::1', 'fe80::1%Eth0'] || client_ip() startsWith '10.'",
    "port() in ['0', '65535'] || port() startsWith 'a' || metadata('a/b') == 'A'",
]
MATCHING = ["(?i)^WWW", "A?b", "a$|b", "org.$", r"(a|b\\.)$", r"\\.$", r"a\\$", r"\\x2e$", "[^a$]", "^WWW[.]",
            "x(.|a)$", r"[A\\-]|[)]b$", "example.org"]  # fmt: skip


@pytest.mark.parametrize(("text", "offset", "message", "hint"), POINTLESS)
def test_constants_that_a_function_never_returns(text, offset, message, hint):
    (warning,) = compile_expression(text, ENVIRONMENT).warnings
    assert warning.offset == offset
    assert message in str(warning)
    assert hint is None if warning.hint is None else hint in warning.hint


@pytest.mark.parametrize(
    "text", [*POSSIBLE, *(f"name() matches '{pattern}'" for pattern in MATCHING)]
)
def test_comparisons_that_may_be_true(text):
    assert not compile_expression(text, ENVIRONMENT).warnings


def test_constants_of_a_function_of_a_plugin():
    def impossible(operator, number):
        return Impossible("it is odd") if operator == "==" and number % 2 else None

    even = Function("even", (), INT, lambda subject: 2, impossible=impossible)
    environment = Environment.of([even])
    (warning,) = compile_expression("even() in [2, 3] || even() > 1", environment).warnings
    assert (warning.offset, str(warning)) == (14, "even() is never 3: it is odd")


def test_an_environment_about_something_else():
    """A plugin may evaluate expressions about an object that has a query."""

    class Subject:
        def __init__(self, asked):
            self.asked = asked

    twice = Function("twice", (INT,), INT, lambda subject, number: 2 * number)
    environment = Environment.of([*query_functions(lambda subject: subject.asked), twice])
    for text, expected in (
        ("name()", "www.example.org."),
        ("incidr(client_ip(), '192.0.2.0/24')", True),
        ("metadata('a/b')", ""),
        ("twice(4)", 8),
    ):
        assert compile_expression(text, environment).evaluate(Subject(request())) == expected


# -- the cost of a query


def calls_of(action):
    """The numbers of calls of Python and of C functions."""
    counts = {"call": 0, "c_call": 0}

    def profile(frame, event, argument):
        if event in counts:
            counts[event] += 1

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return counts["call"] - 1, counts["c_call"] - 1  # without the action and setprofile


def test_the_calls_of_a_usual_expression():
    text = "incidr(client_ip(), '10.0.0.0/8') && name() endsWith '.example.'"
    compiled = compile_expression(text, ENVIRONMENT)
    asked = request("www.example.")
    raw = socket.AF_INET.to_bytes(2, sys.byteorder) + b"\x0f\xa0\x0a\x01\x02\x03" + bytes(8)
    asked.set_client(raw)
    assert compiled.evaluate(asked) is True  # the name as text is kept with the request
    python, c = calls_of(lambda: compiled.evaluate(asked))
    assert python <= 8
    assert c <= 8


# -- in a Corefile


def refusal(line):
    with pytest.raises(CorefileError) as caught:
        read(line)
    return str(caught.value).replace("Corefile", "")


def read(line, environment=ENVIRONMENT):
    controller = controller_for(f"hello {{\n    expr {line}\n}}")
    found = []

    def option():
        tokens = controller.arguments(1)
        found.append(read_expression(controller, tokens, environment))

    for _ in controller.single():
        controller.options({"expr": option})
    return found[0], controller.warnings


def test_words_are_joined():
    expression, warnings = read("name()   ==\t'a.' && \"'b' != 'c'\"")
    assert expression.text == "name() == 'a.' && 'b' != 'c'"
    assert expression.type == BOOL
    assert warnings == []


@pytest.mark.parametrize(
    ("line", "column", "message", "hint"),
    [
        ("name() == 1", 17, "== does not work for string and int", "int(...) makes a number"),
        ("name()  ==   1", 18, "== does not work for string and int", None),
        ('"name() == 1"', 18, "== does not work for string and int", None),
        ("nam() == 'a'", 10, "unknown function 'nam'", "did you mean 'name'?"),
        ("true && nam()", 18, "unknown function 'nam'", None),
        ("name == 'a'", 10, "'name' is a function", "a call has parentheses: name()"),
        ("name() ==", 18, "the expression ends too early", None),
        ('name() == "a.example."', 30, "the expression ends too early", "single quotes"),
        ('type() == "A"', 21, "unknown name 'A'", "single quotes"),
        ("any([1], # > 0)", 17, "the expression ends too early", "# begins a comment"),
        ("any([1], {", 17, "the expression ends too early", "{ opens a block"),
        (r"name() matches '\.a'", 26, r"invalid escape sequence \.", "write \\\\ for a backslash"),
        ("invalid expression", 18, "unexpected 'expression'", None),
        ("1 + 'a'", 12, "+ does not work for int and string", None),
    ],
)
def test_a_mistake_points_at_its_column(line, column, message, hint):
    shown = refusal(line)
    assert shown.startswith(f":3:{column}: invalid expression: {message}\n"), shown
    assert hint is None or hint in shown


def test_a_warning_points_at_its_column():
    _, (warning,) = read("true && incidr(client_ip(), '10.0.0.0')")
    assert (warning.token.line, warning.token.column) == (3, 38)
    assert warning.severity == "warning"
