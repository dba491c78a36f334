"""The options `var` and `expr` (plugin/template: setup_test.go, var_test.go, expr_test.go)."""

import pytest

from corepy.plugin import Cacheability
from corepy.testing import Recorder, make_request, refusal, run_chain, serve, set_up
from corepy_template.handler import Templates

MATCH = "match ^(?P<a>[a-z]+)[.]example[.]$"
N = "match ^(?P<n>[0-9]+)[.]example[.]$"
REPLY = 'answer "{{ .Name }} 60 IN A 10.0.0.1"'
FAILS = "incidr('notanip', '10.0.0.0/8')"


def handler(*options, head="template IN A example."):
    (template,) = set_up(f"{head} {{\n" + "\n".join(options) + "\n}").handlers
    assert isinstance(template, Templates)
    return template


# All cases of TestSetupParseVar and TestSetupParseExpr: the options, the numbers of variables and
# conditions, or None if they are refused.
SETUP = [
    (["var a 1"], (1, 0)),
    (["var a 1", "var b a + 1", "var c 'x' + name()"], (3, 0)),
    ([MATCH, 'var a group("a") + group(1) + group(0)'], (1, 0)),
    (["var"], None),
    (["var a"], None),
    (["var 1a 1"], None),
    (["var a-b 1"], None),
    (["var name 1"], None),
    (["var group 1"], None),
    (["var len 1"], None),
    (["var true 1"], None),
    (["var let 1"], None),
    (["var a 1 +"], None),
    (["var a invalid expression"], None),
    (["var a b + 1", "var b 1"], None),
    (["var a undefined"], None),
    (["var a 1", "var a 2"], None),
    (["var a 1", "var b a + 1", "var c 'x' + b"], None),
    (["expr name() == 'a.example.'"], (0, 1)),
    (["expr name() == 'a.example.'", "expr incidr(client_ip(), '10.0.0.0/8')"], (0, 2)),
    (["var a 1", "expr a == 1"], (1, 1)),
    ([MATCH, "expr group('a') != ''"], (0, 1)),
    (["expr 1"], (0, 1)),
    (["expr"], None),
    (["expr name() =="], None),
    (["expr invalid expression"], None),
    (["expr undefined == 1"], None),
    (["var a 1", "expr a + 'x'"], None),
]


@pytest.mark.parametrize(("options", "counts"), SETUP, ids=[" ".join(it) for it, _ in SETUP])
def test_the_setup_cases_of_coredns(options, counts):
    if counts is None:
        text = "template ANY ANY example. {\n" + "\n".join(options) + "\n}"
        assert refusal(text).token is not None
        return
    (rule,) = handler(*options, head="template ANY ANY example.").rules
    assert (len(rule.expressions._variables), len(rule.expressions._conditions)) == counts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["var 1a 1"], "invalid variable name '1a'"),
        (["var \u00e9 1"], "invalid variable name '\u00e9'"),
        (["var name 1"], "variable name 'name' is reserved"),
        (["var len 1"], "variable name 'len' is reserved"),
        (["var in 1"], "variable name 'in' is reserved"),
        (["var nil 1"], "variable name 'nil' is reserved"),
        (["var a 1", "var a 2"], "variable 'a' is set twice"),
        (["var a 1", "var c 'x' + a"], "invalid expression: + does not work for string and int"),
        (["expr grup(1)"], "invalid expression: unknown function 'grup'"),
    ],
)
def test_messages(options, message):
    assert refusal("template IN A {\n" + "\n".join(options) + "\n}").message == message


def test_a_mistake_points_at_its_column():
    diagnostic = refusal("template IN A {\nvar a 1\nexpr  a == 'x'\n}")
    assert diagnostic.token is not None
    assert (diagnostic.token.line, diagnostic.token.column) == (4, 9)


def test_a_condition_that_is_no_bool_is_warned_of():
    (warning,) = set_up("template IN A {\nexpr 1\n}").warnings
    assert warning.message == "the value of the expression is never true: its type is int"


PASSED = "passed on"

# All cases of TestVar and TestExpr: the options of one or two directives, name, type, and the
# records, or SERVFAIL, or that the query went to the next plugin.
QUERIES = [
    ([["var ttl 60", 'answer "{{ .Name }} {{ .Var.ttl }} IN A 10.0.0.1"']], "a", "A",
     ["a.example. 60 10.0.0.1"]),
    ([["var a 1", "var b a + 1", "var c b * 10",
       'answer "{{ .Name }} 60 IN A 10.{{ .Var.a }}.{{ .Var.b }}.{{ .Var.c }}"']], "a", "A",
     ["a.example. 60 10.1.2.20"]),
    ([["match ^(?P<a>[0-9]+)-(?P<b>[0-9]+)[.]example[.]$", "var a group('a')", "var b group(2)",
       "var whole group(0)", 'answer "{{ .Var.whole }} 60 IN A 10.0.{{ .Var.a }}.{{ .Var.b }}"']],
     "12-34", "A", ["12-34.example. 60 10.0.12.34"]),
    ([[MATCH, "var missing group('nosuchgroup') + group(9)",
       r'answer "{{ .Name }} 60 IN TXT \"empty={{ eq .Var.missing \"\" }}\""']], "a", "TXT",
     ['a.example. 60 "empty=true"']),
    ([["var n name()", "var t type()", "var ip client_ip()",
       'answer "{{ .Var.n }} 60 IN A {{ .Var.ip }}"',
       r'additional "{{ .Var.n }} 60 IN TXT \"{{ .Var.t }}\""']], "a", "A",
     ["a.example. 60 10.240.0.1", 'a.example. 60 "A"']),
    ([["var region metadata('test/region')", 'answer "{{ .Var.region }}.{{ .Name }} 60 IN A 10.0.0.1"']],
     "a", "A", ["eu.a.example. 60 10.0.0.1"]),
    ([["var local incidr(client_ip(), '10.0.0.0/8')",
       'answer "{{ .Name }} 60 IN A {{ if .Var.local }}10.0.0.1{{ else }}192.0.2.1{{ end }}"']],
     "a", "A", ["a.example. 60 10.0.0.1"]),
    ([["var target 'ns0.example.'", REPLY, 'additional "{{ .Var.target }} 60 IN A 10.0.0.2"',
       'authority "example. 60 IN NS {{ .Var.target }}"']], "a", "A",
     ["a.example. 60 10.0.0.1", "example. 60 ns0.example.", "ns0.example. 60 10.0.0.2"]),
    ([[r'answer "{{ .Name }} 60 IN TXT \"{{ len .Var }}\""']], "a", "TXT", ['a.example. 60 "0"']),
    ([["match ^a[.]example[.]$", "var v '1'", 'answer "{{ .Name }} 60 IN A 10.0.0.{{ .Var.v }}"'],
      ["match ^b[.]example[.]$", r'answer "{{ .Name }} 60 IN TXT \"{{ len .Var }}\""']], "a", "A",
     ["a.example. 60 10.0.0.1"]),
    ([[f"var bad {FAILS}", REPLY]], "a", "A", "SERVFAIL"),
    ([[f"var bad {FAILS}", REPLY, "fallthrough"]], "a", "A", "SERVFAIL"),
    ([["match ^a[.]example[.]$", f"var bad {FAILS}", REPLY, "fallthrough"]], "b", "A", PASSED),
    ([["expr name() == 'a.example.'", REPLY]], "a", "A", ["a.example. 60 10.0.0.1"]),
    ([["expr name() == 'b.example.'", REPLY]], "a", "A", "SERVFAIL"),
    ([["expr name() == 'b.example.'", REPLY, "fallthrough"]], "a", "A", PASSED),
    ([["expr name() == 'b.example.'", REPLY, "fallthrough other.example."]], "a", "A", "SERVFAIL"),
    ([["expr name() == 'b.example.'", REPLY, "fallthrough"],
      ['answer "{{ .Name }} 60 IN A 10.0.0.2"']], "a", "A", ["a.example. 60 10.0.0.2"]),
    ([["expr name() == 'a.example.'", "expr type() == 'A'", "expr incidr(client_ip(), '10.0.0.0/8')",
       REPLY]], "a", "A", ["a.example. 60 10.0.0.1"]),
    ([["expr name() == 'a.example.'", "expr type() == 'A'",
       "expr incidr(client_ip(), '192.0.2.0/24')", REPLY, "fallthrough"]], "a", "A", PASSED),
    ([[N, "var num int(group('n'))", "expr num > 1",
       'answer "{{ .Name }} 60 IN A 10.0.0.{{ .Var.num }}"', "fallthrough"]], "2", "A",
     ["2.example. 60 10.0.0.2"]),
    ([[N, "var num int(group('n'))", "expr num > 1",
       'answer "{{ .Name }} 60 IN A 10.0.0.{{ .Var.num }}"', "fallthrough"]], "1", "A", PASSED),
    ([[N, "expr group('n') == '2' && group(0) == '2.example.'",
       'answer "{{ .Name }} 60 IN A 10.0.0.{{ .Group.n }}"', "fallthrough"]], "2", "A",
     ["2.example. 60 10.0.0.2"]),
    ([["expr metadata('test/region') == 'eu'", REPLY, "fallthrough"]], "a", "A",
     ["a.example. 60 10.0.0.1"]),
    ([["expr metadata('test/region') == 'us'", REPLY, "fallthrough"]], "a", "A", PASSED),
    ([["expr 1", REPLY, "fallthrough"]], "a", "A", PASSED),
    ([[f"expr {FAILS}", REPLY]], "a", "A", "SERVFAIL"),
    ([[f"expr {FAILS}", REPLY, "fallthrough"]], "a", "A", "SERVFAIL"),
    ([["match ^a[.]example[.]$", f"expr {FAILS}", REPLY, "fallthrough"]], "b", "A", PASSED),
    # TestExprMatch, of which two are above.
    ([["expr name() == 'a.example.'", "expr true", REPLY, "fallthrough"]], "a", "A",
     ["a.example. 60 10.0.0.1"]),
    ([["expr false", "expr true", REPLY, "fallthrough"]], "a", "A", PASSED),
    # Our own.
    ([["expr true"]], "a", "A", []),
    ([["expr group(0) == name() && group(1) == '' && group(true) == ''", REPLY]], "a", "A",
     ["a.example. 60 10.0.0.1"]),
    ([["var list 1..3", r'answer "{{ .Name }} 60 IN TXT \"{{ .Var.list }} {{ index .Var.list 1 }}\""']],
     "a", "TXT", ['a.example. 60 "[1 2 3] 2"']),
    ([["var nested [1..2, {a: 2..3}]", r'answer "{{ .Name }} 60 IN TXT \"{{ .Var.nested }}\""']],
     "a", "TXT", ['a.example. 60 "[[1 2] map[a:[2 3]]]"']),
    ([['var groups "groupBy(1..3, # % 2 == 0)"', "expr groups[true] == [2]",
       r'answer "{{ .Name }} 60 IN TXT \"{{ .Var.groups }} {{ index .Var.groups "true" }}\""'
       .replace('"true"', r'\"true\"')]], "a", "TXT",
     ['a.example. 60 "map[false:[1 3] true:[2]] [2]"']),
    ([["var empty nil", "expr empty == nil", REPLY]], "a", "A", ["a.example. 60 10.0.0.1"]),
]  # fmt: skip


@pytest.mark.parametrize(("directives", "label", "qtype", "expected"), QUERIES)
def test_the_query_cases_of_coredns(directives, label, qtype, expected):
    text = "\n".join(
        f"template IN {qtype} example. {{\n" + "\n".join(options) + "\n}" for options in directives
    )
    (template,) = set_up(text).handlers
    request = make_request(f"{label}.example.", qtype, peer=("10.240.0.1", 40212))
    request.metadata = {"test/region": "eu"}
    below = Recorder()
    reply = run_chain(request, template, below)
    if below.requests:
        assert expected == PASSED
    elif expected == "SERVFAIL":
        assert reply.rcode == 2
        assert (reply.error is not None) == any("notanip" in line for line in directives[0])
    else:
        record = reply.record
        records = [*record.rr, *record.auth, *record.ar]
        assert [f"{rr.rname} {rr.ttl} {rr.rdata}" for rr in records] == expected


def test_a_failure_names_the_place():
    template = handler("var a 1", f"var bad {FAILS}", REPLY)
    reply = run_chain(make_request("a.example.", "A"), template, Recorder())
    assert reply.error == ("plugin/template: Corefile:4:5: incidr: 'notanip' is not an IP address")


def test_a_variable_that_would_need_much_memory_as_text():
    options = ("var text repeat('x', 60000)", "var many map(1..9000, text)", REPLY)
    reply = run_chain(make_request("a.example.", "A"), handler(*options), Recorder())
    assert reply.rcode == 2
    assert reply.error == (
        "plugin/template: Corefile:4:5: many: the value has more than 65536 elements and characters"
    )


@pytest.mark.parametrize(
    ("options", "cacheability"),
    [
        (["expr type() == 'A'"], Cacheability.SAFE),
        (["var a group(0)", "expr a != ''"], Cacheability.SAFE),
        (["var ip client_ip()"], Cacheability.UNSAFE),
        (["var ip server_ip()"], Cacheability.DEPENDS_ON_LOCAL_ADDRESS),
        (["var ip server_ip()", "expr metadata('a/b') == ip"], Cacheability.UNSAFE),
        (["var ip server_ip()", 'answer "{{ .Remote }}"'], Cacheability.UNSAFE),
    ],
)
def test_cacheability(options, cacheability):
    assert handler(*options).cacheability is cacheability


def test_cacheability_of_several_directives():
    text = "template IN A {\nvar a server_ip()\n}\ntemplate IN A {\n%s\n}"
    for option, expected in (
        ("expr true", Cacheability.DEPENDS_ON_LOCAL_ADDRESS),
        ("expr client_ip() == ''", Cacheability.UNSAFE),
    ):
        (template,) = set_up(text % option).handlers
        assert template.cacheability is expected


@pytest.mark.parametrize(
    ("condition", "answers"),
    [
        ("client_ip() == '127.0.0.2'", ["2", "1", "2", "1"]),
        ("proto() == 'udp' || client_ip() == '127.0.0.9'", ["2", "2", "2", "2"]),
        ("type() == 'A'", ["2", "2", "2", "2"]),
    ],
)
def test_no_client_gets_the_reply_of_another_one_from_cache(condition, answers):
    text = f""". {{
        bind 127.0.0.1
        cache
        template IN A {{
            expr {condition}
            answer "{{{{ .Name }}}} 60 IN A 192.0.2.2"
            fallthrough
        }}
        template IN A {{
            answer "{{{{ .Name }}}} 60 IN A 192.0.2.1"
        }}
    }}"""
    with serve(text) as server:
        found = [
            str(server.ask("a.example.", "A", source=source).rr[0].rdata)[-1]
            for source in ("127.0.0.2", "127.0.0.1") * 2
        ]
        assert found == answers


def test_names_that_no_pattern_matches_are_cached():
    """Which client asks matters only for the names that the first directive is about."""
    text = """. {
        bind 127.0.0.1
        cache
        template IN A {
            match ^only[.]
            expr client_ip() == '127.0.0.2'
            answer "{{ .Name }} 60 IN A 192.0.2.2"
            fallthrough
        }
        template IN A {
            answer "{{ .Name }} 60 IN A 192.0.2.1"
        }
    }"""
    with serve(text) as server:
        for name, answers, kept in (("only.example.", "2121", 0), ("b.example.", "1111", 1)):
            found = [
                str(server.ask(name, "A", source=source).rr[0].rdata)[-1]
                for source in ("127.0.0.2", "127.0.0.1") * 2
            ]
            assert "".join(found) == answers
            assert server.call(lambda: server.packet_entries) == kept
