"""Which queries are logged, and what the lines look like in the end."""

import re

import pytest

from corepy.dns import Reply, Request
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.dns.response import ReplyClass
from corepy.plugin import Cacheability, EndOfChain, Handler
from corepy.plugin.placeholders import COMMON
from corepy.testing import Recorder, Upstream, make_request, run_chain, serve
from corepy_log.log import Log, LogRule


def ask(
    handler: Log, name: str = "example.org", below: Handler | None = None, **query: object
) -> Reply:
    return run_chain(make_request(name, **query), handler, below or EndOfChain("log"))  # type: ignore[arg-type]  # question and peer


def test_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    reply = ask(Log([LogRule()]), id=7, peer=("10.240.0.1", 40212))
    assert reply.rcode == c.SERVFAIL
    assert re.fullmatch(
        r'\[INFO\] 10\.240\.0\.1:40212 - 7 "A IN example\.org\. udp 29 false 512" '
        r"SERVFAIL qr,rd 29 0\.\d{1,9}s\n",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize(
    ("rules", "name", "expected"),
    [
        ([LogRule("example.org.", "{name}")], "example.org", "example.org."),
        ([LogRule("example.org.", "{name}")], "Example.ORG", "example.org."),
        ([LogRule("Example.ORG.", "{name}")], "a.example.org", "a.example.org."),
        ([LogRule("example.org.", "{name}")], "anexample.org", None),
        ([LogRule("example.org.", "{name}")], "example.net", None),
        ([LogRule("example.org.", "1"), LogRule("example.net.", "2")], "example.net", "2"),
        ([LogRule("example.org.", "1"), LogRule(".", "2")], "example.org", "1"),
        ([LogRule("a..b.", "1"), LogRule("org.", "2")], "example.org", "2"),
        ([LogRule(".", "{type} {class}")], "example.org", "A IN"),
        ([LogRule(".", "{name}")], "foo.%s.example.org", "foo.%s.example.org."),
        ([LogRule(".", "{name}")], ".", "."),
        ([], "example.org", None),
    ],
)
def test_scope(
    capsys: pytest.CaptureFixture[str], rules: list[LogRule], name: str, expected: str | None
) -> None:
    ask(Log(rules), name)
    assert capsys.readouterr().out == ("" if expected is None else f"[INFO] {expected}\n")


def reply_of(kind: str) -> Recorder:
    owner = from_text("example.org")
    soa = rr(owner, c.TYPE_SOA, 60, b"\0\0" + bytes(20))
    answers = {
        "answer": lambda q: q.reply(answer=[rr(owner, c.TYPE_A, 60, bytes(4))]),
        "delegation": lambda q: q.reply(authority=[rr(owner, c.TYPE_NS, 60, b"\0")]),
        "nodata": lambda q: q.reply(authority=[soa]),
        "nxdomain": lambda q: q.reply(c.NXDOMAIN, authority=[soa]),
        "nxdomain without soa": lambda q: q.error(c.NXDOMAIN),
        "servfail": lambda q: q.error(c.SERVFAIL),
        "refused": lambda q: q.error(c.REFUSED),
        "unreadable": lambda q: Reply(q.error(0).wire[:6] + b"\0\0\0\5" + b"\0\0"),
    }
    return Recorder(answers[kind])


KINDS = [
    ("answer", "success", "NOERROR"),
    ("delegation", "success", "DELEGATION"),
    ("nodata", "denial", "NODATA"),
    ("nxdomain", "denial", "NXDOMAIN"),
    ("nxdomain without soa", "denial", "NXDOMAIN"),
    ("servfail", "error", "SERVERERROR"),
    ("refused", "error", "OTHERERROR"),
    ("unreadable", "error", "OTHERERROR"),
]


@pytest.mark.parametrize("wanted", ["success", "denial", "error", "all"])
@pytest.mark.parametrize(("kind", "of_class", "name"), KINDS)
def test_class(
    capsys: pytest.CaptureFixture[str], wanted: str, kind: str, of_class: str, name: str
) -> None:
    rule = LogRule(".", "x", frozenset({ReplyClass(wanted)}))
    ask(Log([rule]), below=reply_of(kind))
    assert capsys.readouterr().out == ("[INFO] x\n" if wanted in (of_class, "all") else "")


@pytest.mark.parametrize(("kind", "of_class", "name"), KINDS)
def test_kind_in_the_line(
    capsys: pytest.CaptureFixture[str], kind: str, of_class: str, name: str
) -> None:
    ask(Log([LogRule(".", "{/log/class} {/log/type}")]), below=reply_of(kind))
    assert capsys.readouterr().out == f"[INFO] {of_class} {name}\n"


def test_all_beside_others_is_all(capsys: pytest.CaptureFixture[str]) -> None:
    classes = frozenset({ReplyClass.ALL, ReplyClass.DENIAL})
    ask(Log([LogRule(".", "x", classes)]), below=reply_of("servfail"))
    assert capsys.readouterr().out == "[INFO] x\n"


def test_the_first_rule_decides_even_if_its_class_does_not_match(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = [LogRule("org.", "1", frozenset({ReplyClass.DENIAL})), LogRule(".", "2")]
    ask(Log(rules), below=reply_of("servfail"))
    assert capsys.readouterr().out == ""


def test_expired_signature_is_an_error_for_who_asks_with_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner = from_text("example.org")
    rdata = bytes(8) + (1).to_bytes(4, "big") * 2 + bytes(2) + b"\0"
    below = Recorder(lambda q: q.reply(answer=[rr(owner, c.TYPE_RRSIG, 60, rdata)]))
    handler = Log([LogRule(".", "{/log/type}")])
    ask(handler, below=below)
    ask(handler, below=below, do=True)
    assert capsys.readouterr().out == "[INFO] NOERROR\n[INFO] OTHERERROR\n"


class Broken(Handler):
    name = "broken"

    async def serve_dns(self, request: Request) -> Reply:
        raise RuntimeError("broken")


def test_a_plugin_that_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError):
        ask(Log([LogRule(".", "{rcode}")]), below=Broken())
    assert capsys.readouterr().out == "[INFO] SERVFAIL\n"


def test_only_looks(capsys: pytest.CaptureFixture[str]) -> None:
    request = make_request("example.org")
    kept = request.error(0)
    below = Recorder(lambda asked: kept)
    assert run_chain(request, Log([LogRule()]), below) is kept
    assert below.requests == [request]
    assert Log([]).cacheability is Cacheability.OBSERVES


@pytest.mark.parametrize(
    ("line_format", "cacheability"),
    [
        ("{remote} {type} {/log/type} {/log/class}", Cacheability.OBSERVES),
        ("{remote} {local}", Cacheability.UNSAFE),
        ("{/forward/upstream}", Cacheability.UNSAFE),
        ("{/log/type} {/log/other}", Cacheability.UNSAFE),
    ],
)
def test_purity(line_format: str, cacheability: Cacheability) -> None:
    assert Log([LogRule(), LogRule(".", line_format)]).cacheability is cacheability


def test_what_the_packet_cache_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    handler = Log([LogRule("org.", "{remote}:{port} {>id} {name} {rcode} {/log/type}")])

    class Kept(Recorder):
        async def serve_dns(self, request: Request) -> Reply:
            reply = request.error(c.NXDOMAIN)
            reply.deadline = 5.0
            return reply

    class Repeat(Handler):
        name = "repeat"

        async def serve_dns(self, request: Request) -> Reply:
            reply = await self.next.serve_dns(request)
            (hit_listener,) = reply.hit_counters
            hit_listener.on_hit(b"\1\2", ("::1", 53), 0.0)
            hit_listener.on_hit(b"\0\3", request.client, 0.0)
            hit_listener.count_hits(2)
            return reply

    run_chain(make_request("a.org", id=1), Repeat(), handler, Kept())
    assert capsys.readouterr().out.splitlines() == [
        "[INFO] 127.0.0.1:40000 1 a.org. NXDOMAIN NXDOMAIN",
        "[INFO] [::1]:53 258 a.org. NXDOMAIN NXDOMAIN",
        "[INFO] 127.0.0.1:40000 3 a.org. NXDOMAIN NXDOMAIN",
    ]


def test_no_witness_of_what_is_not_logged() -> None:
    def kept(request: Request) -> Reply:
        return Reply(request.error(0).wire, deadline=5.0)

    handler = Log([LogRule("org.", "x", frozenset({ReplyClass.ERROR}))])
    assert ask(handler, "a.org", Recorder(kept)).hit_counters == ()
    assert ask(handler, "a.net", Recorder(kept)).hit_counters == ()
    assert ask(Log([LogRule(".", "x")]), "a.org", reply_of("servfail")).hit_counters == ()


@pytest.mark.parametrize("tcp", [False, True])
def test_served(capsys: pytest.CaptureFixture[str], tcp: bool) -> None:
    text = '. {\nbind 127.0.0.1\nlog . "{remote} {local} {proto} {name} {rcode} {>id}"\nwhoami\n}'
    with serve(text) as server:
        ids = [server.ask(f"{n}.example.org", tcp=tcp).header.id for n in range(3)]
    proto = "tcp" if tcp else "udp"
    lines = [line for line in capsys.readouterr().out.splitlines() if "example.org" in line]
    assert lines == [
        f"[INFO] 127.0.0.1 127.0.0.1 {proto} {n}.example.org. NOERROR {ids[n]}" for n in range(3)
    ]


def test_served_truncated(capsys: pytest.CaptureFixture[str]) -> None:
    """The upstream's answer is whole (it came over TCP); the server cuts it for the client, and
    the packet cache repeats it.
    """
    records = {"big.example. A": [f"big.example. 60 A 192.0.2.{n}" for n in range(90)]}
    with Upstream(records) as upstream:
        text = f'. {{\nbind 127.0.0.1\nlog . "{{name}} {{>rflags}}"\ncache\nforward . {upstream.to}\n}}'
        with serve(text) as server:
            for edns in (None, None, 4096):
                assert server.ask("big.example", edns=edns).header.tc == (edns is None)
    flags = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if "big" in line]
    assert ["tc" in it.split(",") for it in flags] == [True, True, False]


# -- dropped queries


def drop(*rules: LogRule, **query: object) -> None:
    below = Recorder(lambda request: request.drop())
    ask(Log(rules), "drop.test", below, id=7, peer=("192.0.2.1", 1053), **query)


def test_a_dropped_query(capsys: pytest.CaptureFixture[str]) -> None:
    """As in CoreDNS: no rcode and no flags, no bytes, the class error (plugin/pkg/replacer)."""
    own = "{rcode} {>rflags} {rsize} {/log/class} {/log/type}"
    drop(LogRule(format=COMMON + "|" + own), do=True)
    assert re.fullmatch(
        r'\[INFO\] 192\.0\.2\.1:1053 - 7 "A IN drop\.test\. udp 38 true 1232" - - 0 \S*s'
        r"\|- - 0 error OTHERERROR\n",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize("of_class", ReplyClass)
def test_the_class_of_a_dropped_query(
    capsys: pytest.CaptureFixture[str], of_class: ReplyClass
) -> None:
    drop(LogRule(format="{name}", classes=frozenset((of_class,))))
    is_logged = of_class in (ReplyClass.ALL, ReplyClass.ERROR)
    assert capsys.readouterr().out == ("[INFO] drop.test.\n" if is_logged else "")
