"""The directive, with the cases of the original (setup_test.go, fanout_test.go)."""

import pytest

from corepy.dns.names import from_text
from corepy.plugin.upstream_words import UpstreamWord
from corepy.testing import refusal, set_up
from corepy_fanout.handler import Fanout
from corepy_fanout.selection import WeightedRandom
from corepy_fanout.settings import DEFAULT_TIMEOUT, Settings


def handler(text):
    (found,) = set_up(text).handlers
    assert isinstance(found, Fanout)
    return found


def line(options, targets="127.0.0.1"):
    return f"fanout . {targets} {{\n{options}\n}}"


FOUR = "127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.4"
WEIGHTED = "policy weighted-random"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            line(f"{WEIGHTED}\nweighted-random-server-count 5 weighted-random-load-factor 100"),
            {"server_count": 1, "weights": [100], "policy": "weighted-random"},
        ),
        (
            "fanout . 127.0.0.1",
            {"zone": ".", "attempts": 3, "worker_count": 1, "timeout": DEFAULT_TIMEOUT},
        ),
        ("fanout . 127.0.0.1", {"network": "udp", "server_count": 1, "policy": "sequential"}),
        (line("except a b\nworker-count 3"), {"worker_count": 1, "excluded": ["a.", "b."]}),
        (line("network tcp", "127.0.0.1 127.0.0.2"), {"network": "tcp", "worker_count": 2}),
        (line("NETWORK TCP"), {"network": "tcp"}),
        (line("network tcp-tls"), {"network": "tcp-tls"}),
        (
            line("worker-count 3\ntimeout 1m", FOUR),
            {"worker_count": 3, "timeout": 60.0, "server_count": 4},
        ),
        (line("attempt-count 2", FOUR), {"attempts": 2, "worker_count": 4}),
        (line("attempt-count 0"), {"attempts": 0}),
        (line(WEIGHTED, FOUR), {"weights": [100] * 4, "policy": "weighted-random"}),
        (line("policy sequential\nworker-count 3", FOUR), {"policy": "sequential"}),
        (line("Policy Weighted-Random"), {"policy": "weighted-random"}),
        (line("race"), {"is_race": True}),
        (line("tls-server dns.quad9.net", "tls://9.9.9.9"), {"tls_server": "dns.quad9.net"}),
        (line("tls_servername dns.quad9.net", "tls://9.9.9.9"), {"tls_server": "dns.quad9.net"}),
        ("fanout example.ORG 127.0.0.1", {"zone": "example.org."}),
    ],
)
def test_lines(text, expected):
    found = handler(text).settings
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("fanout . 127.0.0.1 127.0.0.2", ["127.0.0.1:53", "127.0.0.2:53"]),
        (
            "fanout . 10.0.0.10:53 10.0.0.11:1053 [2003::1]:53",
            ["10.0.0.10:53", "10.0.0.11:1053", "[2003::1]:53"],
        ),
        ("fanout . tls://9.9.9.9", ["9.9.9.9:853"]),
        ("fanout . tls://9.9.9.9:8853", ["9.9.9.9:8853"]),
    ],
)
def test_upstreams(text, addresses):
    found = handler(text)
    assert [it.address for it in found.settings.upstreams] == addresses
    targets = [target for it in found.embedded for target in it.next.static_targets()]
    assert [target.address for target in targets] == addresses


def test_upstreams_of_a_file(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 10.10.255.252\nnameserver 10.10.255.253")
    controller = set_up(f"fanout . {file}")
    addresses = [it.address for it in controller.handlers[0].settings.upstreams]
    assert addresses == ["10.10.255.252:53", "10.10.255.253:53"]
    assert file in controller.files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fanout . aaa", "not an IP address or file"),
        ("fanout .: 127.0.0.1", "expecting data after last colon: '.:'"),
        (line("except a b\nworker-count 1"), "Forward plugin"),
        (line("except a b\nworker-count ten"), "'ten'"),
        (line("worker-count 33"), "worker count more then max value: 32"),
        (line("except a:"), "expecting data after last colon: 'a:'"),
        (line("except"), "wrong argument count"),
        (line("network XXX"), "unknown network protocol 'XXX'"),
        (line(f"{WEIGHTED}\nweighted-random-server-count -100"), "wrong argument count"),
        (
            line(f"{WEIGHTED}\nweighted-random-load-factor 150"),
            "load-factor 150 should be less than 100",
        ),
        (line(f"{WEIGHTED}\nweighted-random-load-factor 0"), "should be more or equal 1"),
        (line(f"{WEIGHTED}\nweighted-random-load-factor 50 100"), "must be the same as the number"),
        (
            line(f"{WEIGHTED}\nweighted-random-load-factor 50", "127.0.0.1 127.0.0.2"),
            "load-factor params count must be the same as the number of hosts",
        ),
        (line(f"{WEIGHTED}\nweighted-random-load-factor"), "wrong argument count"),
        (line("weighted-random-load-factor ten"), "not a whole number"),
        (line("policy fastest"), "unknown policy 'fastest'"),
        (line("server-count 5"), "unknown option 'server-count'"),
        (line("race now"), "wrong argument count"),
        (line("timeout soon"), "soon"),
        (line("timeout 0s"), "timeout 0s is not positive"),
        (line("except-file"), "wrong argument count"),
        (line("except-file /no/such/file"), "cannot read /no/such/file"),
        (line("tls a b c d", "tls://9.9.9.9"), "wrong argument count"),
        (line("tls /nonexistent.pem", "tls://9.9.9.9"), "nonexistent.pem"),
        ("fanout .", "wrong argument count"),
        ("fanout", "wrong argument count"),
        ("fanout . 127.0.0.1\nfanout . 127.0.0.2", "can only be used once"),
        (
            f"fanout . {' '.join(f'10.0.0.{last}' for last in range(1, 102))}",
            "more than 100 TOs configured: 101",
        ),
    ],
)
def test_mistakes(text, message):
    assert message in str(refusal(text))


def test_a_file_of_exceptions(tmp_path):
    """Blank lines are skipped: the original takes the last one for the root, and forwards nothing."""
    file = tmp_path / "names"
    file.write_text("example1.com.\r\n\nExample2.com\n")
    controller = set_up(line(f"except-file {file}"))
    assert controller.handlers[0].settings.excluded == ["example1.com.", "example2.com."]
    assert file in controller.files
    file.write_text("good.test\nb..ad\n")
    assert f"{file}:2: " in refusal(line(f"except-file {file}")).message


@pytest.mark.parametrize(
    ("excluded", "name", "matches"),
    [
        (["example.org."], "www.example.org.", False),
        (["example.org."], "example.org.", False),
        (["example.org."], "example.com.", True),
        (["a.example.org."], "example.org.", True),
        (["."], "example.org.", False),
    ],
)
def test_exceptions(excluded, name, matches):
    settings = Settings(excluded=excluded)
    settings.complete()
    assert Fanout(settings, []).matches(from_text(name)) is matches


@pytest.mark.parametrize(
    ("settings", "transport", "lines"),
    [
        (Settings(), "dns", []),
        (Settings(network="tcp"), "dns", [["force_tcp"]]),
        (Settings(network="tcp"), "tls", []),
        (Settings(tls_server="a.test"), "dns", []),
        (Settings(tls_server="a.test"), "tls", [["tls_servername", "a.test"]]),
        (Settings(tls=["ca.pem"], network="tcp-tls"), "dns", [["tls", "ca.pem"]]),
    ],
)
def test_how_an_upstream_is_asked(settings, transport, lines):
    first, attempts, fails, *others = settings.lines_for(UpstreamWord(transport, "192.0.2.1", 5))
    assert (attempts, fails) == (["max_connect_attempts", "3"], ["max_fails", "0"])
    scheme = "tls" if settings.network == "tcp-tls" else transport
    assert (first, others) == ([".", f"{scheme}://192.0.2.1:5"], lines)


@pytest.mark.parametrize(
    ("weights", "draws", "order"),
    [
        ([50, 70, 100], [0, 0, 0], [0, 1, 2]),
        ([50, 70, 100], [219, 119, 49], [2, 1, 0]),
        ([50, 70, 100], [49, 70, 0], [0, 2, 1]),
        ([1, 1], [1, 0], [1, 0]),
    ],
)
def test_weighted_choices(weights, draws, order):
    """The probability of an upstream is its share of the weights of those that are left."""
    totals = []

    def draw(total):
        totals.append(total)
        return draws[len(totals) - 1]

    assert WeightedRandom(weights, len(weights), draw)() == order
    left = [sum(weights) - sum(weights[it] for it in order[:at]) for at in range(len(order))]
    assert totals == left
    totals.clear()
    assert len(WeightedRandom(weights, 1, draw)()) == 1


@pytest.mark.parametrize("text", ["fanout . 192.0.2.1", "alternate SERVFAIL . 192.0.2.1"])
def test_other_classes_stay_refused_as_in_coredns(text):
    """core/dnsserver/server.go, EnableChaos: *forward* is in that list, these are not."""
    assert not set_up(text).handlers[0].any_class
