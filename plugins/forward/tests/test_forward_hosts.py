"""Host names in TO, by the hosts file of the machine: its oddities, and what comes of each.

Names are looked up as all programs of the machine do (getaddrinfo), so the C library reads the
file. What it returns becomes upstreams like those of a Corefile: flawed ones are left out.
"""

import json
import subprocess
import sys

import pytest

GOOD = "192.0.2.1 dns.example\n"
UNKNOWN = None

CASES = {
    # what it is: content, TO, upstreams or the problem
    "plain": (GOOD, "dns.example", ["192.0.2.1:53"]),
    "port and transport": (GOOD, "tls://DNS.example:8853", ["192.0.2.1:8853"]),
    "tabs": ("\t192.0.2.1\t\tdns.example\t\n", "dns.example", ["192.0.2.1:53"]),
    "lines of Windows": ("192.0.2.1 dns.example\r\n", "dns.example", ["192.0.2.1:53"]),
    "no line feed at the end": ("192.0.2.1 dns.example", "dns.example", ["192.0.2.1:53"]),
    "an alias, in another case": ("192.0.2.1 a DNS.Example # x", "dns.example", ["192.0.2.1:53"]),
    "a name without a dot": ("192.0.2.1 dns\n", "dns", ["192.0.2.1:53"]),
    "several lines": (
        GOOD + "192.0.2.2 dns.example\n",
        "dns.example",
        ["192.0.2.1:53", "192.0.2.2:53"],
    ),
    "the same twice": (GOOD * 2, "dns.example", ["192.0.2.1:53"]),
    # Go's ParseIP makes IPv4 of it; as IPv6 it would not be known as an address of this server.
    "IPv4-mapped": ("::ffff:192.0.2.1 dns.example\n", "dns.example", ["192.0.2.1:53"]),
    "link-local without a zone": ("fe80::1 dns.example\n" + GOOD, "dns.example", ["192.0.2.1:53"]),
    "an address of many": ("224.0.0.1 dns.example\n" + GOOD, "dns.example", ["192.0.2.1:53"]),
    "nothing but what cannot be used": (
        "224.0.0.1 dns.example\n",
        "dns.example",
        'failed to resolve "dns.example": 224.0.0.1 is not the address of a single host',
    ),
    "an address out of range": (
        "192.0.2.300 dns.example\n" + GOOD,
        "dns.example",
        ["192.0.2.1:53"],
    ),
    "a blocked name": ("0.0.0.0 dns.example\n", "dns.example", ["0.0.0.0:53"]),
    "a line of 100 KB": (
        "192.0.2.1 " + "a " * 50_000 + "dns.example\n",
        "dns.example",
        ["192.0.2.1:53"],
    ),
    "NUL bytes of a crash": ("\0" * 200 + "\n" + GOOD, "dns.example", ["192.0.2.1:53"]),
    "not UTF-8": ("192.0.2.9 caf\xe9\n" + GOOD, "dns.example", ["192.0.2.1:53"]),
    # The C library takes the mark for the beginning of the address.
    "byte order mark": ("\xef\xbb\xbf" + GOOD, "dns.example", UNKNOWN),
    "commented out": ("#" + GOOD, "dns.example", UNKNOWN),
    "in the wrong order": ("dns.example 192.0.2.1\n", "dns.example", UNKNOWN),
    "empty": ("", "dns.example", UNKNOWN),
    # The C library compares the text of the names.
    "a dot at the end of TO": (GOOD, "dns.example.", UNKNOWN),
}

PROGRAM = """
import asyncio, json, sys
from corepy_forward.resolve import look_up
from corepy_forward.targets import parse_target

found = []
for content, to in json.load(sys.stdin):
    with open("/etc/hosts", "wb") as file:
        file.write(content.encode("latin-1"))
    entry = parse_target(to)
    problems = asyncio.run(look_up([entry], []))
    found.append([[target.address for target in entry.targets], problems])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, tuple[list[str], list[str]]]:
    """What each case gives, found in namespaces of its own: the file is another one there, and no
    question leaves it.
    """
    folder = tmp_path_factory.mktemp("etc")
    files = {
        "hosts": "",
        "resolv.conf": "nameserver 127.0.0.1\n",
        "nsswitch.conf": "hosts: files dns\n",
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    mounts = " && ".join(f"mount --bind {folder}/{name} /etc/{name}" for name in files)
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--net",
            "sh",
            "-c",
            f'{mounts} && exec "$@"',
            "sh",
            sys.executable,
            "-c",
            PROGRAM,
        ],
        input=json.dumps([(content, to) for content, to, _ in CASES.values()]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_hosts_file(case, found):
    _, to, expected = CASES[case]
    addresses, problems = found[case]
    if expected is UNKNOWN:
        assert addresses == []
        (problem,) = problems
        assert problem.startswith(f'failed to resolve "{to}": lookup {to}: ')
    elif isinstance(expected, str):
        assert (addresses, problems) == ([], [expected])
    else:
        assert (sorted(addresses), problems) == (expected, [])
