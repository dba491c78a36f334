"""corepy forwards to corepy over each encrypted transport, with each of its clients."""

import concurrent.futures

import pytest

from corepy.testing import serve
from corepy.testing.certificates import Authority

PATIENT = "max_fails 0\nread_timeout 1h"
"""QUIC needs a clock that moves, so the limits of *forward* are far away."""

CLIENTS = {
    "tls": ("forward . tls://{address}", PATIENT),
    "https": ("forward . https://{address}", PATIENT),
    "quic": ("forward . quic://{address}", PATIENT),
    "https3": ("forward . https3://{address}", PATIENT),
    "grpc": ("grpc . {address}", ""),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Authority().issue(tmp_path_factory.mktemp("transports"), "dns.example")


@pytest.mark.parametrize("transport", CLIENTS)
def test_queries_and_a_large_reply(files, transport):
    answers = "\n".join(f'answer "{{{{ .Name }}}} 60 IN TXT {"x" * 200}{i}"' for i in range(100))
    upstream_text = f"""{transport}://.:0 {{
        bind 127.0.0.1
        tls {files.certificate} {files.key}
        template IN TXT large.example {{
            {answers}
        }}
        template IN A {{
            answer "{{{{ .Name }}}} 60 IN A 192.0.2.7"
        }}
    }}"""
    still = transport not in ("quic", "https3")
    line, more = CLIENTS[transport]
    with serve(upstream_text, still=still) as upstream:
        client = line.format(address=f"127.0.0.1:{upstream.address[1]}")
        options = f"tls {files.authority}\ntls_servername dns.example\n{more}"
        with serve(f".:0 {{\n{client} {{\n{options}\n}}\n}}", still=still) as server:
            names = [f"{i}.example" for i in range(20)]
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                assert all(reply.rr for reply in pool.map(server.ask, names))
            assert len(server.ask("large.example", "TXT", tcp=True).rr) == 100
