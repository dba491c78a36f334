"""Debian's programs read what is sent: fstrm_capture, dnstap-ldns, and BIND's dnstap-read."""

import socket
import subprocess
import threading

import yaml

from corepy.testing import Upstream, free_port, helper_module, serve
from corepy_dnstap.handler import Dnstap

helpers = helper_module(__file__, "dnstap_collectors")
capture, unix_path = helpers.capture, helpers.unix_path

NAMES = ("www.example.org.", "big.example.org.")
ANSWERS = {
    "www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"],
    "big.example.org. TXT": [f'big.example.org. 60 IN TXT "{"x" * 250}"'] * 8,
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ask_everything(server):
    """Ask over UDP, again from the packet cache, with EDNS, and over TCP."""
    for options in ({}, {}, {"edns": 1232}, {"tcp": True}):
        assert server.ask(NAMES[0], **options).rr
    assert server.ask(NAMES[1], "TXT", tcp=True).rr


EXPECTED = (
    ["CLIENT_QUERY", "FORWARDER_QUERY", "FORWARDER_RESPONSE", "CLIENT_RESPONSE"]
    + ["CLIENT_QUERY", "CLIENT_RESPONSE"] * 3
    + ["CLIENT_QUERY", "FORWARDER_QUERY", "FORWARDER_RESPONSE", "CLIENT_RESPONSE"]
)


def corefile(directive, upstream, options=""):
    directives = f"{directive} {{\nidentity node-17\nversion corepy-test\n{options}\n}}"
    return f". {{\n{directives}\ncache\nforward . {upstream.to}\n}}"


def test_both_readers_agree(capture, unix_path):
    with Upstream(ANSWERS) as upstream, capture("-u", unix_path) as written:
        text = corefile(f"dnstap {unix_path} full", upstream, 'extra "{name} {/forward/upstream}"')
        with serve(text.replace("cache\n", "")) as server:
            ask_everything(server)
        address = upstream.to
    ldns = list(yaml.safe_load_all(run("dnstap-ldns", "-y", "-r", str(written))))
    bind = list(yaml.safe_load_all(run("dnstap-read", "-y", str(written))))
    ldns, bind = [it for it in ldns if it], [it for it in bind if it]
    kinds = ["CLIENT_QUERY", "FORWARDER_QUERY", "FORWARDER_RESPONSE", "CLIENT_RESPONSE"] * 5
    assert [it["message"]["type"] for it in ldns] == kinds
    assert [it["message"]["type"] for it in bind] == kinds
    for one, other in zip(ldns, bind, strict=True):
        assert (one["identity"], other["identity"]) == ("node-17", "node-17")
        assert (one["version"], other["version"]) == ("corepy-test", "corepy-test")
        mine, theirs = one["message"], other["message"]
        fields = "socket_family", "socket_protocol", "query_address", "query_port"
        for field in (*fields, "response_address", "response_port"):
            assert str(mine.get(field)) == str(theirs.get(field)), field
    forwarded = ldns[1]["message"]
    assert f"{forwarded['response_address']}:{forwarded['response_port']}" == address
    assert "192.0.2.1" in str(ldns[3]["message"]["response_message"])
    assert "192.0.2.1" in str(bind[3]["message"]["response_message_data"]["ANSWER_SECTION"])


def test_packet_cached_replies_over_tcp_to_the_collector(capture):
    port = free_port()
    with (
        Upstream(ANSWERS) as upstream,
        capture("-a", "127.0.0.1", "-p", str(port)) as written,
        serve(corefile(f"dnstap tcp://127.0.0.1:{port} full", upstream)) as server,
    ):
        ask_everything(server)
        assert server.packet_entries
    lines = run("dnstap-ldns", "-q", "-r", str(written)).splitlines()
    short = {"CQ": "CLIENT_QUERY", "CR": "CLIENT_RESPONSE"}
    short |= {"FQ": "FORWARDER_QUERY", "FR": "FORWARDER_RESPONSE"}
    words = [line.split() for line in lines]
    assert [short[it[2]] for it in words] == EXPECTED
    clients = [it for it in words if it[2] in ("CQ", "CR")]
    assert [it[4] for it in clients] == ["UDP"] * 6 + ["TCP"] * 4
    assert all(NAMES[0].rstrip(".") in line for line in lines[:10])
    assert len(run("dnstap-read", str(written)).splitlines()) == len(lines)


def test_a_listener_whose_collector_is_fstrm_capture(capture, unix_path):
    """Both ends listen, so a relay connects them: each handshake is that of the other program."""
    with capture("-u", unix_path) as written:
        with serve(". {\ndnstap listen tcp://127.0.0.1:0 full\nwhoami\n}") as server:
            (handler,) = server.plugins(Dnstap)
            host, _, port = handler.output.address.rpartition(":")
            ours = socket.create_connection((host, int(port)))
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(unix_path)
            pumps = [
                threading.Thread(target=pump, args=ends)
                for ends in ((ours, theirs), (theirs, ours))
            ]
            for each in pumps:
                each.start()
            while not server.call(lambda: handler.output.is_taking):
                pass
            server.ask("example.org.")
        for each in pumps:
            each.join()
        ours.close()
        theirs.close()
    found = run("dnstap-ldns", "-q", "-r", str(written)).splitlines()
    assert [line.split()[2] for line in found] == ["CQ", "CR"]


def pump(source, target):
    """Copy bytes until the end, which is passed on."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
