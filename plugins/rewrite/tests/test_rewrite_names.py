"""Rules for names, types and classes: the tables of plugin/rewrite/{rewrite,name,reverter}_test.go.

CoreDNS's tests can switch off the reversal of replies. Here the changed question is read from the
query that the next handler gets, and the reply is always changed back.
"""

import pytest

from corepy.dns.constants import type_number
from corepy.dns.names import from_text, labels_of
from corepy.dns.presentation import read_record
from corepy.testing import Recorder, make_request, run_chain, set_up


def rewritten(rules, name, qtype="A", qclass=1, answer=(), additional=(), authority=()):
    """Return the query that passes the rules, and the reply, as dnslib objects."""
    text = "\n".join(f"rewrite {rule}" for rule in rules)
    (handler,) = set_up(text).handlers
    request = make_request(name, qtype)
    if qclass != 1:
        request = request.derive(qclass=qclass)

    def records(texts):
        return [read_record(each, 60).wire for each in texts]

    def reply(asked):
        texts = answer or [f"{asked.name} 5 A 10.0.0.1"]
        return asked.reply(0, records(texts), records(authority), records(additional))

    below = Recorder(reply)
    result = run_chain(request, handler, below)
    (asked,) = below.requests
    return asked, result.record


REGEX = r"stop name regex (core)\.(dns)\.(rocks)\.(nl) {2}.{1}.{3}.{4}"
CHAIN = (
    "stop name from.nl. to.nl.",
    REGEX + r" answer name (dns)\.(core)\.(rocks)\.(nl) {2}.{1}.{3}.{4}",
    "stop name exact from.exact.nl. to.nl.",
    "stop name prefix prefix to",
    "stop name suffix .suffix. .nl.",
    "stop name substring from.substring to",
    r"stop name regex (f.*m)\.regex\.(nl) to.{2}",
    r"continue name regex consul\.(rocks) core.dns.{1}",
    "stop name core.dns.rocks to.nl.",
    "continue class HS CH",
    "stop class CH IN",
    "stop type ANY HINFO",
)
A, ANY, HINFO, IN, CH, HS = 1, 255, 13, 1, 3, 4


@pytest.mark.parametrize(
    ("name", "qtype", "qclass", "new_name", "new_type", "new_class"),
    [
        ("from.nl.", A, IN, "to.nl.", A, IN),
        ("a.nl.", A, IN, "a.nl.", A, IN),
        ("a.nl.", A, CH, "a.nl.", A, IN),
        ("a.nl.", ANY, IN, "a.nl.", HINFO, IN),
        ("from.nl.", ANY, IN, "to.nl.", ANY, IN),
        ("from.exact.nl.", A, IN, "to.nl.", A, IN),
        ("prefix.nl.", A, IN, "to.nl.", A, IN),
        ("to.suffix.", A, IN, "to.nl.", A, IN),
        ("from.substring.nl.", A, IN, "to.nl.", A, IN),
        ("from.regex.nl.", A, IN, "to.nl.", A, IN),
        ("consul.rocks.", A, IN, "to.nl.", A, IN),
        ("a.nl.", ANY, CH, "a.nl.", ANY, IN),
        ("a.nl.", ANY, HS, "a.nl.", ANY, IN),
        ("core.dns.rocks.nl.", A, IN, "dns.core.rocks.nl.", A, IN),
    ],
)
def test_rules_are_applied_in_order(name, qtype, qclass, new_name, new_type, new_class):
    asked, record = rewritten(CHAIN, name, "A" if qtype == A else "ANY", qclass)
    assert (asked.name, asked.qtype, asked.qclass) == (new_name, new_type, new_class)
    assert (str(record.q.qname), record.q.qtype, record.q.qclass) == (name, qtype, qclass)


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("prefix.nl.", "to.nl."),
        ("to.suffix.", "to.nl."),
        ("from.substring.nl.", "to.nl."),
        ("from.regex.nl.", "to.nl."),
    ],
)
def test_without_answer_rules_only_the_question_is_changed_back(name, owner):
    """As in CoreDNS (TestRewriteDefaultRevertPolicy), if a rule with stop is the last one."""
    _, record = rewritten(CHAIN, name)
    assert str(record.q.qname) == name
    assert str(record.rr[0].rname) == owner


@pytest.mark.parametrize(
    ("rule", "name", "new", "owner"),
    [
        ("prefix foo bar", "foo.example.com.", "bar.example.com.", "bar.example.com."),
        ("prefix foo. bar.", "foo.example.com.", "bar.example.com.", "bar.example.com."),
        ("suffix com org", "foo.example.com.", "foo.example.org.", "foo.example.org."),
        ("suffix .com .org", "foo.example.com.", "foo.example.org.", "foo.example.org."),
        (
            "suffix .ingress.coredns.rocks nginx.coredns.rocks",
            *("coredns.ingress.coredns.rocks.", *("corednsnginx.coredns.rocks.",) * 2),
        ),
        ("prefix foo bar", *("coredns.foo.",) * 3),
        ("prefix foo bar.", *("coredns.foo.",) * 3),
        ("suffix com org", *("com.coredns.",) * 3),
        ("suffix com org.", *("com.coredns.",) * 3),
        ("substring service svc", *("com.coredns.",) * 3),
        ("prefix foo bar answer auto", "foo.example.com.", "bar.example.com.", "foo.example.com."),
        (
            "prefix foo. bar. answer auto",
            "foo.example.com.",
            "bar.example.com.",
            "foo.example.com.",
        ),
        ("suffix com org answer auto", "foo.example.com.", "foo.example.org.", "foo.example.com."),
        (
            "suffix .com .org answer auto",
            "foo.example.com.",
            "foo.example.org.",
            "foo.example.com.",
        ),
        (
            "suffix .ingress.coredns.rocks nginx.coredns.rocks answer auto",
            *("coredns.ingress.coredns.rocks.", "corednsnginx.coredns.rocks."),
            "coredns.ingress.coredns.rocks.",
        ),
        (
            "exact coredns.rocks service.consul answer auto",
            *("coredns.rocks.", "service.consul.", "coredns.rocks."),
        ),
        (
            "exact coredns.rocks. service.consul. answer auto",
            *("coredns.rocks.", "service.consul.", "coredns.rocks."),
        ),
        (
            "exact coredns.rocks service.consul",
            *("coredns.rocks.", "service.consul.", "coredns.rocks."),
        ),
        (
            "exact coredns.rocks. service.consul.",
            *("coredns.rocks.", "service.consul.", "coredns.rocks."),
        ),
        ("exact coredns.org. service.consul.", *("coredns.rocks.",) * 3),
        (
            "regex (.*).coredns.rocks {1}.coredns.maps answer auto",
            *("foo.coredns.rocks.", "foo.coredns.maps.", "foo.coredns.rocks."),
        ),
        (
            "regex (.*).coredns.rocks {1}.coredns.maps"
            " answer name (.*).coredns.maps {1}.coredns.works",
            *("foo.coredns.rocks.", "foo.coredns.maps.", "foo.coredns.works."),
        ),
        (
            "regex (.*).coredns.rocks {1}.coredns.maps",
            *("foo.coredns.rocks.", "foo.coredns.maps.", "foo.coredns.maps."),
        ),
        # not in CoreDNS's tables
        ("suffix com org", "xcom.", "xorg.", "xorg."),
        ("suffix .com .org", *("xcom.",) * 3),
        ("suffix . .example", "foo.", "foo.example.", "foo.example."),
        ("prefix foo bar", *("xfoo.example.com.",) * 3),
        ("substring . x.", "foo.", "foox.", "foox."),
        ("substring .b .c", "a.b.d.", "a.c.d.", "a.c.d."),
        ("substring b.c d answer auto", "xb.c.", "xd.", "xb.c."),
        (r"regex ^(.)(.)\.$ {2}{1} answer auto", "ab.", "ba.", "ab."),
        (r"regex ^(.)(b)?\.$ {1}{2}x", "a.", "ax.", "ax."),
        ("exact FOO.example BAR.example", "foo.example.", "bar.example.", "foo.example."),
    ],
)
def test_names(rule, name, new, owner):
    asked, record = rewritten([f"stop name {rule}"], name)
    assert (asked.name, str(record.q.qname), str(record.rr[0].rname)) == (new, name, owner)


DNS_CORE = (
    r"regex (core)\.(dns)\.(rocks) {2}.{1}.{3} answer name (dns)\.(core)\.(rocks) {2}.{1}.{3}"
)


@pytest.mark.parametrize("mode", ["stop", "continue"])
@pytest.mark.parametrize(
    ("qtype", "answer"),
    [
        ("A", ["dns.core.rocks. 5 A 10.0.0.1"]),
        ("SRV", ["dns.core.rocks. 5 SRV 0 100 100 srv1.dns.core.rocks."]),
        ("HINFO", ['core.dns.rocks. 5 HINFO INTEL-64 "RHEL 7.4"']),
        ("A", ["dns.core.rocks. 5 A 10.0.0.1", "dns.core.rocks. 5 A 10.0.0.2"]),
    ],
)
def test_owners_are_changed_back_with_patterns(mode, qtype, answer):
    asked, record = rewritten([f"{mode} name {DNS_CORE}"], "core.dns.rocks", qtype, answer=answer)
    assert asked.name == "dns.core.rocks."
    assert str(record.q.qname) == "core.dns.rocks."
    assert record.q.qtype == type_number(qtype)
    assert {str(rr.rname) for rr in record.rr} == {"core.dns.rocks."}
    assert len(record.rr) == len(answer)


CLUSTER = r"regex (.*)\.domain\.uk {1}.cluster.local answer name (.*)\.cluster\.local {1}.domain.uk"
VALUE = r"answer value (.*)\.cluster\.local {1}.domain.uk"
VALUES = {
    "SRV": ("0 100 100 srv1.my.cluster.local.", "srv1.my.domain.uk."),
    "CNAME": ("cname.cluster.local.", "cname.domain.uk."),
    "DNAME": ("dname.cluster.local.", "dname.domain.uk."),
    "MX": ("1 mx1.cluster.local.", "mx1.domain.uk."),
    "NS": ("ns1.cluster.local.", "ns1.domain.uk."),
    "SOA": ("ns1.cluster.local. admin.cluster.local. 15 14400 3600 604800 14400", "ns1.domain.uk."),
    "NAPTR": (
        '100 10 "S" "SIP+D2U" "!^.*$!sip:x@y!" _sip._udp.cluster.local.',
        "_sip._udp.domain.uk.",
    ),
    "PTR": ("ptr.cluster.local.", "ptr.domain.uk."),
}


@pytest.mark.parametrize(
    "rules",
    [
        (f"stop name {CLUSTER} {VALUE}",),
        (f"continue name {CLUSTER} {VALUE}",),
        (f"stop name suffix .domain.uk .cluster.local answer auto {VALUE}",),
        (
            "continue name suffix .domain.uk .domain.us answer auto",
            "stop name suffix .domain.us .cluster.local answer auto",
        ),
    ],
    ids=["stop", "continue", "suffix", "suffix_multiple"],
)
@pytest.mark.parametrize("qtype", VALUES)
def test_values_are_changed_back(rules, qtype):
    text, value = VALUES[qtype]
    at = text.split(" ").index(value.replace("domain.uk", "cluster.local"))
    target = value.replace("domain.uk", "cluster.local")
    asked, record = rewritten(
        rules,
        "my.domain.uk.",
        "ANY" if qtype in ("CNAME", "DNAME", "NS") else qtype,
        answer=[f"my.cluster.local. 5 {qtype} {text}"],
        additional=[f"{target} 5 A 10.0.0.1"],
        authority=["cluster.local. 5 NS NS1.Cluster.Local."],
    )
    assert asked.name == "my.cluster.local."
    assert str(record.q.qname) == "my.domain.uk."
    (found,) = record.rr
    assert str(found.rname) == "my.domain.uk."
    new = from_text(value)
    data = found.rdata.data if qtype == "DNAME" else from_text(str(found.rdata).split(" ")[at])
    assert data == new
    assert [str(rr.rname) for rr in record.ar] == [value]
    (authority,) = record.auth
    assert str(authority.rdata).lower() == "ns1.domain.uk."


def test_names_are_not_changed_back_from_the_root():
    answer = [". 60 NS a.root-servers.net."]
    asked, record = rewritten(["name root.test ."], "root.test.", "NS", answer=answer)
    assert asked.name == "."
    assert [(str(rr.rname), str(rr.rdata)) for rr in record.rr] == [
        ("root.test.", "a.root-servers.net.")
    ]


@pytest.mark.parametrize(
    ("rule", "owner", "expected"),
    [
        ("suffix .corp .", ".", "."),
        ("suffix .corp .", "test.", "test.corp."),
        ("suffix test.corp .", ".", "test.corp."),
        ("suffix .corp .example", r"a\.example.", r"a\.example."),
        ("suffix .corp .example", "Sub.Test.Example.", "Sub.Test.corp."),
        ("suffix .corp .example", "example.", "example."),
        ("suffix .corp .ex\\097mple", "test.example.", "test.corp."),
        ("suffix .corp -x.example", "test-x.example.", "test.corp."),
        ("suffix .corp -x.example", "-x.example.", "-x.example."),
    ],
)
def test_ends_of_names_are_changed_back(rule, owner, expected):
    """The root is the owner of the SOA record in many replies with NXDOMAIN.

    CoreDNS makes an empty label of it, and sends no reply.
    """
    soa = f"{owner} 60 SOA a.test. b.test. 1 2 3 4 5"
    _, record = rewritten([f"name {rule} answer auto"], "test.corp.", authority=[soa])
    assert list(record.auth[0].rname.label) == labels_of(from_text(expected))


def test_values_of_other_types_are_not_changed():
    answer = ["b.example. 5 HTTPS 1 svc.b.example. alpn=h2", 'b.example. 5 TXT "b.example."']
    _, record = rewritten(["name a.example b.example"], "a.example", "ANY", answer=answer)
    assert [str(rr.rdata) for rr in record.rr] == ["1 svc.b.example. alpn=h2", '"b.example."']
    assert {str(rr.rname) for rr in record.rr} == {"a.example."}


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("example.com.", "example.org."),
        ("sub.example.com.", "sub.example.org."),
        ("a.b.example.com.", "a.b.example.org."),
        ("A.b.Example.COM.", "A.b.example.org."),
        ("notexample.com.", "notexample.com."),
        ("example.net.", "example.net."),
        ("com.", "com."),
        (".", "."),
    ],
)
def test_names_below_the_new_name_are_changed_back(owner, expected):
    """TestRemapStringRewriter; letters of any case are equal (RFC 4343)."""
    _, record = rewritten(
        ["name example.org example.com"], "example.org", answer=[f"{owner} A 10.0.0.1"]
    )
    assert [str(rr.rname) for rr in record.rr] == [expected]


@pytest.mark.parametrize(
    ("rules", "owner"),
    [
        ([r"continue name regex ^a\.(.*)\.$ b.{1}"], "a.example."),
        (["continue name prefix a b", "continue name prefix b c"], "a.example."),
        (["continue type A AAAA"], "a.example."),
        (["continue name prefix a b", "stop type A AAAA"], "b.example."),
        (["continue name prefix a b", "stop ttl suffix example 9"], "b.example."),
    ],
)
def test_the_client_gets_its_own_question(rules, owner):
    """CoreDNS returns the changed one if no rule stops and none has an answer rule."""
    _, record = rewritten(rules, "a.example.")
    assert (str(record.q.qname), record.q.qtype) == ("a.example.", 1)
    assert [str(rr.rname) for rr in record.rr] == [owner]


def test_later_rules_see_the_changed_query():
    rules = [
        "continue name a.example b.example",
        "continue type A TXT",
        "ttl b.example 7",
        "name b.example never.example",
    ]
    asked, record = rewritten(rules, "a.example", answer=["b.example. 60 TXT x"])
    assert (asked.name, asked.type) == ("b.example.", "TXT")
    assert [(str(rr.rname), rr.ttl) for rr in record.rr] == [("a.example.", 7)]


def test_a_rule_does_not_apply_again_to_its_own_result():
    asked, _ = rewritten(["continue name suffix .a .a.a"], "x.a.")
    assert asked.name == "x.a.a."


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("stop name example.org. example..org.", "example.org."),
        ("continue name suffix .org .x..org", "example.org."),
        ("name prefix a " + "b" * 64, "a.example."),
        ("name substring a " + "b" * 60, "xa.ya.za.aa.ba."),
        (r"name regex (.*) {1}{1}{1}{1}{1}{1}{1}{1}{1}", "a." * 60),
    ],
)
def test_an_invalid_name_is_a_failure(rule, name):
    (handler,) = set_up(f"rewrite {rule}").handlers
    below = Recorder()
    reply = run_chain(make_request(name), handler, below)
    assert reply.rcode == 2
    assert str(reply.record.q.qname) == name
    assert "invalid name after rewrite" in (reply.error or "")
    assert not below.requests


@pytest.mark.parametrize(
    "rule",
    [
        "name exact a.example b.example answer value (.*) {1}.{1}",
        r"name regex ^a\.(.*)\.$ b.{1} answer name (b.*) {1}.x",
        f"name suffix a.example {'b' * 60}.example answer value c.* {'c' * 64}",
        f"name suffix .example .b answer value ^(c*)\\..* {'{1}.' * 5}x",
    ],
)
def test_an_invalid_name_in_the_reply_is_a_failure(rule):
    """CoreDNS sends no reply at all."""
    (handler,) = set_up(f"rewrite {rule}").handlers
    alias = read_record(f"b.example. 60 CNAME {'c' * 60}.{'d' * 60}.", 60).wire
    below = Recorder(lambda asked: asked.reply(0, [alias]))
    reply = run_chain(make_request("a.example."), handler, below)
    assert reply.rcode == 2
    assert "invalid name in the reply" in (reply.error or "")
    assert str(reply.record.q.qname) == "a.example."


def test_a_name_below_the_new_one_may_be_too_long_for_the_old_one():
    old = ".".join(("x" * 60,) * 3)
    (handler,) = set_up(f"rewrite name {old} b").handlers
    alias = read_record(f"b. 60 CNAME {'c' * 60}.{'d' * 60}.b.", 60).wire
    reply = run_chain(make_request(old), handler, Recorder(lambda asked: asked.reply(0, [alias])))
    assert reply.rcode == 2
    assert "longer than 255 bytes" in (reply.error or "")


def test_escaped_dots_are_part_of_a_label():
    (handler,) = set_up(r"rewrite name suffix .b.example .c.example answer auto").handlers
    for labels, new in ((b"\1a\1b", b"\1a\1c"), (b"\3a.b", b"\3a.b")):
        end = b"\7example\0"
        request = make_request("x").derive(name_wire=labels + end)
        below = Recorder()
        reply = run_chain(request, handler, below)
        assert below.requests[0].name_wire == new + end
        assert reply.wire[12:] == request.wire[12:]
