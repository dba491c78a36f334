"""The real command in front of a real name server, asked by real clients."""

import re
import shutil
import subprocess

import pytest

from corepy.testing import knot, run_command
from corepy.testing.command import wait_until

ZONE = (
    """\
$ORIGIN example.org.
$TTL 3600
@       SOA ns admin 1 3600 600 86400 300
@       NS ns
ns      A 127.0.0.1
www     A 192.0.2.1
www     AAAA 2001:db8::1
one     CNAME two
two     CNAME three
three   CNAME www
short   2 A 192.0.2.3
*.wild  A 192.0.2.9
big     TXT "{0}" "{0}" "{0}" "{0}"
""".format("x" * 250)
    + "\n".join(f'huge TXT "{i:03} {"y" * 200}"' for i in range(60))
    + "\n"
)


@pytest.fixture(scope="module")
def server():
    with knot(ZONE, "example.org.") as (host, port):
        corefile = f"""
        example.org:0 {{
            bind 127.0.0.1
            errors
            cache
            forward . {host}:{port}
        }}
        """
        with run_command(corefile) as command:
            yield command


def dig(server, *args):
    """The lines of a section-by-section answer, and the header's words."""
    host, port = server.address
    command = ["dig", f"@{host}", "-p", str(port), "+tries=1", "+time=60", *args]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    status = re.search(r"status: (\w+)", text)[1]
    flags = re.search(r"flags: ([\w ]+);", text)[1].split()
    records = [
        re.split(r"\s+", line, maxsplit=4)
        for line in text.splitlines()
        if line and line[0] not in ";"
    ]
    return status, flags, records


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("edns", ["+noedns", "+edns", "+dnssec"])
@pytest.mark.parametrize("turn", ["miss", "hit"])
def test_an_address(server, transport, edns, turn):
    status, flags, records = dig(server, "www.example.org", "A", transport, edns)
    assert (status, [record[4] for record in records]) == ("NOERROR", ["192.0.2.1"])
    assert "tc" not in flags


@pytest.mark.parametrize("turn", ["miss", "hit"])
def test_a_chain_of_aliases(server, turn):
    _, _, records = dig(server, "one.example.org", "A")
    assert [record[3] for record in records] == ["CNAME", "CNAME", "CNAME", "A"]


@pytest.mark.parametrize("turn", ["miss", "hit"])
@pytest.mark.parametrize(
    ("name", "qtype", "status"),
    [("nothing.example.org", "A", "NXDOMAIN"), ("ns.example.org", "AAAA", "NOERROR")],
)
def test_denials_carry_the_soa(server, name, qtype, status, turn):
    got, _, records = dig(server, name, qtype)
    assert (got, [record[3] for record in records]) == (status, ["SOA"])
    assert int(records[0][1]) <= 300


@pytest.mark.parametrize("turn", ["miss", "hit"])
@pytest.mark.parametrize("name", ["big", "huge"])
def test_large_answers_are_cut_or_come_over_tcp(server, name, turn):
    _, flags, _ = dig(server, f"{name}.example.org", "TXT", "+noedns", "+ignore")
    assert "tc" in flags
    _, flags, records = dig(server, f"{name}.example.org", "TXT", "+noedns")
    assert "tc" not in flags
    assert len(records) == (60 if name == "huge" else 1)


def test_ttls_count_down_and_end(server):
    def ttl():
        return server.ask("short.example.org", "A").rr[0].ttl

    # CoreDNS keeps nothing for less than 5 seconds (plugin/cache: minTTL).
    seen = [ttl()]
    wait_until(lambda: seen.append(ttl()) or seen[-1] <= 2)
    wait_until(lambda: seen.append(ttl()) or seen[-1] > seen[-2])  # fetched again
    assert set(seen) <= {0, 1, 2, 3, 4, 5}
    assert seen[:-1] == sorted(seen[:-1], reverse=True)
    assert len(set(seen)) > 2


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_an_unknown_zone_is_refused(server, transport):
    assert dig(server, "example.com", "A", transport)[0] == "REFUSED"


def dnsperf(server, queries, tmp_path, *flags):
    path = tmp_path / "queries"
    path.write_text("".join(f"{name} {qtype}\n" for name, qtype in queries))
    host, port = server.address
    command = [shutil.which("dnsperf"), "-s", host, "-p", str(port), "-d", str(path), *flags]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    counts = {
        key: int(value) for key, value in re.findall(r"Queries (sent|completed|lost): +(\d+)", text)
    }
    codes = dict(re.findall(r"(\w+) (\d+) \(", re.search(r"Response codes:(.*)", text)[1]))
    return counts, {code: int(number) for code, number in codes.items()}


@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_full_speed_loses_nothing(server, tmp_path, mode):
    queries = [("www.example.org", "A"), ("one.example.org", "A"), ("ns.example.org", "AAAA")]
    queries += [(f"n{i}.wild.example.org", "A") for i in range(500)]
    counts, codes = dnsperf(
        server, queries, tmp_path, "-m", mode, "-l", "5", "-c", "8", "-q", "400"
    )
    assert counts["sent"] == counts["completed"] > 1000
    assert counts["lost"] == 0
    assert codes == {"NOERROR": counts["sent"]}


def test_starting_and_serving_stay_small(server):
    """Memory as the design promises it: below 40 MB with bind, errors, cache and forward loaded."""
    with open(f"/proc/{server.process.pid}/smaps_rollup") as rollup:
        pss = int(re.search(r"^Pss: +(\d+) kB", rollup.read(), re.MULTILINE)[1])
    assert pss < 40 * 1024
