"""The lines of `corepy explain` about *template*: which directive decides, and why."""

import pytest

from corepy.testing import make_request, set_up

PASSED = "Corefile:3:1 (no regular expression matches)"
BELOW = "Corefile:7:1"


@pytest.fixture(scope="module")
def templates():
    (handler,) = set_up(
        r"""
template IN A {
    match ^x
    fallthrough
}
template IN A {
    match ^(?P<ip>[-0-9]+)
    var ip replace(group('ip'), '-', '.')
    expr incidr(ip, '10.0.0.0/8')
    answer "{{ .Name }} A {{ .Var.ip }}"
}
template IN MX
"""
    ).handlers
    return handler


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("x.", "A", {"state": "matches", "template": "Corefile:3:1"}),
        ("x.", "MX", {"state": "matches", "template": "Corefile:13:1"}),
        ("x.", "TXT", {"state": "no match"}),
        (
            "10-1-2-3.",
            "A",
            {"state": "matches", "template": BELOW, "var ip": "10.1.2.3", "passed over": PASSED},
        ),
        (
            "9-1-2-3.",
            "A",
            {
                "state": "no match",
                "template": BELOW,
                "reason": "the condition at Corefile:10:10 is not true, "
                "and the name has no fallthrough",
                "passed over": PASSED,
            },
        ),
        (
            "9-1.",
            "A",
            {
                "state": "no value",
                "template": BELOW,
                "reason": "Corefile:10:10: incidr: '9.1' is not an IP address",
                "passed over": PASSED,
            },
        ),
    ],
)
def test_the_directive_that_decides(templates, name, qtype, expected):
    request = make_request(name, qtype)
    assert templates.explain_state(request) == expected
    assert request.metadata == {}


def test_a_query_that_all_directives_pass_on():
    (handler,) = set_up("template IN A {\nmatch ^x\nfallthrough\n}").handlers
    assert handler.explain_state(make_request("y.", "A")) == {
        "state": "no match",
        "passed over": "Corefile:2:1 (no regular expression matches)",
    }
