"""`corepy explain`: the block, the chain, what each plugin did, the answer; offline and of a running server."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from corepy.commands import explain
from corepy.commands.explanation import render
from corepy.dns import Request, RequestContext, finish
from corepy.plugin import Cacheability, Handler, control_client, hookimpl
from corepy.plugin.control_client import ControlError, ask
from corepy.plugin.output import WRITER
from corepy.server.listen.packet_cache import MemoryPool, PacketCache, why_not
from corepy.testing import Upstream, free_port, query, run_command, serve, with_handlers

ZONE = {
    "www.example.org. A": ["www.example.org. 300 IN A 192.0.2.1"],
    "two.example.org. A": [
        "two.example.org. 60 IN A 192.0.2.1",
        "two.example.org. 60 IN A 192.0.2.2",
    ],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the control sockets of these tests to themselves."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


@pytest.fixture
def run(tmp_path, capsys):
    """Explain by a Corefile; returns (exit code, what was printed, what was complained of)."""

    def run(text, *arguments):
        path = tmp_path / "Corefile"
        path.write_text(text)
        code = explain.main(["-conf", str(path), *arguments])
        out, err = capsys.readouterr()
        return code, out.replace(str(path), "Corefile"), err.replace(str(path), "Corefile")

    return run


@pytest.fixture
def explained(run):
    """Explain by a Corefile; returns the explanation."""

    def explained(text, *arguments):
        code, out, err = run(text, "-json", *arguments)
        assert (code, err) == (0, "")
        return json.loads(out)

    return explained


def steps(explanation):
    return {step["plugin"]: step for step in explanation["steps"]}


def forwarding(upstream, *lines, zone="."):
    body = "\n".join(f"    {line}" for line in lines)
    return f"{zone} {{\n    bind 127.0.0.1\n{body}\n    forward . {upstream.to}\n}}\n"


TWO = """\
cluster.local svc.cluster.local {
    whoami
}
. {
    whoami
}
"""


@pytest.mark.parametrize(
    ("arguments", "zone", "reason"),
    [
        (["a.cluster.local"], "cluster.local.", "the longest zone"),
        (["A.SVC.cluster.LOCAL"], "svc.cluster.local.", "the longest zone"),
        (["example.org"], ".", "the longest zone"),
        (["svc.cluster.local", "DS"], "cluster.local.", "DS record belongs to the parent"),
        (["cluster.local", "DS"], "cluster.local.", "its parent is not served here"),
        (["-class", "CH", "version.bind", "TXT"], None, "class CH is refused"),
    ],
)
def test_the_block_and_why(explained, arguments, zone, reason):
    explanation = explained(TWO, *arguments)
    block = explanation["block"]
    assert (block and block["zone"]) == zone
    assert reason in explanation["reason"]
    if zone:
        assert block["place"].endswith("Corefile:4" if zone == "." else "Corefile:1")
        assert steps(explanation)["whoami"]["did"].startswith("answered")
    else:
        assert explanation["reply"]["rcode"] == "REFUSED"
        assert explanation["steps"] == []


def test_a_name_in_no_zone_and_a_block_that_answers_nothing(explained):
    text = "example.org {\n    whoami\n}\nexample.net {\n    health 127.0.0.1:1\n}\n"
    nowhere, nobody = explained(text, "example.com"), explained(text, "example.net")
    assert (nowhere["block"], nowhere["reply"]["rcode"]) == (None, "REFUSED")
    assert "no zone of this server" in nowhere["reason"]
    assert nobody["block"]["chain"] == []
    assert nobody["block"]["beside"] == ["health"]
    assert "no plugin that answers" in nobody["reason"]
    assert explained("example.org {\n    whoami\n}\n", "example.org")["reason"].startswith(
        "the only"
    )


def test_candidates_are_the_zones_that_fit_first(explained):
    explanation = explained(TWO, "a.svc.cluster.local")
    found = [(it["zone"], it["fits"]) for it in explanation["candidates"]]
    assert found == [("svc.cluster.local.", True), ("cluster.local.", True), (".", True)]
    found = [(it["zone"], it["fits"]) for it in explained(TWO, "org")["candidates"]]
    assert found[0] == (".", True)
    assert {fits for _, fits in found[1:]} == {False}


def test_which_server_is_asked(explained, run):
    text = (
        "a:1053 {\n    bind 127.0.0.1\n    whoami\n}\n.:1054 {\n    bind 127.0.0.2\n    whoami\n}\n"
    )
    best = explained(text, "a")
    assert best["server"] == "dns://127.0.0.1:1053"
    (other,) = best["elsewhere"]
    assert (other["server"], other["zone"]) == ("dns://127.0.0.2:1054", ".")
    for at in ("127.0.0.2", "127.0.0.2:1054", ":1054", "dns://127.0.0.2:1054"):
        assert explained(text, "-at", at, "a")["block"]["zone"] == "."
    code, _, err = run(text, "-at", "192.0.2.1", "a")
    assert code == 1
    assert err == (
        "corepy explain: no server at '192.0.2.1'; there is dns://127.0.0.1:1053,"
        " dns://127.0.0.2:1054\n"
    )


def test_what_is_changed_on_the_way(explained):
    with Upstream(ZONE) as upstream:
        text = forwarding(upstream, "errors", "bufsize 700", "cache 30", "minimal")
        explanation = explained(text, "www.example.org")
        by_name = steps(explanation)
    assert list(by_name) == ["bufsize", "errors", "cache", "minimal", "forward"]
    assert by_name["errors"]["did"] == "passed on"
    assert by_name["bufsize"]["down"] == ["EDNS size 1232 -> 700"]
    assert by_name["cache"]["down"] == ["AD set"]
    assert "TTL 300 -> 30" in by_name["cache"]["up"]
    assert by_name["cache"]["did"] == "passed on, changed the reply"
    assert by_name["cache"]["before"] == {"state": "miss"}
    after = by_name["cache"]["after"]
    assert (after["state"], after["ttl"], after["kept as"]) == ("fresh", 30, "success")
    assert by_name["forward"]["did"] == "answered NOERROR, 1 record"
    assert by_name["forward"]["labels"] == {"forward/upstream": upstream.to}
    assert by_name["forward"]["before"] == {"upstreams": upstream.to}
    assert explanation["reply"]["answer"] == [
        {"name": "www.example.org.", "ttl": 30, "class_": "IN", "type": "A", "data": "192.0.2.1"}
    ]
    assert "www.example.org.\t30\tIN\tA\t192.0.2.1" in explanation["reply"]["text"]
    assert all(step["seconds"] >= 0 for step in explanation["steps"])


def test_a_second_question_finds_the_cache(explained):
    with Upstream(ZONE) as upstream:
        text = forwarding(upstream, "cache 30")
        first = explained(text, "www.example.org")
        second = explained(text, "-times", "2", "www.example.org")
        assert len(upstream.queries) == 2
    assert not first["packet_cache"]["admitted"]
    by_name = steps(second)
    assert by_name["cache"]["before"]["state"] == "fresh"
    assert by_name["cache"]["did"] == "answered NOERROR, 1 record"
    assert (by_name["forward"]["did"], by_name["forward"]["seconds"]) == ("not asked", None)
    assert second["packet_cache"]["admitted"]
    assert 28 <= second["packet_cache"]["seconds"] <= 31


@pytest.mark.parametrize(
    ("lines", "arguments", "reason"),
    [
        (["cache", "loadbalance"], [], "loadbalance depends on more than the query"),
        ([], [], "nothing in this block is cached"),
        (["cache"], ["-times", "2"], None),
        (["cache", "nsid"], ["-times", "2"], None),
    ],
)
def test_the_packet_cache_and_its_obstacle(explained, lines, arguments, reason):
    with Upstream(ZONE) as upstream:
        found = explained(forwarding(upstream, *lines), *arguments, "www.example.org")
    assert found["packet_cache"]["admitted"] is (reason is None)
    assert (reason is None) or reason in found["packet_cache"]["reason"]


def test_capitals_are_an_obstacle(explained):
    with Upstream(ZONE) as upstream:
        found = explained(forwarding(upstream, "cache"), "-times", "2", "WWW.example.org")
    assert found["packet_cache"]["reason"] == "the name contains capital letters"


def test_order_records_and_options_are_compared():
    from corepy.server.explain.diff import ReplyState, answer_changes

    request = Request.from_wire(query("a.example", "A"))
    one, two, three = (
        b"\x01a\x07example\0\0\1\0\1\0\0\0\x3c\0\4" + bytes((192, 0, 2, last)) for last in (1, 2, 3)
    )

    def changes(before, after):
        return answer_changes(ReplyState.of(before), ReplyState.of(after), 0.0)

    first = request.reply(answer=[one, two])
    assert changes(first, request.reply(answer=[two, one])) == ["answer: order changed"]
    assert changes(first, request.reply(answer=[one, three])) == [
        "answer: removed a.example. 60 IN A 192.0.2.2",
        "answer: added a.example. 60 IN A 192.0.2.3",
    ]
    assert changes(first, request.error(2, "broken", (22, "nobody"))) == [
        "rcode NOERROR -> SERVFAIL",
        "answer: removed a.example. 60 IN A 192.0.2.1",
        "answer: removed a.example. 60 IN A 192.0.2.2",
        "EDNS option added: EDE: 22 (No Reachable Authority): (nobody)",
    ]
    authoritative = request.reply(answer=[one, two], authoritative=True)
    authoritative.deadline = 12.0
    assert changes(first, authoritative) == [
        "AA set", "allowed in the packet cache for 12 s",
    ]  # fmt: skip
    broken = request.reply(answer=[one])
    broken.wire = broken.wire[:-2]
    assert changes(first, broken) == ["the message cannot be read"]
    many = request.reply(answer=[one[:-1] + bytes((last,)) for last in range(10)])
    assert changes(request.reply(), many)[-1] == "answer: added 6 more"


def test_look_ups_of_the_server_are_followed(explained):
    text = """\
alias.example {
    template IN A {
        answer "{{ .Name }} 60 IN CNAME www.example.net."
        answer "www.example.net. 60 IN A 192.0.2.9"
    }
}
. {
    template IN A {
        match "^chase"
        answer "{{ .Name }} 60 IN CNAME x.alias.example."
        upstream
    }
    whoami
}
"""
    explanation = explained(text, "chase.example.org")
    names = [(step["plugin"], step["depth"]) for step in explanation["steps"]]
    assert names == [
        ("template", 0), ("server", 0), ("template", 1), ("server", 1), ("template", 2), ("whoami", 0),
    ]  # fmt: skip
    assert explanation["steps"][1]["did"].startswith("looked up x.alias.example. A: NOERROR")
    assert explanation["steps"][0]["did"].startswith("answered NOERROR")


class Broken(Handler):
    name = "broken"

    async def serve_dns(self, request):
        raise ValueError("oops")


class Leaving(Handler):
    name = "leaving"

    async def serve_dns(self, request):
        raise SystemExit(3)


class Nonsense(Handler):
    name = "nonsense"

    async def serve_dns(self, request):
        return b"no reply"

    def explain_state(self, request, reply=None):
        raise KeyError("what")


@pytest.mark.parametrize(
    ("name", "handler", "said"),
    [
        ("broken", Broken, "failed: ValueError: oops"),
        ("nonsense", Nonsense, "failed: returned bytes"),
        ("leaving", Leaving, "failed: SystemExit: 3"),
    ],
)
def test_plugins_that_fail(name, handler, said, folder):
    text = f". {{\n    bind 127.0.0.1\n    errors\n    {name}\n}}\n"
    with serve(text, plugins=with_handlers(**{name: handler}), control=True) as server:
        explanation = ask_for({"name": "example.org"})
        assert steps(explanation)[name]["did"].startswith(said)
        assert explanation["reply"]["rcode"] == "SERVFAIL"
        assert server.ask("example.org").header.rcode == 2


class Uncopyable(Handler):
    name = "uncopyable"

    def __reduce_ex__(self, protocol):
        raise TypeError("there is only one")


def test_a_plugin_that_cannot_be_watched():
    text = ". {\n    bind 127.0.0.1\n    uncopyable\n}\n"
    plugins = with_handlers(uncopyable=Uncopyable)
    message = "plugin/uncopyable cannot be traced: TypeError: there is only one"
    with serve(text, plugins=plugins, control=True), pytest.raises(ControlError, match=message):
        live()


def test_dead_upstreams_are_explained_with_the_reason(explained):
    text = f". {{\n    errors\n    forward . 127.0.0.1:{free_port()}\n}}\n"
    explanation = explained(text, "www.example.org")
    assert explanation["reply"]["rcode"] == "SERVFAIL"
    assert "refused" in explanation["reply"]["error"]
    assert explanation["reply"]["edns"]
    assert any("plugin/errors" in line for line in explanation["log"])
    by_name = steps(explanation)
    assert "refused" in by_name["forward"]["error"]
    assert by_name["errors"]["error"] is None
    assert re.search(r"error (read|write|dial) (udp|tcp) 127\.0\.0\.1:", render(explanation))


def test_dry_asks_nobody(explained):
    with Upstream(ZONE) as upstream:
        explanation = explained(forwarding(upstream, "cache"), "-dry", "www.example.org")
        named = f". {{\n    forward . dns.invalid:{free_port()}\n}}\n"
        explained(named, "-dry", "www.example.org")
        assert upstream.queries == []
    step = steps(explanation)["forward"]
    assert step["did"].startswith("would query another server")
    assert step["before"] == {"upstreams": upstream.to}


def test_embedded_directives_are_steps_and_not_asked_with_dry_either(explained):
    """*alternate* asks a *forward* of its own, after the one of the block."""
    with Upstream("servfail") as first, Upstream(ZONE) as second:
        text = forwarding(first, f"alternate SERVFAIL . {second.to}")
        explanation = explained(text, "-dry", "www.example.org")
        asked = [(step["plugin"], step["did"][:9]) for step in explanation["steps"]]
        assert asked == [
            ("alternate", "passed on"),
            ("forward", "would que"),
            ("forward", "would que"),
        ]
        assert not [it for it in (*first.queries, *second.queries) if "www" in it[0]]
        explanation = explained(text, "www.example.org")
        did = [step["did"] for step in explanation["steps"]]
        assert [it.partition(",")[0] for it in did[1:]] == ["answered SERVFAIL", "answered NOERROR"]
        assert explanation["steps"][2]["before"] == {"upstreams": second.to}


def test_the_client_matters(explained):
    text = ". {\n    whoami\n}\n"
    four, six = explained(text, "a", "A", "192.0.2.5"), explained(text, "a", "A", "2001:db8::5")
    assert four["reply"]["additional"][0]["data"] == "192.0.2.5"
    assert six["reply"]["additional"][0]["data"] == "2001:db8::5"
    assert explained(text, "-tcp", "a")["reply"]["additional"][1]["name"].startswith("_tcp")


def test_the_text_says_it_all(run):
    with Upstream(ZONE) as upstream:
        text = "cluster.local {\n    whoami\n}\n" + forwarding(upstream, "log", "cache 30")
        code, out, err = run(text, "-dns.port", "5399", "www.example.org")
    assert (code, err) == (0, "")
    out = re.sub(r" +\d+(\.\d+)? (us|ms)|\d+\.\d+s", " T", out).replace(upstream.to, "UPSTREAM")
    assert re.sub(r"left: \d+", "left: 30", out) == GOLDEN


GOLDEN = """\
Question  www.example.org. A from 127.0.0.1 (udp, EDNS 1232)
Server    dns://127.0.0.1:5399
          at dns://:5399 no block answers
Block     . (Corefile:4): the only zone of this server
Chain     log > cache > forward
          without handler: bind

 T  log      passed on
 T  cache    miss; passed on, changed the reply
                     down  AD set
                     up    AD cleared
                     up    TTL 300 -> 30
                     now   fresh, seconds left: 30, ttl: 30, kept as: success
 T  forward  answered NOERROR, 1 record
                     upstreams: UPSTREAM
                     forward/upstream: UPSTREAM
 T  total

Packet cache  does not store this reply: no plugin has set its deadline

;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 0
;; flags: qr rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags:; udp: 1232

;; QUESTION SECTION:
;www.example.org.\t\tIN\tA

;; ANSWER SECTION:
www.example.org.\t30\tIN\tA\t192.0.2.1

;; MSG SIZE: 60

Log
  [INFO] 127.0.0.1:53535 - 0 "A IN www.example.org. udp 44 false 1232" NOERROR qr,rd,ra 60  T
"""


def test_a_state_after_the_query_may_be_empty_or_without_a_word(run):
    _, out, _ = run(". {\n    local\n    erratic {\n        drop 2\n    }\n}\n", "a")
    states = [line.strip() for line in out.splitlines() if "now" in line or "queries" in line]
    assert states == ["queries: 0", "now   queries: 1"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["a..b"], 1, "corepy explain: empty label in name 'a..b'\n"),
        (["a", "NOTYPE"], 1, "corepy explain: unknown DNS type: 'NOTYPE'; the arguments are "),
        (["-class", "XX", "a"], 1, "corepy explain: unknown DNS class: 'XX'\n"),
        (["a", "A", "me"], 1, "corepy explain: 'me' is not an IP address of a client\n"),
        (
            ["a", "TXT", "ch"],
            1,
            "corepy explain: 'ch' is not an IP address of a client; "
            "to ask in this class, use -class ch\n",
        ),
        (["-times", "11", "a"], 1, "corepy explain: a question can be asked 1 to 10 times\n"),
        (
            ["-conf", "/nowhere/Corefile", "a"],
            1,
            "corepy: cannot read the Corefile /nowhere/Corefile",
        ),
        (["-server", "a"], 2, "corepy explain: -server and -conf exclude each other\n"),
    ],
)
def test_mistakes_in_one_line(run, arguments, code, said):
    found, out, err = run(". {\n    whoami\n}\n", *arguments)
    assert (found, out) == (code, "")
    assert err.startswith(said)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["-nonsense", "a"], ["-edns", "x", "a"], ["a", "A", "::1", "more"]]
)
def test_wrong_usage(run, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(". {\n    whoami\n}\n", *arguments)
    assert stop.value.code == 2
    assert re.fullmatch(r"corepy explain: .*; see corepy explain -help\n", capsys.readouterr().err)


def test_help(capsys):
    for spelling in ("-help", "--help", "-h"):
        with pytest.raises(SystemExit) as stop:
            explain.main([spelling])
        assert stop.value.code == 0
        assert "-server" in capsys.readouterr().out


def test_a_corefile_with_mistakes(run):
    code, out, err = run(". {\n    whomai\n}\n", "a")
    assert (code, out) == (1, "")
    assert "Corefile:2:5: unknown directive 'whomai'" in err
    assert "did you mean 'whoami'?" in err


def test_warnings_are_shown_as_well(run):
    code, out, err = run("example.org{\n    whoami\n}\n", "example.org")
    assert code == 0
    assert "Block     none: no zone of this server contains the name" in out
    assert "warning: 'example.org{' is taken as a zone" in err


def test_a_start_that_would_be_refused(run, tmp_path):
    text = f". {{\n    loadbalance weighted {tmp_path}/none\n    whoami\n}}\n"
    text = text.replace("none", "weights")
    (tmp_path / "weights").write_text("nonsense here and there\n")
    code, _, err = run(text, "a")
    assert code == 1
    assert err.startswith("corepy explain: plugin/loadbalance: weight file")
    assert WRITER.divert is None


class Cautious(Handler):
    """Notes which hooks are called."""

    name = "cautious"
    called: ClassVar[list[Any]] = []

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)

    @hookimpl
    async def rehearse(self, context):
        self.called.append(("rehearse", context.offline, list(context.addresses)))

    @hookimpl
    def before_listen(self):
        self.called.append("before_listen")

    @hookimpl
    def serving(self):
        self.called.append("serving")

    @hookimpl
    def shutdown(self, context):
        self.called.append("shutdown")


class Bold(Handler):
    """Has no rehearsal."""

    name = "bold"
    before_listen, serving, shutdown = Cautious.before_listen, Cautious.serving, Cautious.shutdown
    called = Cautious.called

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)


def test_only_rehearsals_are_called_without_a_server(monkeypatch):
    import asyncio

    from corepy import corefile
    from corepy.server.build.builder import build
    from corepy.server.explain.explainer import Asked, rehearse

    text = ".:5399 {\n    cautious\n    bold\n    whoami\n}\n"
    plugins = with_handlers(cautious=Cautious, bold=Bold)
    Cautious.called.clear()
    generation = build(corefile.parse(text), found=plugins, checking=True)
    explanation = asyncio.run(rehearse(generation, Asked("a"), offline=False))
    assert Cautious.called == [("rehearse", False, ["dns://:5399"]), "shutdown"]
    assert [step["plugin"] for step in explanation["steps"]][-1] == "whoami"


@pytest.mark.serial
def test_the_host_is_left_alone(tmp_path):
    """With nodecache and every endpoint, as nobody, under strace: nothing is listened at or set up."""
    with Upstream(ZONE) as upstream:
        text = f"""\
.:53 {{
    bind 169.254.20.10
    nodecache
    errors
    log
    cache
    loop
    reload
    health 127.0.0.1:{free_port()}
    ready 127.0.0.1:{free_port()}
    prometheus 127.0.0.1:{free_port()}
    forward . {upstream.to}
}}
"""
        (tmp_path / "Corefile").write_text(text)
        tmp_path.chmod(0o755)
        trace = tmp_path / "trace"
        command = ["strace", "-f", "-o", str(trace), "-e", "trace=listen,bind,socket,unlink,mkdir"]
        command += [sys.executable, "-m", "corepy", "explain", "-conf", str(tmp_path / "Corefile")]
        done = subprocess.run([*command, "www.example.org"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "192.0.2.1" in done.stdout
        assert "without handler: bind, nodecache, reload, health, ready" in done.stdout
    calls = trace.read_text()
    assert "listen(" not in calls
    assert "AF_NETLINK" not in calls
    assert "SOCK_RAW" not in calls
    assert "mkdir(" not in calls
    binds = re.findall(r"bind\(\d+, (\{[^}]*\})", calls)
    assert all("htons(0)" in address or "0.0.0.0" in address for address in binds), binds


# -- a running server


def asked(upstream):
    return [question for question, _ in upstream.queries].count("www.example.org. A")


def live(**argument):
    return ask_for({"name": "www.example.org", **argument})


def ask_for(argument):
    (socket,) = control_client.sockets()
    return ask(socket, "explain", argument)


def test_a_running_server_explains_itself_and_counts_the_question():
    with (
        Upstream(ZONE) as upstream,
        serve(forwarding(upstream, "errors", "cache 30"), control=True, still=True) as server,
    ):
        first = live()
        assert steps(first)["cache"]["before"] == {"state": "miss"}
        assert first["server"] == f"dns://127.0.0.1:{server.address[1]}"
        assert asked(upstream) == 1
        for _ in range(3):
            assert 0 < server.ask("www.example.org", edns=1232).rr[0].ttl <= 30
        assert asked(upstream) == 1  # it has filled the cache
        second = live()
        assert steps(second)["cache"]["before"]["state"] == "fresh"
        assert second["packet_cache"]["admitted"]
        assert 0 < second["packet_cache"]["holds"]["seconds left"] <= 30
        server.reload(forwarding(upstream, "errors"))
        assert "cache" not in steps(live())


def test_the_live_chain_is_untouched():
    with (
        Upstream(ZONE) as upstream,
        serve(
            forwarding(upstream, "prometheus 127.0.0.1:0", "errors", "cache"), control=True
        ) as server,
    ):
        (router,) = server.server.generation.routers.values()
        (route,) = router.routes

        def chain():
            links, link = [], route.chain
            while link is not None:
                links.append((link, dict(vars(link))))
                link = vars(link).get("next")
            return links

        def links():
            return [
                (link, {"next": vars_.get("next"), "own": "serve_dns" in vars_})
                for link, vars_ in chain()
            ]

        before = links()
        explanation = live()
        assert links() == before
        assert [step["plugin"] for step in explanation["steps"]] == [
            "prometheus", "errors", "cache", "forward",
        ]  # fmt: skip


def test_metrics_name_who_answered():
    from corepy_prometheus.series import RESPONSES

    with (
        Upstream(ZONE) as upstream,
        serve(forwarding(upstream, "prometheus 127.0.0.1:0", "errors"), control=True),
    ):

        def count():
            return sum(value.value for labels, value in RESPONSES.children() if "forward" in labels)

        before = count()
        live()
        assert count() == before + 1


def test_a_stale_entry_that_is_verified_shows_who_was_asked():
    lines = ("cache {", "    success 1024 60 1", "    serve_stale 1h verify", "}")
    zone = {"www.example.org. A": ["www.example.org. 1 IN A 192.0.2.1"]}
    with Upstream(zone) as upstream, serve(forwarding(upstream, *lines), control=True) as server:
        server.ask("www.example.org")
        from corepy_cache.handler import Cache

        (cache,) = server.plugins(Cache)
        (entry,) = cache.store.success
        server.call(lambda: setattr(entry, "stored", entry.stored - 10))
        explanation = live()
        by_name = steps(explanation)
        assert by_name["cache"]["before"]["state"] == "stale"
        assert by_name["cache"]["before"]["serve_stale"] == "verify"
        assert by_name["cache"]["after"]["state"] == "fresh"
        assert by_name["forward"]["did"].startswith("answered NOERROR")


@pytest.mark.parametrize(
    "argument",
    [
        None, [], {}, {"name": 1}, {"name": "a..b"}, {"name": "a", "what": 1},
        {"name": "a", "times": 0}, {"name": "a", "times": True}, {"name": "a", "protocol": "tls"},
        {"name": "a", "edns": -1}, {"name": "a", "client": "me"}, {"name": "a" * 70},
        {"name": "a", "at": "192.0.2.77"},
    ],
)  # fmt: skip
def test_nonsense_is_refused(argument):
    with serve(TWO.replace("whoami", "bind 127.0.0.1\n    whoami"), control=True) as server:
        with pytest.raises(ControlError):
            ask_for(argument)
        assert server.ask("a").header.rcode == 0


def test_the_command_asks_the_servers_that_run(tmp_path, capsys):
    assert explain.main(["-server", "a"]) == 1
    assert "no server runs here" in capsys.readouterr().err
    env = {"RUNTIME_DIRECTORY": str(tmp_path)}
    text = '. {\n    bind 127.0.0.1\n    metadata\n    log . "{name} {/corepy/explain}"\n    whoami\n}\n'
    with run_command(text, env=env) as command:
        assert explain.main(["--server", "www.example.org"]) == 0
        out = capsys.readouterr().out
        assert f"of process {command.process.pid}" in out
        assert "whoami    answered NOERROR, no records" in out
        command.wait_for("www.example.org. true")
        command.ask("other.example.org")
        command.wait_for("other.example.org. -")
        assert explain.main(["-server", "-json", "www.example.org"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert found["process"] == command.process.pid
        assert explain.main(["-server", "-dry", "a"]) == 2


def test_a_server_that_cannot_explain_does_not_hide_the_others(tmp_path, capsys):
    env = {"RUNTIME_DIRECTORY": str(tmp_path)}
    text = ". {\n    bind 127.0.0.1\n    whoami\n}\n"
    with run_command(text, env=env) as one, run_command(text, env=env) as other:
        assert explain.main(["-server", "-json", "-at", f":{one.address[1]}", "a"]) == 0
        said = capsys.readouterr()
        (found,) = json.loads(said.out)
        assert found["process"] == one.process.pid
        assert said.err.startswith(f"corepy explain: process {other.process.pid}: ")
        assert explain.main(["-server", "-at", "192.0.2.77", "a"]) == 1
        assert capsys.readouterr().err.count("corepy explain: process ") == 2


# -- why the packet cache does not keep something


class Kept(Handler):
    name = "kept"
    cacheability = Cacheability.SETS_DEADLINE


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"edns": 1232},
        {"do": True},
        {"name": "WWW.example.org"},
        {"cookie": True},
        {"opcode": 4},
    ],
)
@pytest.mark.parametrize("deadline", [None, 5.0, 20.0])
@pytest.mark.parametrize("size", [1, 40])
def test_why_not_says_what_admit_does(question, deadline, size):
    import asyncio

    name, flags = question.get("name", "www.example.org"), dict(question)
    flags.pop("name", None)
    cookie = flags.pop("cookie", False)
    request = Request.from_wire(query(name, "TXT", **flags))
    if cookie:
        request = request.derive(options=b"\0\x0a\0\x08abcdefgh")
    request.received, request.context = 10.0, RequestContext(protocol="tcp")
    record = b"\x01a\0\0\x10\0\1\0\0\0\x3c\0\x65" + b"\x64" + b"x" * 100
    reply = request.reply(answer=[record] * size)
    reply.deadline = deadline
    sent = finish(request, reply)

    async def admitted():
        cache = PacketCache(MemoryPool(1 << 20))
        cache.admit(request, reply, sent)
        return bool(cache.entries)

    assert asyncio.run(admitted()) == (why_not(request, reply, sent) is None)


def test_the_manual_shows_what_is_printed(run):
    text = (Path(__file__).parent.parent / "docs" / "explain.md").read_text()
    (example,) = re.findall(r"^```corefile\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (shown,) = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    code, printed, _ = run(example, "www.example.org")
    assert code == 0
    assert timeless(printed) == timeless(shown)


def timeless(text):
    return re.sub(r"left: \d+", "left: N", re.sub(r" +\d+(\.\d+)? (us|ms)", " T", text))
