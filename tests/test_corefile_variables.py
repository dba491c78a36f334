"""Variables in diagnostics: one without a value is named, the value of one is never shown."""

import pytest

from corepy.corefile import CorefileError, parse, render, to_json
from corepy.server.build.builder import build

SECRET = "s3cr3t-Pa55word.example"


def problems(text, env):
    """What `-check` prints for a Corefile, as text and as JSON."""
    try:
        found = build(parse(text, env=env), checking=True).warnings
    except CorefileError as error:
        found = list(error.diagnostics)
    return render(found), to_json(found)


@pytest.mark.parametrize(
    ("text", "location"),
    [
        (". {\n forward . {$X}\n}", "2:12"),
        (". {\n bind {$X}\n whoami\n}", "2:7"),
        (". {\n bind 127.0.0.1 {$X}\n}", "2:17"),
        (". {\n cache {$X}\n}", "2:8"),
        (". {\n log {%X%}\n}", "2:6"),
        (". {\n errors {\n  consolidate {$X} .*\n }\n}", "3:15"),
        (". {\n {$X}\n}", "2:2"),
        (". {\n import {$X}\n}", "2:9"),
        ("{$X} {\n whoami\n}", "1:6"),
        ("{$X} {$X} {\n whoami\n}", "1:11"),
        ("{$X}\nwhoami\n", "1:1"),
        ("{$X} . {\n whoami\n}", "1:1"),
        ("{$X}:53 {\n whoami\n}", "1:1"),
        (".:{$X} {\n whoami\n}", "1:1"),
        (". {\n whoami\n}\n{$X} {\n whoami\n}", "4:6"),
    ],
)
@pytest.mark.parametrize(("env", "state"), [({}, "not set"), ({"X": ""}, "empty")])
def test_a_variable_without_a_value_is_named(text, location, env, state):
    shown, as_json = problems(text, env)
    assert f"Corefile:{location}: " in shown
    assert shown.count(f"the environment variable X is {state}") == 1
    assert f"the environment variable X is {state}" in as_json


def test_a_variable_whose_value_is_a_variable_without_one():
    shown, _ = problems(". {\n forward . {$X}\n}", {"X": "{$Y}"})
    assert "the environment variable Y is not set" in shown


@pytest.mark.parametrize(
    "text",
    [
        ". {\n {$X} a\n}",
        ". {\n whoami {$X}\n}",
        ". {\n whoami a{$X}b\n}",
        ". {\n forward . 10.0.0.1:{$X}\n}",
        ". {\n forward . {$X}:port\n}",
        ". {\n forward . /etc/{$X}\n}",
        ". {\n bind {$X}\n}",
        ". {\n bind 127.0.0.1 {\n  {$X}\n }\n}",
        ". {\n errors {\n  consolidate 5m ({$X}\n }\n}",
        ". {\n errors {\n  consolidate {$X} .*\n }\n}",
        ". {\n cache {\n  success {$X}\n }\n}",
        ". {\n health {$X}:y:z\n}",
        ". {\n log . {\n  class {$X}\n }\n}",
        ". {\n import {$X}\n}",
        ". {\n import {$X}/[a].conf\n}",
        '. {\n template ANY ANY {\n  answer "{{ {$X} }}"\n }\n}',
        "{$X}..org {\n whoami\n}",
        "{$X}:70000 {\n whoami\n}",
        "tls://{$X} {\n whoami\n}",
        "{$X} {\n whoami\n}\n{$X} {\n whoami\n}",
        "{$X},b {\n whoami\n}",
        "http://{$X} {\n whoami\n}",
        "({$X}) {\n whoami\n}\n({$X}) {\n whoami\n}\n. {\n whoami\n}",
    ],
)
@pytest.mark.parametrize("value", [SECRET, "pass'\\wo\"rd", "a:b:secret", "192.0.2.300"])
def test_no_value_is_shown(text, value):
    shown, as_json = problems(text, {"X": value})
    assert shown
    for part in {value, value.lower(), repr(value)[1:-1], value.lower()[-6:], value.lower()[:6]}:
        assert part not in shown.lower()
        assert part not in as_json.lower()


def test_another_word_shows_no_value_either():
    """The second address is refused because of the first, which is named in the hint."""
    text = ". {\n bind {$X} 127.0.0.9\n whoami\n}"
    shown, _ = problems(text, {"X": "127.0.0.9"})
    assert "bound twice" in shown
    assert "already bound by '{$X}'" in shown


def test_what_is_no_variable_is_shown():
    shown, _ = problems(". {\n whoami secret\n bind {$X}\n}", {"X": "127.0.0.1"})
    assert "after 'secret'" in shown
