"""The directive: the cases of plugin/k8s_external/setup_test.go, and every option's mistakes."""

import pytest

from corepy.plugin import Handler, StartupError
from corepy.testing import helper_module, refusal, serve, set_up
from corepy.testing.inline import with_handlers
from corepy_k8s_external.handler import Settings

Cluster = helper_module(__file__, "cluster").Cluster
ROOT = (".",)


def directive(text, zone="."):
    controller = set_up(text, zone)
    (handler,) = controller.handlers
    return handler, [warning.message for warning in controller.warnings]


@pytest.mark.parametrize(
    ("text", "settings", "fallthrough"),
    [
        ("k8s_external", Settings(ROOT), ()),
        ("k8s_external example.org", Settings(("example.org.",)), ()),
        (
            "k8s_external example.org {\napex testdns\n}",
            Settings(("example.org.",), b"\7testdns\0"), (),
        ),
        ("k8s_external example.org {\nheadless\n}", Settings(("example.org.",), headless=True), ()),
        ("k8s_external example.org {\nfallthrough\n}", Settings(("example.org.",)), ROOT),
        (
            "k8s_external example.org {\nfallthrough ip6.arpa inaddr.arpa foo.com\n}",
            Settings(("example.org.",)), ("ip6.arpa.", "inaddr.arpa.", "foo.com."),
        ),
        ("k8s_external {\nttl 0\n}", Settings(ROOT, ttl=0), ()),
        ("k8s_external {\nttl 3600\n}", Settings(ROOT, ttl=3600), ()),
        ("k8s_external a\nk8s_external b {\nttl 9\n}", Settings(("b.",), ttl=9), ()),
    ],
)  # fmt: skip
def test_coredns_accepts(text, settings, fallthrough):
    handler, warnings = directive(text)
    assert handler._settings == settings
    assert handler._fallthrough.zones == fallthrough
    assert warnings == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("ttl", "wrong argument count or unexpected line ending after 'ttl'"),
        ("ttl 5s", "not a whole number: '5s'"),
        ("ttl -1", "ttl -1 is out of range"),
        ("ttl 3601", "ttl 3601 is out of range"),
        ("apex", "wrong argument count or unexpected line ending after 'apex'"),
        ("apex a..b", "apex: empty label in name 'a..b'"),
        ("apex .", "apex '.' is not a label"),
        ("unknown", "unknown option 'unknown'"),
    ],
)
def test_refused(options, message):
    assert refusal(f"k8s_external {{\n{options}\n}}").message == message


def test_surplus_arguments():
    _, warnings = directive("k8s_external {\nttl 5 6\napex dns other\n}")
    assert [it.partition(":")[0] for it in warnings] == ["'6' is ignored", "'other' is ignored"]


class Other(Handler):
    """A handler without services."""

    name = "kubernetes"

    async def serve_dns(self, request):
        return request.error(0)


@pytest.mark.parametrize(
    ("directives", "handlers", "reason"),
    [
        ("whoami", {}, "has no handler of kubernetes, only k8s_external, whoami; add kubernetes"),
        (
            "kubernetes",
            {"kubernetes": Other},
            "kubernetes in .* does not implement ExternalService",
        ),
    ],
)
def test_the_start_fails_without_services(directives, handlers, reason):
    text = f"example.com {{\nk8s_external\n{directives}\n}}"
    with pytest.raises(StartupError, match=reason), serve(text, plugins=with_handlers(**handlers)):
        pass


def test_autopath_cannot_use_it():
    """As in CoreDNS: a plugin without search paths is refused at the start."""
    text = "example.com {\nautopath @k8s_external\nk8s_external\nkubernetes\n}"
    problem = "k8s_external in .* does not implement SearchPathSource"
    plugins = with_handlers(kubernetes=Cluster)
    with pytest.raises(StartupError, match=problem), serve(text, plugins=plugins):
        pass
