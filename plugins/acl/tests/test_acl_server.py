"""*acl* in a server: over both transports, above cache and packet cache, counted, reloaded."""

import socket

import dnslib
import pytest

from corepy.corefile import CorefileError
from corepy.net.frames import frame
from corepy.plugin import Cacheability, Handler, lookup
from corepy.testing import Upstream, query, serve, with_handlers
from corepy.testing.client import read_frame
from corepy_acl.metrics import ALLOWED, BLOCKED, DROPPED, FILTERED

FRIEND, STRANGER = "127.0.0.1", "127.0.0.2"
NAME = "www.example.org."
TEMPLATE = 'template IN A {\nanswer "{{ .Name }} 60 IN A 192.0.2.1"\n}'
DENIALS = {"block": 5, "filter": 0}


def corefile(acl, *directives, zone="."):
    body = "\n".join((acl, *directives))
    return f"{zone}:0 {{\nbind 127.0.0.1\n{body}\n}}\n"


def deny(action, networks=STRANGER):
    return f"acl {{\n{action} net {networks}\n}}"


def ask(server, client, name=NAME, qtype="A", *, tcp=False, **options):
    """Ask from an address; None if a later query is answered and this one is not."""
    wire, marker = query(name, qtype, **options), query(NAME, opcode=2)
    with socket.socket(type=socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.bind((client, 0))
        sock.connect(server.address)
        for message in (wire, marker):
            sock.sendall(frame(message) if tcp else message)
        reply = b""
        while reply[:2] not in (wire[:2], marker[:2]):  # an earlier socket may have had this port
            reply = read_frame(sock) if tcp else sock.recv(65535)
    return None if reply[:2] == marker[:2] else dnslib.DNSRecord.parse(reply)


def shown(reply):
    """The rcode, the addresses, and the extended error of a reply; None for a dropped query."""
    if reply is None:
        return None
    options = [(it.code, it.data) for rr in reply.ar if rr.rtype == 41 for it in rr.rdata]
    return reply.header.rcode, [str(rr.rdata) for rr in reply.rr], options


Answer = tuple[int, list[str], list[tuple[int, bytes]]]
ANSWER: Answer = (0, ["192.0.2.1"], [])
DENIED: dict[str, Answer | None] = {
    "block": (5, [], [(15, b"\0\x0f")]),
    "filter": (0, [], [(15, b"\0\x11")]),
    "drop": None,
}


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("action", DENIED)
@pytest.mark.parametrize(
    ("directives", "order"),
    [
        (["cache", TEMPLATE], ""),
        (["cache {\nprefetch 1\n}", TEMPLATE], ""),
        (["cache {\nserve_stale\n}", "minimal", TEMPLATE, "errors"], "acl before cache"),
        (["cache", TEMPLATE, "loadbalance"], "cache after acl"),
        (["cache", TEMPLATE, "log", "metadata", "nsid"], "acl before log"),
        (["cache", TEMPLATE, "loop"], "cache after template\ntemplate after acl"),
        ([TEMPLATE], ""),
    ],
)
def test_a_denied_client_never_gets_what_others_got(tcp, action, directives, order):
    with serve(corefile(deny(action), *directives), order=order) as server:
        (endpoint,) = server.server.endpoints.values()
        packets = endpoint.listener("tcp" if tcp else "udp").pipeline.packets
        for client in (STRANGER, *[FRIEND] * 4, *[STRANGER] * 3, FRIEND):
            expected = ANSWER if client == FRIEND else DENIED[action]
            assert shown(ask(server, client, tcp=tcp, edns=1232)) == expected
        assert server.call(lambda: dict(packets.entries)) == {}


@pytest.mark.parametrize("order", ["acl after cache", "cache before acl", "cache before log"])
def test_a_cache_above_it_is_refused(order):
    with pytest.raises(CorefileError) as refused:
        serve(corefile(deny("drop"), "cache", TEMPLATE), order=order).__enter__()
    (diagnostic,) = refused.value.diagnostics
    assert (diagnostic.message, diagnostic.token.text, diagnostic.token.line) == (
        "cache is above acl: clients denied by acl would get cached replies", "acl", 3,
    )  # fmt: skip


def test_a_cache_above_it_does_no_harm_if_all_clients_get_the_same():
    text = corefile("acl {\ndrop type ANY\n}", "cache", TEMPLATE)
    with serve(text, order="cache before acl") as server:
        assert shown(ask(server, STRANGER)) == ANSWER
        assert ask(server, STRANGER, qtype="ANY") is None


class Keeper(Handler):
    """A third party's cache."""

    name = "keeper"
    cacheability = Cacheability.SETS_DEADLINE

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)


def test_a_third_party_s_cache_above_it_is_refused():
    plugins = with_handlers(keeper=Keeper)
    with pytest.raises(CorefileError, match="keeper is above acl"):
        serve(
            corefile(deny("block"), "keeper"), plugins=plugins, order="keeper before log"
        ).__enter__()


def test_the_packet_cache_is_on_if_all_clients_get_the_same():
    text = corefile("acl {\nblock type ANY\n}", "cache", TEMPLATE)
    with serve(text) as server:
        (endpoint,) = server.server.endpoints.values()
        packets = endpoint.listener("udp").pipeline.packets
        counters = ALLOWED.labels(endpoint.label, ""), BLOCKED.labels(endpoint.label, ".", "")
        before = [it.value for it in counters]  # an earlier server may have had this port
        for client in (FRIEND, STRANGER, FRIEND, STRANGER, STRANGER):
            assert shown(ask(server, client)) == ANSWER
            assert shown(ask(server, client, qtype="ANY", edns=1232)) == DENIED["block"]
        assert server.call(lambda: len(packets.entries)) == 1
        server.call(packets.clear)  # counts the hits
        assert [it.value for it in counters] == [it + 5 for it in before]


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("action", DENIED)
@pytest.mark.parametrize("below", [[TEMPLATE], ["minimal", "loop", TEMPLATE]])
def test_the_packet_cache_keeps_what_all_clients_get(tcp, action, below):
    """Of the names in one block, and of the types of one name."""
    rule = f"acl guarded.org {{\n{action} type A AAAA net {STRANGER}\n}}"
    with serve(corefile(rule, "cache", *below)) as server:
        (endpoint,) = server.server.endpoints.values()
        packets = endpoint.listener("tcp" if tcp else "udp").pipeline.packets
        allowed = ALLOWED.labels(endpoint.label, "")
        before = allowed.value  # an earlier server may have had this port
        for client in (STRANGER, *[FRIEND] * 4, *[STRANGER] * 3, FRIEND):
            guarded = ask(server, client, "www.guarded.org.", tcp=tcp, edns=1232)
            assert shown(guarded) == (ANSWER if client == FRIEND else DENIED[action])
            assert shown(ask(server, client, "www.free.org.", tcp=tcp)) == ANSWER
        (key,) = server.call(lambda: list(packets.entries))
        assert b"\4free\3org" in key
        server.call(packets.clear)
        assert allowed.value - before == 5 + 9


def test_beside_a_block_without_it():
    """Both blocks share the socket and its packet cache."""
    guarded = corefile(deny("block"), "cache", TEMPLATE, zone="guarded.org")
    with serve(guarded + corefile("cache", TEMPLATE, zone="free.org")) as server:
        for client in (FRIEND, FRIEND, FRIEND, STRANGER):
            assert shown(ask(server, client, "www.free.org.")) == ANSWER
            is_friend = client == FRIEND
            found = ask(server, client, "www.guarded.org.", edns=1232)
            assert shown(found) == (ANSWER if is_friend else DENIED["block"])
        (endpoint,) = server.server.endpoints.values()
        keys = server.call(lambda: list(endpoint.listener("udp").pipeline.packets.entries))
        assert len(keys) == 1
        assert b"\4free" in keys[0]


@pytest.mark.parametrize("action", DENIALS)
def test_edns_only_for_clients_with_edns(action):
    """CoreDNS adds OPT with DO to every denial (RFC 6891 section 7, RFC 3225)."""
    with serve(corefile(deny(action), TEMPLATE)) as server:
        plain = ask(server, STRANGER)
        assert (plain.header.rcode, plain.ar) == (DENIALS[action], [])
        # glibc takes an empty reply without AA, RA and additional records for a referral, and asks
        # again (resolv/res_send.c).
        assert plain.header.aa == (action == "filter")
        for do in (False, True):
            (opt,) = ask(server, STRANGER, edns=1400, do=do).ar
            assert (opt.edns_len, opt.edns_do) == (1400, do)


def test_mapped_clients_of_a_dual_stack_socket():
    text = f".:0 {{\n{deny('block', '127.0.0.0/8')}\n{TEMPLATE}\n}}\n"
    with serve(text) as server:
        for tcp in (False, True):
            assert shown(ask(server, STRANGER, tcp=tcp, edns=1232)) == DENIED["block"]


class Alias(Handler):
    name = "alias"

    async def serve_dns(self, request):
        if request.name != "alias.":
            return await self.next.serve_dns(request)
        found = await lookup(request, b"\3www\7example\3org\0")
        return request.error(found.rcode)


def test_look_ups_have_the_client_of_the_query():
    plugins = with_handlers(alias=Alias)
    text = corefile(f"acl example.org {{\nblock net {STRANGER}\n}}", "alias", TEMPLATE)
    with serve(text, plugins=plugins) as server:
        assert ask(server, FRIEND, "alias.").header.rcode == 0
        assert ask(server, STRANGER, "alias.").header.rcode == 5


def test_metrics():
    text = corefile(
        f"acl example.org {{\nallow net {FRIEND}\nblock type A\nfilter type AAAA\ndrop\n}}",
        TEMPLATE,
    )
    with serve(text) as server:
        (endpoint,) = server.server.endpoints.values()
        labels = (endpoint.label, "example.org.", "")
        counters = [it.labels(*labels) for it in (BLOCKED, FILTERED, DROPPED)]
        counters.append(ALLOWED.labels(endpoint.label, ""))
        before = [it.value for it in counters]  # the port may be that of an earlier test
        for qtype in ("A", "AAAA", "AAAA", "MX", "MX", "MX"):
            ask(server, STRANGER, qtype=qtype)
        ask(server, FRIEND)
        ask(server, STRANGER, "example.net")
        counts = [it.value - count for it, count in zip(counters, before, strict=True)]
        assert counts == [1, 2, 3, 2]


def test_the_log_has_every_denial(capfd):
    with serve(
        corefile("acl {\nblock type A\nfilter type AAAA\ndrop\n}", 'log . "{type} {rcode}"')
    ) as it:
        for qtype in ("A", "AAAA", "MX"):
            ask(it, STRANGER, qtype=qtype)
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("[INFO] ")]
    assert [line for line in lines if line[7:] in ("A REFUSED", "AAAA NOERROR", "MX -")] == [
        "[INFO] A REFUSED", "[INFO] AAAA NOERROR", "[INFO] MX -"
    ]  # fmt: skip


def test_reload():
    with serve(corefile(deny("block"), "cache", TEMPLATE)) as server:
        assert shown(ask(server, STRANGER, edns=1232)) == DENIED["block"]
        server.reload(corefile(deny("block", FRIEND), "cache", TEMPLATE))
        for _ in range(3):
            assert shown(ask(server, STRANGER, edns=1232)) == ANSWER
        with pytest.raises(CorefileError):
            server.reload(corefile("acl {\nblock net x\n}", "cache", TEMPLATE))
        server.reload(corefile(deny("drop"), "cache", TEMPLATE))
        assert ask(server, STRANGER, edns=1232) is None


@pytest.mark.parametrize("rule", [deny("block"), "acl {\nblock type ANY\n}"])
def test_a_name_that_waits_for_an_upstream(rule):
    """*forward* below *cache* answers later, without a coroutine."""
    upstream = Upstream({f"{NAME} A": [f"{NAME} 60 IN A 192.0.2.1"]})
    with upstream, serve(corefile(rule, "cache", f"forward . {upstream.to}")) as server:
        (endpoint,) = server.server.endpoints.values()
        allowed = ALLOWED.labels(endpoint.label, "")
        before = allowed.value
        for _ in range(4):
            assert shown(server.ask(NAME)) == ANSWER
        server.call(endpoint.forget)
        assert allowed.value - before == 4


def test_the_outcome_is_named_in_an_explanation(tmp_path, capsys):
    from corepy.commands import explain

    path = tmp_path / "Corefile"
    path.write_text(
        "example.org {\n    acl {\n        drop net 192.0.2.0/24\n    }\n    whoami\n}\n"
    )
    assert explain.main(["-conf", str(path), NAME, "A", "192.0.2.9"]) == 0
    out = capsys.readouterr().out
    assert "drop; dropped" in out
    assert f"zone: example.org., rule: {path}:3" in out
    assert out.endswith(";; no reply: a plugin dropped the query\n")
