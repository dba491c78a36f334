"""docs/expressions.md: every example is true, the tables have all functions, and its code works."""

import re
from pathlib import Path
from typing import Any

import pytest

from corepy.corefile import CorefileError
from corepy.expr import Environment, compile_expression, query_functions, read_expression
from corepy.expr.calls import BUILTINS, UNSUPPORTED, WITH_PREDICATES
from corepy.expr.compiling import MOST_NESTING, MOST_NODES
from corepy.expr.date_reader import DEFAULT_LAYOUTS
from corepy.expr.frame import MOST_MEMORY, MOST_STEPS, MOST_TEXT
from corepy.expr.reader import LONGEST_TEXT
from corepy.expr.time_methods import METHODS
from corepy.loading.registry import find
from corepy.testing import controller_for, inline, make_request, serve

PAGE = (Path(__file__).parent.parent / "docs" / "expressions.md").read_text()
ENVIRONMENT = Environment.of(query_functions())
EXAMPLES = [
    line
    for block in re.findall(r"^```expr\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_are_true(line):
    request = make_request("www.example.org.", "A", peer=("192.0.2.7", 4000), edns=1232)
    request.local = ("192.0.2.53", 53)
    assert compile_expression(line, ENVIRONMENT).evaluate(request) is True


def test_there_are_examples():
    assert len(EXAMPLES) > 20


def test_the_tables_have_all_functions():
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)", tables))
    known = {*BUILTINS, *WITH_PREDICATES, *ENVIRONMENT.functions} - {"type"}
    assert known <= named
    assert "type()" in tables
    for name in UNSUPPORTED:
        assert f"`{name}`" in PAGE.partition("## Differences")[2]


def test_the_tables_have_all_methods():
    named = set(re.findall(r"`\.(\w+)\(", PAGE))
    assert named == METHODS.keys()


def test_the_page_has_the_usual_layouts():
    section = PAGE.partition("## Dates and durations")[2]
    for layout in DEFAULT_LAYOUTS:
        assert f"`{layout.removesuffix('07:00')}`" in section


def test_the_limits():
    section = PAGE.partition("## Limits")[2].partition("##")[0]
    for number in (MOST_STEPS, MOST_MEMORY, MOST_TEXT, LONGEST_TEXT, MOST_NODES, MOST_NESTING):
        assert re.search(rf"\b{number:,}\b", section), number


def test_the_message():
    shown = re.search(r"^```txt\n(Corefile:3.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
    line = re.search(r"3 \| (.*)", shown)[1]
    with pytest.raises(CorefileError) as caught:
        read_option(controller_for(f"hello {{\n{line}\n}}"))
    assert str(caught.value) == shown.strip()


def read_option(controller):
    def read():
        read_expression(controller, controller.arguments(1), ENVIRONMENT)

    for _ in controller.single():
        controller.options({"expr": read})


def test_the_code_for_plugins():
    code = re.search(r"^```python\n(# office.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
    namespace: dict[str, Any] = {}
    exec(compile(code, "office.py", "exec"), namespace)  # it is our own documentation
    text = '. {{\n bind 127.0.0.1\n{}\n template IN TXT {{\n answer "{{{{ .Name }}}} 60 IN TXT {}"\n }}\n}}\n'
    corefile = text.format("office label() == 'in' && type() == 'TXT'", "yes") + text.format(
        "", "no"
    )
    with serve(
        corefile, plugins={**find(), "office": inline("office", namespace["setup"])}
    ) as server:
        for name, expected in (("in.example", "yes"), ("out.example", "no")):
            assert str(server.ask(name, "TXT").rr[0].rdata) == f'"{expected}"'
