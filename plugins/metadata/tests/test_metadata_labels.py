"""Which providers are asked, when, and what the directive takes."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from corepy.plugin import Cacheability, Handler, hookimpl
from corepy.testing import Recorder, make_request, refusal, run_chain, serve, set_up, with_handlers
from corepy_metadata.metadata import Labels, Metadata


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        ("metadata", ("block.",)),
        ("metadata example.com.", ("example.com.",)),
        ("metadata example.com. net", ("example.com.", "net.")),
    ],
)
def test_directive(text, zones):
    (handler,) = set_up(text, "block").handlers
    assert isinstance(handler, Metadata)
    assert (handler.zones, handler.cacheability) == (zones, Cacheability.SAFE)


@pytest.mark.parametrize("text", ["metadata example.com. {\nsome_param\n}", "metadata\nmetadata"])
def test_refused(text):
    assert refusal(text).token is not None


def labels(known, *providers):
    return Labels(known, providers, make_request("example.org"))


def test_providers_are_asked_for_a_missing_label():
    asked = []

    def provider(request):
        asked.append(request.name)
        return {"test/a": "1", "test/b": "2"}

    metadata = labels({"set/by-hand": "x", "test/b": "mine"}, provider, lambda request: None)
    assert metadata.get("set/by-hand") == metadata["set/by-hand"] == "x"
    assert not asked
    assert (metadata["test/a"], metadata["test/b"]) == ("1", "mine")
    assert asked == ["example.org."]
    assert (metadata.get("test/none"), metadata.get("test/none", "-")) == (None, "-")
    assert "test/none" not in metadata
    with pytest.raises(KeyError):
        metadata["test/none"]
    assert len(asked) == 5  # once for each access to the missing label


def test_a_label_may_be_there_later():
    """As one that is known only when the reply exists."""
    known: dict[str, str] = {}
    metadata = labels({}, lambda request: known)
    assert metadata.get("test/late") is None
    known["test/late"] = "now"
    assert metadata.get("test/late") == "now"


def test_a_provider_may_read_a_label():
    def provider(request):
        return {"test/seen": str(request.metadata.get("test/none"))}

    request = make_request("example.org")
    request.metadata = Labels({}, [provider], request)
    assert request.metadata["test/seen"] == "None"


def test_in_asks_as_well():
    metadata = labels({"a/b": 1}, lambda request: {"test/a": ""})
    assert "a/b" in metadata
    assert "test/a" in metadata
    assert metadata.get("test/a", "-") == ""


def test_setting_is_not_asking():
    metadata = labels({}, lambda request: pytest.fail("asked"))
    metadata["log/type"] = "NOERROR"
    assert metadata.get("log/type") == "NOERROR"


def test_without_providers_nothing_is_done():
    request = make_request("example.org")
    known: dict[str, Any] = {}
    request.metadata = known
    run_chain(request, Metadata(["."]), Recorder())
    assert request.metadata is known


def test_the_state():
    """It has the labels of providers; the metadata of the query does not change."""
    request = make_request("example.org")
    request.metadata = {"corepy/explain": "true", ".marks": "x", "log/type": "NOERROR", "a/n": 5}
    handler = Metadata(["."])
    handler._providers = (lambda request: {"test/a": "1", "test/b": "", "log/type": "no"},)
    reply = run_chain(request, handler, Recorder())
    assert handler.explain_state(request) == {}
    assert handler.explain_state(request, reply) == {"log/type": "NOERROR", "test/a": "1"}
    assert "test/a" not in dict(request.metadata)
    assert Metadata(["."]).explain_state(make_request("a."), reply) == {}


class Speaker(Handler):
    """Knows something about every query, and notes what is known about it."""

    name: ClassVar[str] = "speaker"
    seen: ClassVar[list[Any]] = []

    @hookimpl
    def metadata(self, request):
        return {"speaker/name": request.name}

    async def serve_dns(self, request):
        self.seen.append(request.metadata.get("speaker/name"))
        return request.error(0)


class Quiet(Speaker):
    """Speaks without looking at the query."""

    name: ClassVar[str] = "quiet"

    @hookimpl
    def metadata(self):
        return {"speaker/name": "quiet"}


@pytest.mark.parametrize(
    ("blocks", "handlers", "name", "expected"),
    [
        (". {\nbind 127.0.0.1\nmetadata\nspeaker\n}", {"speaker": Speaker}, "a.b", "a.b."),
        (". {\nbind 127.0.0.1\nmetadata\nspeaker\n}", {"speaker": Quiet}, "a.b", "quiet"),
        (". {\nbind 127.0.0.1\nmetadata x\nspeaker\n}", {"speaker": Speaker}, "a.x", "a.x."),
        (". {\nbind 127.0.0.1\nmetadata x\nspeaker\n}", {"speaker": Speaker}, "a.y", None),
        (". {\nbind 127.0.0.1\nspeaker\n}", {"speaker": Speaker}, "a.b", None),
    ],
)
def test_served(
    blocks: str, handlers: dict[str, Callable[[], Handler]], name: str, expected: str | None
) -> None:
    Speaker.seen.clear()
    with serve(blocks, plugins=with_handlers(**handlers)) as server:
        server.ask(name)
    assert Speaker.seen == [expected]
