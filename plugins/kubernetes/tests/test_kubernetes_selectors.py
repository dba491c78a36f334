"""Label selectors, as k8s.io/apimachinery parses them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy_kubernetes.selector import InvalidSelector, canonical_selector


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("environment=prod", "environment=prod"),
        ("a == b", "a=b"),
        ("a!=b", "a!=b"),
        ("a=", "a="),
        ("a", "a"),
        ("! a", "!a"),
        ("environment in (production, staging, qa),application=nginx",
         "application=nginx,environment in (production,qa,staging)"),
        ("x notin (b,a,b)", "x notin (a,b)"),
        ("x in (a,)", "x in (,a)"),
        ("in in (in)", "in in (in)"),
        ("istio-injection=enabled", "istio-injection=enabled"),
        ("app.kubernetes.io/name=a_B.c-1", "app.kubernetes.io/name=a_B.c-1"),
    ],
)  # fmt: skip
def test_selectors(text, canonical):
    assert canonical_selector(text) == canonical
    assert canonical_selector(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("environment in (production, qa", "')' is missing"),
        ("environment in production", "'(' is missing"),
        ("a > 1", "not supported"),
        ("a=b c=d", "unexpected 'c'"),
        ("a=b,", "missing"),
        (",a", "missing"),
        ("=b", "missing"),
        ("a b", "unexpected 'b' after 'a'"),
        ("-a=b", "not a key"),
        ("a=b-", "not a value"),
        ("Ex.org/a=b", "invalid prefix"),
        ("/a=b", "invalid prefix"),
        ("x" * 64, "not a key"),
        ("a=" + "x" * 64, "not a value"),
        ("a=(b)", "not a value"),
        ("a=ä", "not a value"),
    ],
)
def test_invalid_selectors(text, reason):
    with pytest.raises(InvalidSelector, match=reason.replace("(", r"\(").replace(")", r"\)")):
        canonical_selector(text)


@given(st.text(alphabet="ab/.,=!()<> in", max_size=20))
def test_any_text_is_a_selector_or_invalid(text):
    try:
        canonical = canonical_selector(text)
    except InvalidSelector:
        return
    assert canonical_selector(canonical) == canonical
