"""The options of *forward* for validation: what they accept, refuse and warn of."""

import sys
from pathlib import Path

import pytest

from corepy.dns.names import ROOT, from_text
from corepy.testing import make_request, refusal, set_up
from corepy_forward.handler import Forward
from corepy_forward.validation.anchor import ROOT_ANCHORS, Anchor
from corepy_forward.validation.anchors import TrustAnchors
from corepy_forward.validation.handler import ValidatingForward

DS = "20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"


def line(*options: str) -> str:
    return "\n".join(["forward . 127.0.0.1 {", *options, "}"])


def anchors(*options: str) -> TrustAnchors:
    """Return the trust anchors of a line with `dnssec validate`."""
    return anchors_of(set_up(line(*options)).handlers[0])


def anchors_of(handler: object) -> TrustAnchors:
    assert isinstance(handler, ValidatingForward)
    anchors = handler.settings.trust_anchors
    assert anchors is not None
    return anchors


def test_validation_is_off_by_default() -> None:
    found = set_up(line()).handlers[0]
    assert type(found) is Forward
    assert found.settings.trust_anchors is None


def test_the_root_is_validated_without_a_file() -> None:
    found = anchors("dnssec validate")
    assert found.closest(ROOT) == Anchor(ROOT, tuple(it.rdata for it in ROOT_ANCHORS))
    assert found.keeper.state is None


def test_explain_shows_where_validation_begins() -> None:
    options = "except other.test", "dnssec validate", "negative_trust_anchors lan"
    handler = set_up(line(*options)).handlers[0]
    assert isinstance(handler, ValidatingForward)

    def shown(name: str) -> str | int | None:
        return handler.explain_state(make_request(name)).get("validation")

    assert shown("www.Example.org") == "from the trust anchor of ."
    assert shown("a.LAN") == "none: a negative trust anchor is above the name"
    assert shown("other.test") is None


def test_files_are_read_and_watched(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(f"example.org. DS {DS}")
    two.write_text(f"test. DS {DS}")
    options = f"dnssec validate {one} {two}", f"trust_anchors_state {tmp_path}/state"
    controller = set_up(line(*options))
    found = anchors_of(controller.handlers[0])
    assert set(found.keeper.anchors) == {from_text("example.org"), from_text("test"), ROOT}
    assert found.closest(from_text("com")) == Anchor(ROOT, tuple(it.rdata for it in ROOT_ANCHORS))
    assert found.keeper.state == tmp_path / "state"
    assert controller.files == [one, two]
    assert controller.hooks == [found.service]


def test_negative_trust_anchors() -> None:
    found = anchors(
        "negative_trust_anchors Lan. 10.0.0.0/8",
        "dnssec validate",
        "negative_trust_anchors a.test b.test until 2100-01-31",
        "negative_trust_anchors c.test until 2100-01-31T01:00:00+01:00",
    )
    until = 4105036800.0
    assert {it.zone: it.until for it in found.negative.values()} == {
        from_text("lan"): float("inf"),
        from_text("10.in-addr.arpa"): float("inf"),
        from_text("a.test"): until,
        from_text("b.test"): until,
        from_text("c.test"): until,
    }
    assert found.service.negative == list(found.negative.values())


@pytest.mark.parametrize(
    ("options", "problem", "hint"),
    [
        (["dnssec"], "wrong argument count", "dnssec validate [FILE...]"),
        (["dnssec sign"], "dnssec: unknown word 'sign'", "dnssec validate [FILE...]"),
        (["dnssec validate /no/such"], "cannot read '/no/such': No such file", ""),
        (["trust_anchors_state a"], "'a': trust anchors have no effect", "dnssec validate"),
        (["negative_trust_anchors a"], "'a': trust anchors have no effect", "dnssec validate"),
        (["trust_anchors_state"], "wrong argument count", "trust_anchors_state FILE"),
        (["trust_anchors_state a b"], "wrong argument count", "trust_anchors_state FILE"),
        (["negative_trust_anchors"], "wrong argument count", "ZONE... [until DATE]"),
        (["negative_trust_anchors until 2100-01-01"], "wrong argument count", "ZONE..."),
        (["negative_trust_anchors a until"], "wrong argument count", "ZONE..."),
        (["negative_trust_anchors a until soon"], "not a date: 'soon'", "2030-01-31"),
        (["negative_trust_anchors a..b"], "a..b", ""),
        (["trust_anchor_state a"], "unknown option", "did you mean 'trust_anchors_state'?"),
    ],
)
def test_refused(options: list[str], problem: str, hint: str) -> None:
    found = str(refusal(line(*options)))
    assert problem in found
    assert hint in found


def test_a_mistake_in_a_file_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_text("\nexample.org. DS 1 8 2 00")
    found = str(refusal(line(f"dnssec validate {path}")))
    assert f"{path}:2: a digest of type 2 has 32 bytes, not 1" in found


def test_the_state_file_is_not_a_file_with_anchors(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    path.write_text(f". DS {DS}")
    found = str(refusal(line(f"dnssec validate {path}", f"trust_anchors_state {path}")))
    assert "the state file is one of the files with anchors" in found


def test_lines_with_the_same_anchors_share_them(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_text(f". DS {DS}")
    state = f"trust_anchors_state {tmp_path}/state"
    same = line("dnssec validate", state)
    controller = set_up(f"{same}\n{same}")
    one, two = map(anchors_of, controller.handlers)
    assert one.keeper is two.keeper
    assert controller.hooks == [one.service]
    other = line(f"dnssec validate {path}", state)
    found = str(refusal(f"{same}\n{other}"))
    assert "another line keeps other trust anchors in this state file" in found


def test_unlikely_options_cause_warnings(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_text("a. DNSKEY 256 3 8 AQAB\nb. DS 1 3 2 " + 64 * "0")
    expired = "negative_trust_anchors a.test until 2020-01-01"
    controller = set_up(line(f"dnssec validate {path}", "negative_trust_anchors .", expired))
    key, past, algorithm = (warning.message for warning in controller.warnings)
    assert "is a zone-signing key" in key
    assert past == "the negative trust anchor a.test. expired on 2020-01-01"
    assert algorithm == "b. is not validated: the algorithm 3 is not supported"
    (root,) = set_up(line("dnssec validate", "negative_trust_anchors .")).warnings
    assert root.message == "a negative trust anchor for the root disables validation"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("corepy_forward.validation.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("corepy_forward.validation.handler", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    found = str(refusal(line("dnssec validate")))
    assert "dnssec validate needs cryptography, which is not installed" in found
    assert "pip install 'corepy-dns[forward]'" in found
