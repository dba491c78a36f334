"""The work of one rendering is bounded while it runs, in steps, characters and nesting.

Each limit makes a SERVFAIL whose error, which *errors* logs, names the line of the Corefile and the
limit, and no more memory is used than the limit allows.
"""

import tracemalloc

import pytest

from corepy.testing import Recorder, make_request, refusal, run_chain, set_up
from corepy_template.metrics import TEMPLATE_FAILURES

STEPS = "more than 10000 steps"
LONG_STRING = "a string is longer than 131072 characters"
LONG_TEXT = "the text is longer than 131072 characters"
WORK = "more than 524288 characters in all strings"
GROUPS = "template IN A {\n    match " + "(.?)" * 1500 + "\n"


def quoted(template):
    """A word of a Corefile."""
    escaped = template.replace('"', '\\"')
    return f'"{escaped}"'


def reply_to(template, options="template IN A {\n"):
    (handler,) = set_up(f"{options}    answer {quoted(template)}\n}}").handlers
    return run_chain(make_request("a.example."), handler, Recorder())


@pytest.mark.parametrize(
    ("template", "limit"),
    [
        # A string that doubles, by each function that joins or repeats.
        ('{{ $x := "a" }}{{ range 30 }}{{ $x = print $x $x }}{{ end }}', WORK),
        ('{{ $x := "a" }}{{ range 30 }}{{ $x = printf "%s%s" $x $x }}{{ end }}', WORK),
        ('{{ $x := "a" }}{{ range 30 }}{{ $x = printf "%[1]s%[1]s" $x }}{{ end }}', WORK),
        ('{{ $x := "a" }}{{ range 30 }}{{ $x = println $x $x }}{{ end }}', WORK),
        ('{{ $x := "&" }}{{ range 30 }}{{ $x = html $x $x }}{{ end }}', LONG_STRING),
        ('{{ $x := "<" }}{{ range 30 }}{{ $x = js $x $x }}{{ end }}', LONG_STRING),
        ('{{ $x := "%" }}{{ range 30 }}{{ $x = urlquery $x $x }}{{ end }}', WORK),
        ('{{ $x := "\\x01" }}{{ range 30 }}{{ $x = printf "%q" $x }}{{ end }}', LONG_STRING),
        # Widths, one and many.
        ('{{ printf "' + "%9999d" * 20 + '" }}', "no limit"),
        ('{{ printf "' + "%[1]9999d" * 20 + '" 1 }}', LONG_STRING),
        ('{{ printf "' + "%[1]*[1]d" * 20 + '" 9999 }}', LONG_STRING),
        ("{{ range 20 }}{{ printf `%9999d` 1 }}{{ end }}", LONG_TEXT),
        ("{{ range 10000 }}{{ end }}" * 2, STEPS),
        ("{{ range 1000 }}{{ range 1000 }}x{{ end }}{{ end }}", STEPS),
        ("{{ range 1000000000000 }}{{ end }}", STEPS),
        ("{{ range 5000 }}{{ $x := 1 }}{{ $x }}{{ end }}", STEPS),
        ("{{ range 5000 }}{{ if true }}{{ end }}{{ with 1 }}{{ end }}{{ end }}", STEPS),
        ("{{ range 2000 }}{{ and 1 1 1 1 1 1 1 1 }}{{ end }}", STEPS),
        ("{{ range 3000 }}{{ $x := (eq 1 (len (print 1 2))) }}{{ end }}", STEPS),
        ("{{ range 6000 }}{{ $.Meta `x` }}{{ end }}", STEPS),
        ("{{ range 9 }}{{ $x := printf `" + "%.0s" * 2000 + "` 1 }}{{ end }}", STEPS),
        ("{{ range 3 }}" + "x" * 50000 + "{{ end }}", LONG_TEXT),
        # Reading is work, too: each length of a string is counted in bytes.
        ("{{ $x := printf `%9999d` 1 }}{{ range 3000 }}{{ $y := index $x 1 }}{{ end }}", WORK),
        ("{{ $x := printf `%9999d` 1 }}{{ range 3000 }}{{ $y := len $x }}{{ end }}", WORK),
        ("{{ $x := printf `%9999d` 1 }}{{ range 3000 }}{{ $y := eq $x $x }}{{ end }}", WORK),
        ("{{ $x := printf `%9999d` 1 }}{{ range 3000 }}{{ $y := slice $x 1 }}{{ end }}", WORK),
    ],
)  # fmt: skip
def test_limits(template, limit):
    before = sum(child.value for _, child in TEMPLATE_FAILURES.children())
    tracemalloc.start()
    reply = reply_to(template)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reply.rcode == 2
    assert peak < 24_000_000
    if limit == "no limit":
        assert "type is missing" in reply.error
        return
    assert reply.error.startswith("plugin/template: Corefile:3:12: answer '")
    assert limit in reply.error
    assert sum(child.value for _, child in TEMPLATE_FAILURES.children()) == before + 1


def test_a_width_for_each_of_many_groups():
    reply = reply_to('{{ printf "%9999s" .Match }}', GROUPS)
    assert reply.rcode == 2
    assert LONG_STRING in reply.error


@pytest.mark.parametrize(
    "template",
    [
        "{{ range 2000 }}{{ end }}a. A 192.0.2.1",
        "{{ $n := 0 }}{{ range $i := 1000 }}{{ if lt $i 9 }}{{ $n = $i }}{{ end }}{{ end }}a. A 192.0.2.{{ $n }}",
        'a. TXT "{{ range 4000 }}x{{ end }}"',
        "{{ if true }}" * 99 + "a. A 192.0.2.1" + "{{ end }}" * 99,
        "a. A {{ " + "(" * 99 + "print `192.0.2.1`" + ")" * 99 + " }}",
        "{{ if false }}" + "{{ else if false }}" * 150 + "{{ else }}a. A 192.0.2.1{{ end }}",
    ],
)
def test_what_records_need_is_within_the_limits(template):
    assert reply_to(template).rcode == 0


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("{{ if 1 }}", "{{ end }}"),
        ("{{ with 1 }}", "{{ end }}"),
        ("{{ range 1 }}", "{{ end }}"),
        ("{{ $x := 1 }}{{ if 0 }}{{ else }}{{ with 1 }}", "{{ end }}{{ end }}"),
    ],
)
def test_nesting_of_blocks(opening, closing):
    message = refused(opening * 101 + "x" + closing * 101)
    assert "nested more than 100 deep" in message


def test_nesting_of_parentheses():
    assert "nested more than 100 deep" in refused("{{ " + "(" * 101 + "1" + ")" * 101 + " }}")


def refused(template):
    (diagnostic,) = [refusal(f"template IN A {{\n    answer {quoted(template)}\n}}")]
    assert diagnostic.token.line == 3
    return diagnostic.message
