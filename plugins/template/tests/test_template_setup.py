"""The *template* directive: what it takes and what it refuses (plugin/template/setup_test.go)."""

import pytest

from corepy.testing import refusal, set_up
from corepy_template.handler import Templates

SOA = 'authority "invalid. 60 {{ .Class }} SOA ns.invalid. hostmaster.invalid. (1 60 60 60 60)"'
OCTETS = "(?P<b>[0-9]*)-(?P<c>[0-9]*)-(?P<d>[0-9]*)"


@pytest.mark.parametrize(
    "text",
    [
        "template ANY ANY {\nrcode NXDOMAIN\n}",
        'template ANY ANY {\nanswer "{{ parseInt }}"\nadditional "{{ parseInt }}"\n}',
        "template ANY ANY (?P<x>",
        "template ANY ANY {\n\n}",
        "template IN AAAA",
        'template ANY A example.com {\nanswer "{{ .Name }} A {{ .Grup.d }}."\nfallthrough\n}',
        "template IN ANY example.com {\nrcode NXDOMAIN\nfallthrough example.com\n}",
        f'template IN A example {{\nmatch ^ip-10-{OCTETS}[.]example[.]$\nanswer "{{{{ .Name }}}} A 10.{{{{ .Group.b }}}}.0.0"\n}}',
        f'template ANY ANY invalid {{\nrcode NXDOMAIN\n{SOA}\nederror 21 "Blocked according to RFC2606"\n}}',
        "template ANY ANY {\nederror 21\n}",
        "template ANY ANY {\nederror 0021\n}",
        "template ANY ANY {\nrcode NOTIMPL\n}",
        "template ANY ANY {\nupstream 192.0.2.1\n}",
        "template ANY A {\nmatch " + "a" * 10000 + "\n}",
    ],
)
def test_accepted(text):
    (handler,) = set_up(text, "domain.com").handlers
    assert isinstance(handler, Templates)
    assert len(handler.rules) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("template", "wrong argument count"),
        ("template X", "unknown query class 'X'"),
        ("template A IN", "class and type come first, such as: template IN A example.org"),
        ("template in A", "did you mean 'IN'?"),
        ("template ANY", "wrong argument count"),
        ("template ANY X", "unknown query type 'X'"),
        ("template ANY ANY .* {\nnotavailable\n}", "unknown option"),
        ("template ANY ANY {\nanswr x\n}", "did you mean 'answer'?"),
        ("template ANY ANY {\nanswer\n}", "wrong argument count"),
        ("template ANY ANY {\nadditional\n}", "wrong argument count"),
        ("template ANY ANY {\nmatch\n}", "wrong argument count"),
        ("template ANY ANY {\nrcode\n}", "wrong argument count"),
        ("template ANY ANY {\nrcode UNDEFINED\n}", "unknown rcode"),
        ("template ANY ANY {\nrcode UNDEFINED\n}", "such as: rcode NXDOMAIN"),
        ("template ANY ANY {\nvar\n}", "such as: var ip "),
        ("template ANY ANY {\nexpr\n}", "such as: expr incidr("),
        ("template ANY A {\nanswer {{ .Name }} A 192.0.2.1\n}", "put the record in double quotes"),
        ('template ANY A {\nanswer "{{ .Name } A 192.0.2.1"\n}', "an action ends with }}"),
        (
            'template ANY A {\nanswer "{{ .Name }} A 192.0.2.{{ .Group.1 }}"\n}',
            'a group without a name is: index .Group "1"',
        ),
        ('template ANY ANY {\nanswer "{{"\n}', "unclosed action"),
        ('template ANY ANY {\nadditional "{{"\n}', "unclosed action"),
        ('template ANY ANY {\nauthority "{{"\n}', "unclosed action"),
        (
            'template ANY ANY {\nanswer "{{ notAFunction }}"\n}',
            "function 'notAFunction' not defined",
        ),
        ('template ANY ANY {\nederror invalid "Blocked"\n}', "invalid extended DNS error code"),
        ("template ANY ANY {\nederror 65536\n}", "invalid extended DNS error code"),
        ("template ANY ANY {\nederror too many arguments\n}", "wrong argument count"),
        ("template ANY A {\nmatch " + "a" * 10001 + "\n}", "too long"),
        ("template ANY A {\nmatch (\n}", "missing )"),
        ("template ANY A {\nmatch (a)\\1\n}", "invalid regular expression"),
    ],
)
def test_refused(text, message):
    assert message in str(refusal(text))


def test_errors_point_into_the_template():
    diagnostic = refusal('template IN A {\nanswer "{{ .Name }} A {{ nme }}"\n}')
    assert diagnostic.token is not None
    assert (diagnostic.token.line, diagnostic.token.column) == (3, 26)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ('answer "{{ .Grup.d }}"', "no such field: .Grup"),
        ("answer nothing", "this is not a valid record"),
        ("answer {{.Name}} 60 IN A 192.0.2.1", "this is not a valid record"),
        ('answer "{{ .Name }} 60 IN {{ .Type }} 1.2.3.400"', "not an IPv4 address: '1.2.3.400'"),
        ('answer "{{.Name}} 60 IN 192.0.2.1"', "type is missing"),
        ('answer "ns.{{ .Zone }} A 192.0.2.1"', "empty label in name 'ns..'"),
        ('answer "{{ .Name }} A {{ .Group.ip }}"', "'<no value>': no match has such a group"),
        ('match (x)\nanswer "{{ .Name }} A {{ $.Group.ip }}"', "no match has such a group"),
        ('answer "{{ .Name }} A {{ .Var.ip }}"', "'<no value>': no var sets it"),
        ('answer "{{ parseInt .Name }}"', "wrong number of args for parseInt"),
    ],
)
def test_what_always_fails_is_warned_of(option, message):
    (warning,) = set_up(f"template IN A {{\n{option}\n}}").warnings
    assert message in warning.message


@pytest.mark.parametrize(
    "option",
    [
        'answer "{{ .Name }} {{ .Class }} {{ .Type }} 192.0.2.1"',
        'answer "www.{{ .Name }} A 192.0.2.1"',
        'answer "{{ .Name }} A {{ .Group.ip }}"\nmatch ^(?P<ip>.*)$',
        'answer "{{ .Name }} A {{ .Var.ip }}"\nvar ip client_ip()',
        'answer "{{ .Name }} A {{ with .Meta \\"a/b\\" }}{{ .ip }}{{ end }}"',
    ],
)
def test_what_may_be_a_record_is_not_warned_of(option):
    assert set_up(f"template IN A {{\n{option}\n}}").warnings == []


def test_types_and_classes_that_differ_are_not_guessed():
    text = 'template ANY ANY {\nanswer "{{ .Name }} {{ .Class }} {{ .Type }} 192.0.2.1"\n}'
    assert set_up(text).warnings == []


def test_a_record_need_not_be_valid_for_all_zones():
    text = 'template IN A . example.org {\nanswer "ns.{{ .Zone }} A 192.0.2.1"\n}'
    assert set_up(text).warnings == []


def test_the_nearest_group_and_variable_are_suggested():
    text = 'template IN A {\nmatch (?P<addr>x)\nvar adr 1\nanswer "{{ .Group.adr }} A {{ .Var.addr }}"\n}'
    assert [it.hint for it in set_up(text).warnings] == [
        "did you mean 'addr'?",
        "did you mean 'adr'?",
    ]


def test_zones_are_those_of_the_block_unless_given():
    for text, zone in (("template IN A", "block."), ("template IN A other", "other.")):
        (handler,) = set_up(text, "block").handlers
        assert isinstance(handler, Templates)
        (rule,) = handler.rules
        wire = bytes((len(zone) - 1,)) + zone[:-1].encode() + b"\0"
        assert rule.zones.find(wire) == zone
        assert rule.zones.find(b"\1x\0") is None
