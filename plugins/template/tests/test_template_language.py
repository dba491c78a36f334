"""The template language against Go's: the expected texts are what text/template (Go 1.19) makes of them."""

from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy_template.language import compile_template
from corepy_template.rendering import MOST_STEPS, MOST_TEXT, SyntaxProblem
from corepy_template.values import Struct, TemplateError

REFUSED, FAILS = "refused by the parser", "fails for the data below"


class Question(Struct):
    go_type = "*dns.Question"
    FIELDS: ClassVar = {
        "Name": lambda question: "IP-10-a.example.",
        "Qtype": lambda question: 1,
        "Qclass": lambda question: 1,
    }


def value_of(name):
    return lambda data: data.VALUES[name]


class Data(Struct):
    go_type = "*template.templateData"
    VALUES: ClassVar = {
        "Zone": "example.",
        "Name": "ip-10-a.example.",
        "Regex": "x",
        "Match": ("ip-10-a", "10", ""),
        "Group": {"0": "ip-10-a", "1": "10", "2": "", "b": "10", "c": "", "hex": "ff"},
        "Class": "IN",
        "Type": "A",
        "Question": Question(),
        "Remote": "192.0.2.1",
        "Var": {},
    }
    FIELDS: ClassVar = {name: value_of(name) for name in VALUES}
    METHODS: ClassVar = {"Meta": lambda data, label: {"k/l": "v"}.get(label, "")}


DATA = Data()
FIELDS = frozenset((*Data.FIELDS, *Data.METHODS))


def rendered(text):
    try:
        template, _ = compile_template(text, FIELDS)
    except SyntaxProblem:
        return REFUSED
    try:
        return template.render(DATA)
    except TemplateError:
        return FAILS


# fmt: off
GO = [
    ('{{ .Name }} 60 IN A 10.{{ .Group.b }}.{{ parseInt .Group.hex 16 8 }}', 'ip-10-a.example. 60 IN A 10.10.255'),
    ('{{ .Grup.d }}', FAILS),
    ('{{ .Group.missing }}|{{ index .Group "missing" }}|{{ .Group.missing.x }}', '<no value>||<no value>'),
    ('{{ print .Group.missing }}', '<nil>'),
    ('{{ eq .Group.missing "x" }}', 'false'),
    ('{{ if .Group.c }}a{{ else if .Group.b }}b{{ else }}c{{ end }}', 'b'),
    ('{{ range $i, $e := .Match }}{{ $i }}={{ $e }},{{ end }}', '0=ip-10-a,1=10,2=,'),
    ('{{ range .Match }}[{{ . }}]{{ else }}none{{ end }}', '[ip-10-a][10][]'),
    ('{{ range $k, $v := .Group }}{{ $k }}:{{ $v }} {{ end }}', '0:ip-10-a 1:10 2: b:10 c: hex:ff '),
    ('{{ with .Group.b }}{{ . }}{{ else }}no{{ end }}', '10'),
    ('{{ with $x := .Group.b }}{{ $x }}{{ end }}', '10'),
    ('{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}', '2'),
    ('{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}', '1'),
    ('{{ $x }}', REFUSED),
    ('{{ notAFunction }}', REFUSED),
    ('{{', REFUSED),
    ('{{ "abc', REFUSED),
    ('{{ end }}', REFUSED),
    ('{{ if }}x{{ end }}', REFUSED),
    ('{{ if .Name }}x', REFUSED),
    ('{{ parseInt }}', FAILS),
    ('{{ parseInt "gg" 16 8 }}', FAILS),
    ('{{ parseInt "256" 10 8 }}', FAILS),
    ('{{ parseInt "0x1f" 0 16 }} {{ parseInt "017" 0 16 }} {{ parseInt "0b11" 0 16 }} {{ parseInt "1_000" 0 16 }}', '31 15 3 1000'),
    ('{{ parseInt "+1" 10 8 }}', FAILS),
    ('{{ parseInt "-1" 10 8 }}', FAILS),
    ('{{ parseInt "1" 1 8 }}', FAILS),
    ('{{ parseInt "" 10 8 }}', FAILS),
    ('{{ parseInt "zz" 36 0 }}', '1295'),
    ('{{ index .Match 0 }} {{ index .Match 1 }}', 'ip-10-a 10'),
    ('{{ index .Match 3 }}', FAILS),
    ('{{ index .Match "a" }}', FAILS),
    ('{{ index .Name 0 }}', '105'),
    ('{{ slice .Name 0 2 }} {{ slice .Name 3 }} {{ slice .Match 1 }}', 'ip 10-a.example. [10 ]'),
    ('{{ slice .Name 5 2 }}', FAILS),
    ('{{ len .Name }} {{ len .Match }} {{ len .Group }}', '16 3 6'),
    ('{{ len 3 }}', FAILS),
    ('{{ .Match }} {{ .Group }} {{ .Var }} {{ .Var.x }}', '[ip-10-a 10 ] map[0:ip-10-a 1:10 2: b:10 c: hex:ff] map[] <no value>'),
    ('{{ .Meta "k/l" }}{{ .Meta "none" }}', 'v'),
    ('{{ .Meta }}', FAILS),
    ('{{ .Meta 3 }}', FAILS),
    ('{{ .Meta "a" "b" }}', FAILS),
    ('{{ "k/l" | .Meta }}', 'v'),
    ('{{ .Name "x" }}', FAILS),
    ('{{ .Name.foo }}', FAILS),
    ('{{ .Question.Name }} {{ .Question.Qtype }}', 'IP-10-a.example. 1'),
    ('{{ .Question.Nope }}', FAILS),
    ('{{ and 1 0 2 }} {{ or 0 "" 3 4 }} {{ not 0 }} {{ and }}', FAILS),
    ('{{ or 0 (index .Match 9) }}', FAILS),
    ('{{ or 1 (index .Match 9) }}', '1'),
    ('{{ eq 1 1 }} {{ eq 1 2 3 1 }} {{ ne 1 2 }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt 2 1 }} {{ ge 1 2 }}', 'true true true true true true false'),
    ('{{ eq 1 1.0 }}', FAILS),
    ('{{ eq "a" 1 }}', FAILS),
    ('{{ lt "a" "b" }} {{ lt true false }}', FAILS),
    ('{{ eq .Match .Match }}', FAILS),
    ('{{ print 1 2 "a" "b" 3 4.5 true }}', '1 2ab3 4.5 true'),
    ('{{ println "a" 1 }}', 'a 1\n'),
    ('{{ printf "%s %d %v %q %x %5d|%-5d|%05d %+d" "a" 1 .Match "q\\"" "hi" 3 3 3 3 }}', 'a 1 [ip-10-a 10 ] "q\\"" 6869     3|3    |00003 +3'),
    ('{{ printf "%d" "a" }}', '%!d(string=a)'),
    ('{{ printf "%d" }}', '%!d(MISSING)'),
    ('{{ printf "%d %d" 1 }}', '1 %!d(MISSING)'),
    ('{{ printf "%d" 1 2 }}', '1%!(EXTRA int=2)'),
    ('{{ printf "%!" }} {{ printf "%" }}', '%!!(MISSING) %!(NOVERB)'),
    ('{{ printf "%[2]d %[1]d" 1 2 }}', '2 1'),
    ('{{ printf "%*d|%.2f|%6.2f|%-8s|%8s|%.2s" 5 3 1.239 1.239 "a" "b" "xyz" }}', '    3|1.24|  1.24|a       |       b|xy'),
    ('{{ printf "%t %v %T %T %T" true false 1 "a" 1.5 }}', 'true false int string float64'),
    ('{{ printf "%c %U %#U %q %o %#o %O %b %#x %X" 65 65 65 65 8 8 8 5 255 255 }}', "A U+0041 U+0041 'A' 'A' 10 010 0o10 101 0xff FF"),
    ('{{ printf "%e %g %G %E %f %g %v" 1.5 1e9 1e-9 12345.678 1.0 100000.0 1e6 }}', '1.500000e+00 1e+09 1E-09 1.234568E+04 1.000000 100000 1e+06'),
    ('{{ printf "%v %s %d" nil nil nil }}', '<nil> %!s(<nil>) %!d(<nil>)'),
    ('{{ nil }}', FAILS),
    ('{{ print nil }}', '<nil>'),
    ('{{ html "<a href=\'x\'>&\\"" }} {{ js "it\'s \\"<x>\\"=&\\\\" }} {{ urlquery "a b&c/d~Ã©" }}', '&lt;a href=&#39;x&#39;&gt;&amp;&#34; it\\\'s \\"\\u003Cx\\u003E\\"\\u003D\\u0026\\\\ a+b%26c%2Fd~%C3%83%C2%A9'),
    ('{{ "a" | printf "%s-%s" "b" }}', 'b-a'),
    ('{{ 3 | 4 }}', REFUSED),
    ('{{ .Name | "x" }}', REFUSED),
    ('{{ (index .Match 1) }}', '10'),
    ('{{ (.Question).Name }}', 'IP-10-a.example.'),
    ('{{ (print 1) 2 }}', FAILS),
    ('{{ $.Name }} {{ $.Group.b }}', 'ip-10-a.example. 10'),
    ('{{ with .Group }}{{ .b }} {{ $.Name }}{{ end }}', '10 ip-10-a.example.'),
    ('a  {{- 3 -}}  b', 'a3b'),
    ('a {{- /* comment */ -}} b{{/* another */}}c', 'abc'),
    ('a{{ /* x */ }}b', REFUSED),
    ('{{- 3}}', '3'),
    ('{{-3}}', '-3'),
    ("{{ 0x1F }} {{ 017 }} {{ 0b11 }} {{ 1_000 }} {{ 'a' }} {{ '\\n' }} {{ 1e3 }} {{ .5 }} {{ -3 }} {{ +3 }}", '31 15 3 1000 97 10 1000 0.5 -3 3'),
    ('{{ 1x }}', REFUSED),
    ('{{ 99999999999999999999 }}', REFUSED),
    ("{{ 'ab' }}", REFUSED),
    ('{{ "a\\tb\\x41\\u00e9\\101" }} {{ `raw\\n` }}', 'a\tbAéA raw\\n'),
    ('{{ "\\q" }}', REFUSED),
    ('{{ true }} {{ false }}', 'true false'),
    ('{{ range .Match }}{{ if eq . "10" }}{{ continue }}{{ end }}{{ . }};{{ end }}', 'ip-10-a;;'),
    ('{{ range .Match }}{{ break }}{{ end }}x', 'x'),
    ('{{ break }}', REFUSED),
    ('{{ range .Name }}{{ end }}', FAILS),
    ('{{ $i := 0 }}{{ $e := "" }}{{ range $i, $e = .Match }}{{ end }}{{ $i }}{{ $e }}', '2'),
    ('{{ range $x := .Match }}{{ $x }}{{ end }}', 'ip-10-a10'),
    ('{{ if and .Name (eq .Type "A") }}yes{{ end }}', 'yes'),
    ('{{ if not (eq .Type "A") }}yes{{ else }}no{{ end }}', 'no'),
    ('{{ print(1) }}', REFUSED),
    ('{{ print"x" }}', REFUSED),
    ('{{print "a""b"}}', REFUSED),
    ('{{ .Name.}}', REFUSED),
    ('{{ . Name }}', REFUSED),
    ('{{ .Name | len | printf "%d" }}', '16'),
    ('{{ len (slice .Match 1 2) }}', '1'),
    ('{{ call .Meta "x" }}', FAILS),
    ('{{ call nil }}', FAILS),
    ('{{ if .Match }}m{{end}}{{ if .Var }}v{{end}}{{ if 0.0 }}z{{ end }}{{ if .Question }}q{{ end }}', 'mq'),
    ('{{ else }}', REFUSED),
    ('{{ if 1 }}{{ else }}{{ else }}{{ end }}', REFUSED),
    ('{{ x := 1 }}', REFUSED),
    ('{{ $x := 1 | print 2 }}{{ $x }}', '2 1'),
    ('{{ $.x := 1 }}', REFUSED),
    ('{{ $x.y := 1 }}', REFUSED),
    ('text only }} here', 'text only }} here'),
    ('{ {{ "{" }}{{ "}" }} }', '{ {} }'),
    ('{{ index .Group .Type }}|{{ index .Group "b" }}', '|10'),
    ('{{ index .Group 1 }}', FAILS),
    ('{{ printf "%6.3v|%-6v|%06d|% d|%x|%X|% x|%#x" "abcdef" "ab" -42 5 -255 "hi" "hi" "hi" }}', '   abc|ab    |-00042| 5|-ff|6869|68 69|0x6869'),
    ('{{ printf "%[3]*.[2]*[1]f" 12.0 2 6 }} {{ printf "%[5]d" 1 }} {{ printf "%s" .Match }} {{ printf "%q" .Match }} {{ printf "%d" .Match }}', ' 12.00 %!d(BADINDEX) [ip-10-a 10 ] ["ip-10-a" "10" ""] [%!d(string=ip-10-a) %!d(string=10) %!d(string=)]'),
    ('{{ printf "%s" .Group }}', 'map[0:ip-10-a 1:10 2: b:10 c: hex:ff]'),
    ('{{ printf 3 }}', FAILS),
    ('{{ printf "%v" 12345678.9 }} {{ 0.000001 }} {{ 100000.0 }} {{ 1000000.0 }} {{ 123456789.0 }} {{ 1.0 }}', '1.23456789e+07 1e-06 100000 1e+06 1.23456789e+08 1'),
    ('{{ if eq .Name "ip-10-a.example." }}x{{ end }}', 'x'),
    ('{{if(eq 1 1)}}x{{end}}', 'x'),
    ('{{if.Name}}x{{end}}', 'x'),
    ('{{ true.x }}', REFUSED),
    ('{{ "a".x }}', REFUSED),
    ('{{ 1 2 }}', FAILS),
    ('{{ "a" "b" }}', FAILS),
    ('{{ .Group.b | parseInt }}', FAILS),
    ('{{ 8 | parseInt .Group.b 10 }}', '10'),
    ('{{ not }}', FAILS),
    ('{{ ge 1 }}', FAILS),
    ('{{ lt 1 "a" }}', FAILS),
    ('{{ with .Group.c }}x{{ else }}{{ .Name }}{{ end }}', 'ip-10-a.example.'),
    ('{{ index "Ã©" 0 }} {{ len "Ã©" }} {{ slice "Ã©" 0 1 | printf "%q" }}', '195 4 "\\xc3"'),
    ('{{ print .Question.Qtype .Question.Qclass }}', '1 1'),
    ('{{ eq .Question.Qtype 1 }}', 'true'),
    ('{{ and .Name }}', 'ip-10-a.example.'),
    ('{{ slice .Match 0 1 2 }} {{ slice .Name 0 1 2 }}', FAILS),
    ('{{ index .Match -1 }}', FAILS),
    ('{{ index .Match 1.0 }}', FAILS),
    ('{{ index .Match nil }}', FAILS),
    ('{{ index nil 1 }}', FAILS),
    ('{{ eq nil nil }}', 'true'),
    ('{{ eq }}', FAILS),
    ('{{ eq 1 }}', FAILS),
    ('{{ len nil }}', FAILS),
]
# fmt: on


@pytest.mark.parametrize(("text", "expected"), GO)
def test_as_in_go(text, expected):
    assert rendered(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ range $i := 2 }}{{ $i }}{{ end }}", "01"),
        ("{{ range -1 }}x{{ else }}none{{ end }}", "none"),
        ("{{ range $i, $e := 2 }}{{ end }}", FAILS),
        ("{{ with .Group.c }}a{{ else with .Group.b }}{{ . }}{{ else }}c{{ end }}", "10"),
    ],
)
def test_newer_than_the_go_compared_with(text, expected):
    assert rendered(text) == expected


@pytest.mark.parametrize("text", ["{{ . }}", "{{ $ }}", '{{ .Match | printf "%v %v" $ }}'])
def test_a_struct_as_a_whole_is_not_printed(text):
    assert rendered(text) == FAILS


@pytest.mark.parametrize("word", ["define", "template", "block"])
def test_named_templates_are_refused(word):
    with pytest.raises(SyntaxProblem, match="not supported"):
        compile_template(f'{{{{ {word} "x" }}}}{{{{ end }}}}', FIELDS)


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("a {{ .Name | }}", 13, "unexpected '}}'"),
        ("a {{ .Name", 2, "unclosed action"),
        ("a {{ if .Name }}b", 2, "a block has no {{end}}"),
        ("a {{ foo 1 }}", 5, "function 'foo' not defined"),
        ("a {{ print $x }}", 11, "undefined variable $x"),
        ("a {{ break }}", 2, "outside {{range}}"),
        ('a {{ print "x }}', 11, "quoted text"),
        ('a {{ "\\q" }}', 5, "invalid escape"),
        ("a {{ 09x }}", 5, "bad number"),
        ("a {{ 1 | 2 }}", 9, "non executable command in pipeline stage 2"),
    ],
)
def test_mistakes_have_a_place(text, offset, message):
    with pytest.raises(SyntaxProblem) as caught:
        compile_template(text, FIELDS)
    assert message in str(caught.value)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ .Grup.a }}", "no such field: .Grup"),
        ("{{ parseInt }}", "wrong number of args for parseInt: want 3 got 0"),
        ("{{ range .Match }}{{ $.Nme }}{{ end }}", "no such field: .Nme"),
        ('{{ "a" 1 }}', "can't give argument to non-function"),
    ],
)
def test_what_fails_for_every_query_is_told(text, message):
    _, warnings = compile_template(text, FIELDS)
    assert [str(warning) for warning in warnings] == [message]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("no action", set()),
        ("{{ .Name }}{{ $.Zone }}", {"Name", "Zone"}),
        ("{{ with .Group }}{{ .Remote }}{{ end }}", {"Group"}),
        ("{{ range .Match }}{{ $.Remote }}{{ end }}", {"Match", "Remote"}),
        ('{{ if eq (.Meta "a") "b" }}{{ end }}', {"Meta"}),
        ("{{ with $ }}{{ .Remote }}{{ end }}", {"*"}),
        ("{{ $x := . }}{{ $x.Remote }}", {"*"}),
    ],
)
def test_fields_that_are_looked_at(text, fields):
    assert compile_template(text, FIELDS)[0].fields == fields


def test_the_work_of_one_rendering_is_bounded():
    loops = "{{ range 1000 }}{{ range 1000 }}x{{ end }}{{ end }}"
    assert rendered(loops) == FAILS
    assert rendered(f"{{{{ range {MOST_STEPS + 1} }}}}{{{{ end }}}}") == FAILS
    assert rendered('{{ printf "%999999999d" 1 }}') == "%!(BADWIDTH)1"
    assert rendered('{{ range 20 }}{{ printf "%9999d" 1 }}{{ end }}') == FAILS
    assert len(rendered('{{ range 13 }}{{ printf "%9999d" 1 }}{{ end }}')) < MOST_TEXT


def test_deep_nesting_is_refused_and_not_fatal():
    assert rendered("{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}") == REFUSED


@pytest.mark.parametrize(
    "piece", ["{", " ", "{{- ", "{{ ", "}}", "{{/*", "(", '"', "{{ if 1 }}", "$"]
)
def test_reading_takes_linear_time(piece):
    rendered(piece * 5000)


@settings(deadline=None)
@given(st.text(alphabet="{}-/*.$|()=:, \n\"'`\\%ax01ifendrangeelse", max_size=60))
def test_any_text_is_a_template_or_refused(text):
    assert isinstance(rendered(text), str)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                ".Name",
                ".Match",
                ".Group",
                ".Type",
                "nil",
                "1",
                '"%*.[1]d %x"',
                "1.5",
                '"10"',
                "true",
            ]
        ),
        max_size=4,
    ),
    st.sampled_from(
        ["index", "slice", "printf", "eq", "lt", "len", "parseInt", "js", "and", "html"]
    ),
)
def test_functions_take_whatever_they_are_given(arguments, name):
    assert isinstance(rendered(f"{{{{ {name} {' '.join(arguments)} }}}}"), str)
