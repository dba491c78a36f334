"""What *template* answers (cases of plugin/template/template_test.go among them)."""

import pytest

from corepy.dns import Edns, Reply, Request, query
from corepy.dns.edns import ede
from corepy.dns.rdata import plain_records
from corepy.dns.wire import ANSWER
from corepy.plugin import Cacheability, Handler
from corepy.testing import (
    Recorder,
    Upstream,
    make_request,
    run_chain,
    serve,
    set_up,
    with_handlers,
)
from corepy_template.data import FIELDS
from corepy_template.handler import Templates
from corepy_template.language import compile_template
from corepy_template.metrics import MATCHES, RR_FAILURES, TEMPLATE_FAILURES
from corepy_template.writer import record_of

IP = 'match "(^|[.])ip-10-(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)[.]example[.]$"\n'
A = 'answer "{{ .Name }} 60 IN A 10.{{ .Group.b }}.{{ .Group.c }}.{{ .Group.d }}"\n'


ADDRESS = b"\1t\0\0\1\0\1\0\0\0\5\0\4\1\2\3\4"
"""t. 5 IN A 1.2.3.4"""


def handler(*options, head="template ANY ANY"):
    (template,) = set_up(f"{head} {{\n" + "\n".join(options) + "\n}").handlers
    assert isinstance(template, Templates)
    return template


def answers(template, name, qtype="A", below=None, **question):
    request = make_request(name, qtype, peer=("10.240.0.1", 40212), **question)
    request.metadata = {"foo": "myfoo", "bar": "mybar"}
    return run_chain(request, template, below or Recorder())


def texts(records):
    return [f"{rr.rname} {rr.ttl} {rr.rtype} {rr.rdata}" for rr in records]


@pytest.mark.parametrize(
    ("options", "qname", "expected"),
    [
        ([IP, A], "ip-10-95-12-8.example.", ["ip-10-95-12-8.example. 60 1 10.95.12.8"]),
        ([IP, A], "x.IP-10-1-2-3.Example.", ["x.ip-10-1-2-3.example. 60 1 10.1.2.3"]),
        (
            [
                'match "^ip0a(?P<b>[a-f0-9]{2})[.]example[.]$"',
                'answer "{{ .Name }} 60 IN A 10.0.0.{{ parseInt .Group.b 16 8 }}"',
            ],
            "ip0a5f.example.",
            ["ip0a5f.example. 60 1 10.0.0.95"],
        ),
        (['answer "{{ .Name }} 60 IN A {{ .Remote }}"'], "a.", ["a. 60 1 10.240.0.1"]),
        (['answer "{{ .Meta `foo` }}{{ .Meta `none` }}.x A 192.0.2.1"'], "a.", ["myfoo.x. 3600 1 192.0.2.1"]),
        (["match ^b", "match (a)", 'answer "{{ index .Match 1 }}.{{ .Regex | len }} A 192.0.2.1"'], "a.", ["a.3. 3600 1 192.0.2.1"]),
        (['answer "x A 192.0.2.{{ .Message.RecursionDesired | len | printf `%v` }}"'], "a.", None),
        (['answer "x A 192.0.2.{{ if .Message.RecursionDesired }}1{{ end }}"'], "a.", ["x. 3600 1 192.0.2.1"]),
        (['answer "x A 192.0.2.{{ (index .Message.Question 0).Qtype }}"'], "a.", ["x. 3600 1 192.0.2.1"]),
        (['answer "{{ .Question.Name }} A 192.0.2.1"'], "aBc.", ["aBc. 3600 1 192.0.2.1"]),
        (['answer "x A 192.0.2.{{ if .Message.IsEdns0 }}1{{ else }}2{{ end }}"'], "a.", ["x. 3600 1 192.0.2.2"]),
        (['answer "{{ .Zone }} A 192.0.2.1"'], "a.", [". 3600 1 192.0.2.1"]),
    ],
)  # fmt: skip
def test_answer(options, qname, expected):
    reply = answers(handler(*options), qname)
    if expected is None:
        assert reply.rcode == 2
    else:
        assert (reply.rcode, reply.aa, texts(reply.record.rr)) == (0, True, expected)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (".Name", "a.example."),
        (".Zone", "example."),
        (".Type", "A"),
        (".Class", "IN"),
        (".Regex", "^(?P<x>a)(b)?"),
        (".Match", "[a a ]"),
        (".Group", "map[0:a 1:a 2: x:a]"),
        (".Group.x", "a"),
        ('index .Group "2"', ""),
        (".Var.x", "<no value>"),
        (".Remote", "10.240.0.1"),
        (".Question", ";A.Example.\tIN\t A"),
        (".Question.Name", "A.Example."),
        (".Question.Qtype", "1"),
        (".Question.Qclass", "1"),
        (".Message.Id", "7"),
        (".Message.Response", "false"),
        (".Message.Opcode", "0"),
        (".Message.Rcode", "0"),
        (".Message.RecursionDesired", "true"),
        (".Message.RecursionAvailable", "false"),
        (".Message.Authoritative", "false"),
        (".Message.Truncated", "false"),
        (".Message.Zero", "false"),
        (".Message.AuthenticatedData", "false"),
        (".Message.CheckingDisabled", "false"),
        ("len .Message.Question", "1"),
        (".Message.IsEdns0.Do", "true"),
        (".Message.IsEdns0.UDPSize", "1400"),
        (".Message.IsEdns0.Version", "0"),
        (".Message.Len", "38"),
    ],
)
def test_what_templates_see(field, expected):
    request = Request.from_wire(query(b"\1A\7Example\0", 1, ident=7, edns=Edns(1400, do=True)))
    request.client = ("10.240.0.1", 5)
    (template,) = set_up("template IN A example {\nmatch ^(?P<x>a)(b)?\n}").handlers
    assert isinstance(template, Templates)
    (rule,) = template.rules
    assert rule.writer is not None
    data = rule.writer.match(request, "example.")
    compiled, warnings = compile_template(f"{{{{ {field} }}}}", FIELDS)
    assert not warnings
    assert compiled.render(data) == expected


@pytest.mark.parametrize(("qtype", "expected"), [("A", "A"), ("ANY", "AAAA"), ("TYPE65280", "")])
def test_type_as_templates_see_it(qtype, expected):
    template = handler('answer "x TXT {{ printf `%q` .Type }}"', head="template IN AAAA")
    template.rules[0].qtype = 255 if qtype != "ANY" else 28
    request = make_request("a.", "A")
    request.qtype = {"A": 1, "ANY": 255, "TYPE65280": 65280}[qtype]
    reply = run_chain(request, template, Recorder())
    assert [str(rr.rdata) for rr in reply.record.rr] == [f'"{expected}"']


def test_sections_and_rcode():
    template = handler(
        "rcode NXDOMAIN",
        'authority "invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)"',
        'additional "ns.invalid. A 192.0.2.1"',
        'ederror 21 "Blocked according to RFC2606"',
    )
    reply = answers(template, "x.invalid.", "MX")
    assert (reply.rcode, reply.aa) == (3, True)
    assert texts(reply.record.auth) == [
        "invalid. 60 6 ns.invalid. hostmaster.invalid. 1 60 60 60 60"
    ]
    assert texts(reply.record.ar) == ["ns.invalid. 3600 1 192.0.2.1"]
    assert reply.options == ede(21, "Blocked according to RFC2606")


@pytest.mark.parametrize(
    ("rcode", "header"),
    [("NOERROR", "8500"), ("NXDOMAIN", "8503"), ("REFUSED", "8505"), ("SERVFAIL", "8102")],
)
def test_no_records(rcode, header):
    request = make_request("Example.org", "AAAA")
    reply = run_chain(request, handler(f"rcode {rcode}"), Recorder())
    assert reply.wire[:2] == request.wire[:2]
    assert reply.wire[2:4].hex() == header
    assert reply.wire[4:] == b"\0\1" + bytes(6) + request.question


@pytest.mark.parametrize(
    ("options", "error", "counter"),
    [
        (['answer "{{ .Name }} IN TXT {{ index .Match 2 }}"'], "index out of range: 2", TEMPLATE_FAILURES),
        (['answer "{{ .Name }} TXT {{ parseInt `gg` 16 8 }}"'], "error calling parseInt", TEMPLATE_FAILURES),
        (['answer "{{ .Name }}"'], "template: Corefile:3:8: answer '{{ .Name }}': type is missing", RR_FAILURES),
        (['additional "{{ .Name }}"'], "additional", RR_FAILURES),
        (['authority "{{ .Name }}"'], "authority", RR_FAILURES),
    ],
)  # fmt: skip
def test_failures(options, error, counter):
    before = sum(child.value for _, child in counter.children())
    reply = answers(handler(*options), "test.example.")
    assert reply.rcode == 2
    assert error in (reply.error or "")
    assert sum(child.value for _, child in counter.children()) == before + 1


@pytest.mark.parametrize(
    ("head", "options", "name", "qtype", "outcome"),
    [
        ("template IN A", [], "a.", "A", "answered"),
        ("template IN A", [], "a.", "AAAA", "passed on"),
        ("template IN A", [], "a.", "ANY", "answered"),
        ("template IN ANY", [], "a.", "AAAA", "answered"),
        ("template IN A example", [], "a.example.", "A", "answered"),
        ("template IN A example", [], "a.sample.", "A", "passed on"),
        ("template IN A example", [], "example.", "A", "answered"),
        ("template IN A example", [], "anexample.", "A", "passed on"),
        ("template CH A", [], "a.", "A", "passed on"),
        ("template ANY A", [], "a.", "A", "answered"),
        ("template IN A", ["match b"], "a.", "A", "SERVFAIL"),
        ("template IN A", ["match b", "match a"], "a.", "A", "answered"),
        ("template IN A", ["match b a"], "a.", "A", "answered"),
        ("template IN A", ["match b", "fallthrough"], "a.", "A", "passed on"),
        ("template IN A", ["match b", "fallthrough x"], "a.x.", "A", "passed on"),
        ("template IN A", ["match b", "fallthrough x"], "a.y.", "A", "SERVFAIL"),
    ],
)
def test_matching(head, options, name, qtype, outcome):
    below = Recorder()
    reply = answers(handler(*options, head=head), name, qtype, below)
    passed_on = "passed on" if below.requests else "answered"
    assert outcome == ("SERVFAIL" if reply.rcode == 2 else passed_on)


def test_the_first_directive_that_matches_answers():
    text = "template IN A {\nmatch ^a\nrcode REFUSED\nfallthrough\n}\ntemplate IN A {\nrcode NXDOMAIN\n}"
    (template,) = set_up(text).handlers
    assert answers(template, "a.").rcode == 5
    assert answers(template, "b.").rcode == 3


def followed(*lines, name="foogle", qtype="A"):
    """The answer to a question in a server whose template has these lines; another block knows `t`."""
    template = "\n".join(["template IN ANY {", *lines, "}"])
    block = 'template IN A t {\nanswer "t 5 IN A 1.2.3.4"\n}'
    with serve(f"foogle {{\n{template}\n}}\n. {{\n{block}\n}}") as server:
        return texts(server.ask(name, qtype).rr)


def test_cname_is_followed():
    alias = 'answer "foogle 60 IN CNAME t"'
    assert followed(alias) == ["foogle. 60 5 t.", "t. 5 1 1.2.3.4"]
    assert followed(alias, qtype="MX") == ["foogle. 60 5 t."]


def test_records_of_the_target_are_added_byte_by_byte():
    """Also those that dnslib cannot hold, or writes otherwise."""
    below = [
        r"t 5 TYPE65280 \# 0",
        r"t 5 NULL \# 2 abcd",
        r"t 5 MX 1 \200\000.T",
        "t 5 CERT 1 2 0 AA==",
    ]
    answer = "".join(f'answer "{line}"\n' for line in below)
    text = (
        'foogle {\ntemplate IN A {\nanswer "foogle 60 CNAME t"\n}\n}\n'
        f". {{\ntemplate IN A {{\n{answer}}}\n}}"
    )
    with serve(text) as server:
        wire = server.exchange(query(b"\6foogle\0", 1))
    alias, *others = plain_records(wire, ANSWER)
    assert alias == record_of("foogle 60 CNAME t").wire
    assert others == [record_of(line).wire for line in below]


def test_aliases_in_a_circle_end():
    assert 1 <= len(followed('answer "{{ .Name }} CNAME a.foogle"')) <= 10


def test_unreadable_answer_for_a_target():
    class Unreadable(Handler):
        name = "unreadable"

        async def serve_dns(self, request):
            return Reply(request.wire[:2] + b"\x80\0\0\1\0\1\0\0\0\0")

    text = '. {\ntemplate IN A {\nanswer "x CNAME t"\nmatch x\nfallthrough\n}\nunreadable\n}'
    plugins = with_handlers(unreadable=Unreadable)
    plugins["unreadable"].entry_point.load().after = ("template",)
    with serve(text, plugins=plugins) as server:
        assert texts(server.ask("x").rr) == ["x. 3600 5 t."]


@pytest.mark.parametrize(
    ("record", "cacheability"),
    [
        ("{{ .Name }} A 192.0.2.1", Cacheability.SAFE),
        ("x A 192.0.2.1", Cacheability.SAFE),
        ("{{ .Name }} A {{ .Remote }}", Cacheability.UNSAFE),
        ("{{ with $ }}{{ .Remote }}{{ end }}", Cacheability.UNSAFE),
        ("{{ .Meta `a` }} A 192.0.2.1", Cacheability.UNSAFE),
    ],
)
def test_purity(record, cacheability):
    assert handler(f'answer "{record}"').cacheability is cacheability


def test_matches_are_counted():
    labels = ("dns://:53", "example.", "", "IN", "A")
    before = MATCHES.labels(*labels).value
    answers(handler("rcode NOERROR", head="template IN A example"), "a.example.")
    answers(handler("rcode NOERROR", head="template IN A example"), "a.example.", "ANY")
    assert MATCHES.labels(*labels).value == before + 2


def test_types_without_a_name_do_not_make_labels():
    known = len(MATCHES.children())
    template = handler("rcode NOERROR", head="template ANY ANY labels")
    for number in range(65000, 65050):
        request = make_request("a.labels.")
        request.qtype = number
        run_chain(request, template, Recorder())
    assert len(MATCHES.children()) == known + 1


def test_pattern_that_backtracks_elsewhere():
    template = handler('match "^(a+)+$"', "fallthrough")
    assert answers(template, ".".join(["a" * 62] * 4)).rcode == 0


def test_served():
    with Upstream({"www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"]}) as upstream:
        text = f""". {{
            bind 127.0.0.1
            template IN AAAA {{
                rcode NOERROR
            }}
            template IN A example {{
                {IP}{A}fallthrough
            }}
            forward . {upstream.to}
        }}"""
        with serve(text) as server:
            empty = server.ask("a.example.org", "AAAA")
            made = server.ask("ip-10-0-0-1.example", tcp=True)
            passed_on = server.ask("www.example.org")
    assert (empty.header.rcode, empty.header.aa, empty.rr) == (0, 1, [])
    assert str(made.rr[0].rdata) == "10.0.0.1"
    assert passed_on.rr
