"""Replies from signed zones, as delv(1) validates them: BIND's validator, from the zone's own key.

Knot DNS has signed the zones, until the year 2092.
"""

import subprocess
from pathlib import Path

import pytest

from corepy.testing import serve

ZONES = Path(__file__).parent / "zones"
QUESTIONS = [
    ("nothing", "A"), ("www", "SRV"), ("x.wild", "A"), ("x.wild", "SRV"), ("sub", "DS"), ("alias-nx", "A"),
    ("q.dn", "TXT"), ("*.q.target", "MX"),
]  # fmt: skip


def anchor(zone):
    (line,) = [it for it in zone.read_text().splitlines() if "\tDNSKEY\t257" in it]
    flags, protocol, algorithm, key = line.split("DNSKEY")[1].split(None, 3)
    value = key.replace(" ", "")
    return (
        f'trust-anchors {{ example.org. static-key {flags} {protocol} {algorithm} "{value}"; }};\n'
    )


@pytest.mark.parametrize("kind", ["nsec", "nsec3"])
def test_a_validator_accepts_all_replies(kind, tmp_path):
    zone = ZONES / f"lookup.{kind}.zone"
    (key := tmp_path / "anchor").write_text(anchor(zone))
    with serve(f".:0 {{\nbind 127.0.0.1\nfile {zone} example.org\n}}\n") as server:
        host, port = server.address
        command = ["delv", "-4", f"@{host}", "-p", str(port), "-a", str(key), "+root=example.org"]
        started = [
            subprocess.Popen(
                [*command, f"{name}.example.org.", rtype],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
            for name, rtype in QUESTIONS
        ]  # fmt: skip
        outputs = [process.communicate()[0] for process in started]
    refused = [
        (question, output)
        for question, output in zip(QUESTIONS, outputs, strict=True)
        if "fully validated" not in output
    ]
    assert refused == []
