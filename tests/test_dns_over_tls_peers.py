"""DNS over TLS with the programs of other projects as clients: kdig, OpenSSL, unbound, dnsdist."""

import re
import subprocess
from contextlib import contextmanager

import pytest

from corepy.testing import ask, helper_module, query, serve
from corepy.testing.certificates import EXPIRED, Authority
from corepy.testing.command import wait_until
from corepy.testing.upstream import free_port

shared = helper_module(__file__, "dns_over_tls_server")
MESSAGE = query("www.example.")
QUERY = len(MESSAGE).to_bytes(2, "big") + MESSAGE


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def certificates(authority, folder):
    """Certificates by the names of the cases."""
    return {
        "right": authority.issue(folder, shared.NAME, "127.0.0.1"),
        "expired": authority.issue(folder, shared.NAME, label="expired", expires=EXPIRED),
        "client": authority.issue(folder, "client.example", label="client"),
        "stranger": Authority().issue(folder, "client.example", label="stranger"),
    }


@pytest.fixture(scope="module")
def servers(certificates):
    """The addresses of listeners by the names of the cases."""
    files = certificates["right"]
    mutual = f"{files.authority} {{\nclient_auth require_and_verify\n}}"
    optional = mutual.replace("require_and_verify", "verify_if_given")
    text = (
        shared.block(files, 1, "cache")
        + shared.block(certificates["expired"], 2)
        + shared.block(files, 3, tls=mutual)
        + shared.block(files, 4, tls=optional)
    )
    with serve(_spread(text)) as server:
        yield dict(zip(("right", "expired", "mutual", "optional"), server.addresses, strict=True))


def _spread(text):
    """Give each block an address of its own."""
    parts = text.split("bind 127.0.0.1\n")
    hosts = [f"bind 127.0.0.{number}\n" for number in range(1, len(parts))]
    return parts[0] + "".join(host + part for host, part in zip(hosts, parts[1:], strict=True))


def kdig(address, certificates, *options, ca="right", name=shared.NAME):
    """Return what kdig prints for a query over TLS."""
    command = ["kdig", f"@{address[0]}", "-p", str(address[1]), "-d", "+retry=0", "+timeout=30"]
    trust = [f"+tls-ca={certificates[ca].authority}", f"+tls-hostname={name}"]
    done = subprocess.run(
        [*command, *trust, *options, "www.example.", "A"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_kdig_trusts_it(servers, certificates):
    text = kdig(servers["right"], certificates)
    assert "status: NOERROR" in text
    assert "192.0.2.1" in text
    assert "Received 468 B" in text  # it pads its queries


def test_kdig_learns_the_idle_timeout(servers, certificates):
    sizes = []
    for options in (["+nopadding", "+edns"], ["+nopadding", "+ednsopt=11"]):
        text = kdig(servers["right"], certificates, *options)
        assert "192.0.2.1" in text
        sizes.append(int(re.search(r"Received (\d+) B", text)[1]))
    assert sizes[1] - sizes[0] == 6, "an option with two bytes"


@pytest.mark.parametrize(
    ("server", "options", "reason"),
    [
        ("right", {"name": "other.example"}, "does not match"),
        ("right", {"ca": "stranger"}, "issuer is unknown"),
        ("expired", {}, "expired"),
    ],
    ids=["wrong-name", "unknown-authority", "expired"],
)
def test_kdig_refuses_a_wrong_certificate(servers, certificates, server, options, reason):
    text = kdig(servers[server], certificates, **options)
    assert "192.0.2." not in text
    assert reason in text


@pytest.mark.parametrize(
    ("server", "own", "answer"),
    [
        ("mutual", None, None),
        ("mutual", "stranger", None),
        ("mutual", "client", "192.0.2.3"),
        ("optional", None, "192.0.2.4"),
        ("optional", "stranger", None),
        ("optional", "client", "192.0.2.4"),
    ],
)
def test_certificates_of_clients_are_verified(servers, certificates, server, own, answer):
    options = []
    if own is not None:
        files = certificates[own]
        options = [f"+tls-certfile={files.certificate}", f"+tls-keyfile={files.key}"]
    text = kdig(servers[server], certificates, *options)
    assert re.findall(r"192\.0\.2\.\d", text) == ([answer] if answer else [])


def openssl(address, *options, data=b""):
    """Return what `openssl s_client` prints."""
    command = ["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", *options]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_before_1_2_are_refused(servers, version):
    text = openssl(servers["right"], version, "-cipher", "DEFAULT:@SECLEVEL=0")
    assert b"alert protocol version" in text
    assert b"Cipher is (NONE)" in text


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_gets_a_reply(servers, version):
    host, port = servers["right"]
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", version, "-quiet"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        process.stdin.write(QUERY)
        process.stdin.flush()
        size = int.from_bytes(process.stdout.read(2), "big")
        assert process.stdout.read(size).endswith(bytes((192, 0, 2, 1)))
        process.kill()


def test_a_client_cannot_renegotiate(servers):
    text = openssl(servers["right"], "-tls1_2", data=b"R\n")
    assert b"no renegotiation" in text


def test_openssl_resumes_a_session(servers, tmp_path):
    session = str(tmp_path / "session")
    for turn, words in enumerate((["-sess_out", session], ["-sess_in", session])):
        text = openssl(servers["right"], "-tls1_2", *words)
        assert (b"Reused, " if turn else b"New, ") in text


@contextmanager
def forwarder(command, port):
    """Run a forwarder that answers plain DNS at `port`."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield lambda: ask(("127.0.0.1", port), "www.example.", timeout=0.5)
    finally:
        process.kill()
        process.wait()


def is_right(question, wanted):
    def answered():
        try:
            reply = question()
        except OSError:
            return False
        return [str(it.rdata) for it in reply.rr] == [wanted]

    return answered


def unbound(address, certificates, port, tmp_path):
    conf = tmp_path / "unbound.conf"
    conf.write_text(f"""\
server:
    interface: 127.0.0.1@{port}
    username: ""
    chroot: ""
    directory: "{tmp_path}"
    pidfile: ""
    use-syslog: no
    do-not-query-localhost: no
    module-config: "iterator"
    tls-cert-bundle: "{certificates["right"].authority}"
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-tls-upstream: yes
    forward-addr: {address[0]}@{address[1]}#{shared.NAME}
""")
    return ["unbound", "-d", "-c", str(conf)]


def dnsdist(address, certificates, port, tmp_path):
    conf = tmp_path / "dnsdist.conf"
    conf.write_text(f"""\
setSecurityPollSuffix("")
setLocal("127.0.0.1:{port}")
newServer({{address="{address[0]}:{address[1]}", tls="openssl", subjectName="{shared.NAME}",
           caStore="{certificates["right"].authority}", validateCertificates=true}})
""")
    return ["dnsdist", "--supervised", "--disable-syslog", "-C", str(conf)]


@pytest.mark.parametrize("program", [unbound, dnsdist], ids=["unbound", "dnsdist"])
def test_a_forwarder_uses_it(servers, certificates, program, tmp_path):
    port = free_port()
    command = program(servers["right"], certificates, port, tmp_path)
    with forwarder(command, port) as question:
        wait_until(is_right(question, "192.0.2.1"))
