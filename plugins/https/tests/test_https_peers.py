"""Foreign clients of DNS over HTTPS: kdig, curl, and dnsdist as a proxy that forwards to it."""

import base64
import subprocess

import dnslib
import pytest

from corepy.testing import free_port, query, run_program, serve
from corepy.testing.certificates import Authority
from corepy.testing.client import ask
from corepy.testing.command import wait_until

WAIT = 60
QUERY = query("www.example.org.", id=0)
TEXT = base64.urlsafe_b64encode(QUERY).decode().rstrip("=")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Authority().issue(tmp_path_factory.mktemp("tls"), "dns.example", "localhost")


@pytest.fixture(scope="module")
def server(files):
    record = 'template IN A {\nanswer "{{ .Name }} 60 IN A 192.0.2.1"\n}'
    text = f"bind 127.0.0.1\ntls {files.certificate} {files.key}\ncache\n{record}"
    with serve(f"https://.:0 {{\n{text}\n}}\n") as running:
        yield running


def run(*words):
    done = subprocess.run(words, capture_output=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.mark.parametrize("option", ["+https", "+https-get"])
def test_kdig(server, files, option):
    host, port = server.address
    words = [f"@{host}", "-p", str(port), option, f"+tls-ca={files.authority}"]
    for _ in range(2):
        text = run("kdig", *words, "+tls-hostname=dns.example", "www.example.org").decode()
        assert "status: NOERROR" in text
        assert "192.0.2.1" in text
        assert "PADDING" in text
        assert "Received 468 B" in text


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_curl_sends_several_requests_over_a_connection(server, files, version, method, tmp_path):
    url = f"https://localhost:{server.address[1]}/dns-query"
    body = tmp_path / "query"
    body.write_bytes(QUERY)
    post = ["-H", "content-type: application/dns-message", "--data-binary", f"@{body}"]
    targets = [f"{url}?dns={TEXT}"] * 3 if method == "GET" else [url] * 3
    words = ["curl", "-sS", version, "--cacert", str(files.authority)]
    words += post if method == "POST" else []
    content = run(*words, "-w", "%{http_code} %{num_connects}<end>", *targets)
    replies = content.split(b"<end>")  # a TTL of 59 has the byte of ";"
    assert [it[-5:] for it in replies[:3]] == [b"200 1", b"200 0", b"200 0"]
    for reply in replies[:3]:
        assert str(dnslib.DNSRecord.parse(reply[:-5]).rr[0].rdata) == "192.0.2.1"


def test_dnsdist_forwards_to_it(server, files, tmp_path):
    host, port = server.address
    own = free_port()
    conf = tmp_path / "dnsdist.conf"
    conf.write_text(
        'setSecurityPollSuffix("")\n'
        f'setLocal("127.0.0.1:{own}")\n'
        f'upstream = newServer({{address="{host}:{port}", tls="openssl",'
        f' subjectName="dns.example", dohPath="/dns-query", caStore="{files.authority}"}})\n'
        "upstream:setUp()\n"
    )
    words = ["dnsdist", "--supervised", "--disable-syslog", "-C", str(conf)]
    with run_program(words, conf, wait=False) as dnsdist:
        wait_until(lambda: "Listening on" in dnsdist.output)
        for number in range(5):
            reply = ask(("127.0.0.1", own), f"h{number}.example.org")
            assert str(reply.rr[0].rdata) == "192.0.2.1"
