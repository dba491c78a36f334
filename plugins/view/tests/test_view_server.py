"""*view* in a running server: which block answers, metrics, metadata, caches, reload."""

from ipaddress import ip_address

import dnslib
import pytest

from corepy.testing import Upstream, free_port, http_get, serve

HOME, AWAY = "127.0.0.1", "127.0.0.2"


def say(word):
    return f'template IN ANY {{\n answer "{{{{ .Name }}}} 60 IN TXT {word}"\n}}'


def view(name, *expressions):
    lines = "\n".join(f"  expr {expression}" for expression in expressions)
    return f"view {name} {{\n{lines}\n}}"


def block(zone, *lines):
    return "\n".join((f"{zone} {{", " bind 127.0.0.1", *lines, "}\n"))


def ask(server, name, qtype="TXT", source=HOME, **options):
    """Return the text of the answer, or the name of the rcode."""
    reply = server.ask(name, qtype, source=source, **options)
    if reply.rr:
        return str(reply.rr[0].rdata).strip('"')
    return dnslib.RCODE[reply.header.rcode]


# -- the cases of CoreDNS's test/view_test.go

VIEW_TEST = [
    ("split-type", view("a", "type() == 'A'"), "1.2.3.4 test.split-type"),
    ("split-type", view("aaaa", "type() == 'AAAA'"), "1:2:3::4 test.split-type"),
    (
        "split-name",
        view("one", r"name() matches '^one\\..*\\.split-name\\.$'"),
        "1.1.1.1 one.test.split-name one.test.test.test.split-name",
    ),
    (
        "split-name",
        view("two", r"name() matches '^two\\..*\\.split-name\\.$'"),
        "2.2.2.2 two.test.split-name two.test.test.test.split-name",
    ),
    ("split-name", "", "3.3.3.3 default.test.split-name"),
    (
        "metadata",
        "metadata\n" + view("meta1", "metadata('view/name') == 'not-the-view-name'"),
        "1.1.1.1 test.metadata",
    ),
    ("metadata", view("meta2", "metadata('view/name') == 'meta2'"), "2.2.2.2 test.metadata"),
    (
        "metadata",
        "metadata\n" + view("meta3", "metadata('view/name') == 'meta3'"),
        "2.2.2.2 test.metadata",
    ),
    ("metadata", "", "3.3.3.3 test.metadata"),
    ("order1", view("v-a", "type() == 'A'"), "1.2.3.4 test.order1"),
    ("order1", view("v-aaaa", "type() == 'AAAA'"), "1:2:3::4 test.order1"),
    ("order1", "", "5.6.7.8 test.order1"),
    ("order2", "", "5.6.7.8 test.order2"),
    ("order2", view("v-a", "type() == 'A'"), "1.2.3.4 test.order2"),
    ("order3", view("v-a", "type() == 'A'"), "1.2.3.4 test.order3"),
    ("order3", "", "5.6.7.8 test.order3"),
    ("order3", view("v-aaaa", "type() == 'AAAA'"), "1:2:3::4 test.order3"),
    ("order4", view("v-a", "type() == 'A'"), "1.2.3.4 test.order4"),
    ("order4", view("v-aaaa", "type() == 'AAAA'"), "1:2:3::4 test.order4"),
]


def test_the_cases_of_coredns():
    text = "".join(
        block(zone, *filter(None, [lines]), f"hosts {{\n {line}\n}}")
        for zone, lines, line in VIEW_TEST
    )
    with serve(text) as server:
        for name, qtype, expected in (
            ("test.split-type", "A", "1.2.3.4"),
            ("test.split-type", "AAAA", "1:2:3::4"),
            ("one.test.test.test.split-name", "A", "1.1.1.1"),
            ("one.test.split-name", "A", "1.1.1.1"),
            ("two.test.test.test.split-name", "A", "2.2.2.2"),
            ("two.test.split-name", "A", "2.2.2.2"),
            ("default.test.split-name", "A", "3.3.3.3"),
            ("test.metadata", "A", "2.2.2.2"),
            ("test.order1", "A", "1.2.3.4"),
            ("test.order1", "AAAA", "1:2:3::4"),
            ("test.order1", "MX", "NOERROR"),
            ("test.order2", "A", "5.6.7.8"),
            ("test.order3", "A", "1.2.3.4"),
            ("test.order3", "AAAA", "NOERROR"),
            ("test.order4", "A", "1.2.3.4"),
            ("test.order4", "MX", "REFUSED"),
        ):
            found = ask(server, name, qtype)
            if expected.isalpha():
                assert found == expected, name
            else:
                assert ip_address(found) == ip_address(expected), name


# -- which block answers

SPLIT = (
    block("example.org", view("inside", f"incidr(client_ip(), '{AWAY}/32')"), say("inside"))
    + block("example.org", say("outside"))
    + block(".", say("root"))
)


@pytest.mark.parametrize("tcp", [False, True])
def test_the_client_decides(tcp):
    with serve(SPLIT) as server:
        for source, expected in ((AWAY, "inside"), (HOME, "outside"), (AWAY, "inside")):
            assert ask(server, "a.example.org", source=source, tcp=tcp) == expected
            assert ask(server, "a.example.net", source=source, tcp=tcp) == "root"


def test_the_transport_decides():
    text = block(".", view("tcp", "proto() == 'tcp'"), say("tcp")) + block(".", say("udp"))
    with serve(text) as server:
        for tcp in (False, True, False):
            assert ask(server, "a.", tcp=tcp) == ("tcp" if tcp else "udp")


def test_a_condition_that_fails_goes_on_to_the_next_block():
    """As in CoreDNS; a filter of another plugin that fails answers SERVFAIL."""
    text = block(".", view("a", "incidr(name(), '10.0.0.0/8')"), say("a")) + block(".", say("b"))
    with serve(text) as server:
        assert ask(server, "a.example") == "b"


def test_a_reload_replaces_the_conditions():
    text = block(".", view("a", "type() == 'TXT'"), say("first")) + block(".", say("other"))
    with serve(text) as server:
        assert ask(server, "a.example") == "first"
        server.reload(text.replace("'TXT'", "'MX'"))
        assert ask(server, "a.example") == "other"


# -- metrics and metadata


def test_the_view_is_a_label_of_metrics():
    port = free_port()
    label = 'server="dns://127.0.0.1:'
    text = block(".", view("office", "name() startsWith 'in.'"), f"prometheus 127.0.0.1:{port}",
                 say("a")) + block(".", say("b"))  # fmt: skip
    with serve(text) as server:
        assert [ask(server, name) for name in ("in.example", "out.example")] == ["a", "b"]
        lines = http_get(port, "/metrics").text.splitlines()
        counted = [
            line
            for line in lines
            if line.startswith("coredns_dns_requests_total")
            and label in line
            and 'view="office"' in line
        ]
        assert len(counted) == 1
        assert counted[0].endswith(" 1")


def test_the_name_of_the_view_is_metadata():
    text = block(
        ".", "metadata", view("office", "true"),
        'template IN ANY {\n answer "{{ .Name }} 60 IN TXT {{ .Meta "view/name" }}"\n}'
        .replace('"view/name"', '\\"view/name\\"'),
    )  # fmt: skip
    with serve(text) as server:
        assert ask(server, "a.example") == "office"


# -- caches


def test_no_client_gets_the_reply_of_another_view():
    with (
        Upstream({"a.example. A": ["a.example. 60 IN A 192.0.2.1"]}) as one,
        Upstream({"a.example. A": ["a.example. 60 IN A 192.0.2.2"]}) as other,
    ):
        text = block(
            ".", view("inside", f"client_ip() == '{AWAY}'"), "cache", f"forward . {one.to}"
        ) + block(".", "cache", f"forward . {other.to}")
        with serve(text) as server:
            for source in (AWAY, HOME) * 3:
                expected = "192.0.2.1" if source == AWAY else "192.0.2.2"
                assert ask(server, "a.example", "A", source) == expected


@pytest.mark.parametrize(
    ("expressions", "kept"),
    [
        (["name() endsWith '.in.example.'"], {"a.in.example", "b.example"}),
        (["client_ip() == '127.0.0.9'"], set()),
        ([f"client_ip() == '{HOME}' && name() endsWith '.in.example.'"], {"b.example"}),
        ([f"client_ip() == '{HOME}'", "name() endsWith '.in.example.'"], {"b.example"}),
        ([f"client_ip() == '{HOME}' || name() endsWith '.in.example.'"], set()),
        (["server_ip() == '127.0.0.1' && name() != 'b.example.'"], {"a.in.example", "b.example"}),
        (["int(port()) > 0"], set()),
        (["id() >= 0 && name() startsWith 'a.'"], {"b.example"}),
        (["metadata('view/name') == 'in' && name() startsWith 'a.'"], {"b.example"}),
    ],
)
def test_the_packet_cache_is_on_where_the_client_does_not_matter(expressions, kept):
    text = block(".", view("in", *expressions), "cache", say("in")) + block(
        ".", "cache", say("out")
    )
    with serve(text) as server:
        for name in ("a.in.example", "b.example"):
            before = server.call(lambda: server.packet_entries)
            answers = [ask(server, name, source=source) for source in (HOME, AWAY, HOME, AWAY)]
            entries = server.call(lambda: server.packet_entries) - before
            assert entries == (name in kept), name
            if entries:
                assert len(set(answers)) == 1, name


@pytest.mark.parametrize(
    ("condition", "inside", "outside"),
    [
        ("bufsize() > 2000", {"edns": 4096}, {"edns": 1232}),
        ("size() > 25", {"edns": 1232}, {}),
        ("do()", {"do": True}, {"edns": 1232}),
        ("proto() == 'tcp'", {"tcp": True}, {}),
    ],
)
def test_queries_with_other_bytes_have_packet_cache_entries_of_their_own(
    condition, inside, outside
):
    text = block(".", view("in", condition), "cache", say("in")) + block(".", "cache", say("out"))
    with serve(text) as server:
        for _ in range(3):
            for source in (HOME, AWAY):
                assert ask(server, "a.", source=source, **inside) == "in"
                assert ask(server, "a.", source=source, **outside) == "out"
        assert server.call(lambda: server.packet_entries) == 2


def test_views_of_longer_zones():
    """The first filter of the inner zone rejects a name for all clients."""
    text = block(
        "example", view("in", f"name() startsWith 'x.' && client_ip() == '{AWAY}'"), "cache",
        say("in"),
    ) + block(".", "cache", say("root"))  # fmt: skip
    with serve(text) as server:
        for source, expected in ((HOME, "root"), (AWAY, "in"), (HOME, "root")):
            assert ask(server, "x.example", source=source) == expected
        assert server.call(lambda: server.packet_entries) == 0
        for source in (HOME, AWAY, HOME):
            assert ask(server, "y.example", source=source) == "root"
        assert server.call(lambda: server.packet_entries) == 1


@pytest.mark.parametrize(
    ("condition", "first", "second"),
    [
        ("proto() == 'tcp'", {"tcp": True}, {}),
        ("bufsize() > 2000", {"edns": 4096}, {}),
        ("size() > 35", {"edns": 1232}, {}),
    ],
)
def test_a_reply_made_of_a_look_up_that_another_view_answers_is_not_cached(
    condition, first, second
):
    """*cache* stores replies by question, and the condition for the alias reads more than that."""
    condition = f"name() == 'target.test.' && {condition}"
    text = block(
        ".", view("in", condition), "hosts {\n 192.0.2.1 target.test\n}"
    ) + block(
        ".", "cache", 'template IN A a.test {\n answer "a.test. 60 IN CNAME target.test."\n}',
        "hosts {\n 192.0.2.2 target.test\n}",
    )  # fmt: skip
    with serve(text) as server:
        for options, expected in ((first, "192.0.2.1"), (second, "192.0.2.2")) * 2:
            reply = server.ask("a.test", "A", **options)
            assert [str(rr.rdata) for rr in reply.rr] == ["target.test.", expected]
