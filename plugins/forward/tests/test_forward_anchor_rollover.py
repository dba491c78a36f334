"""A rollover of a key that Knot DNS makes: a new key, 30 days, the revocation of the old one."""

import json
import shutil
import subprocess
import time
from pathlib import Path

from dnslib import DNSRecord

from corepy.testing import knot, serve
from corepy.testing.command import wait_until

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CONF = """\
database:
  storage: {folder}
policy:
  - id: manual
    manual: on
    algorithm: ecdsap256sha256
    single-type-signing: on
zone:
  - domain: example.
    file: {folder}/zone
    dnssec-signing: on
    dnssec-policy: manual
"""
ZONE = """\
example. 60 SOA ns.example. h.example. 1 3600 600 86400 60
example. 60 NS ns.example.
ns.example. 60 A 127.0.0.1
"""


class Signer:
    """A zone with two keys of Knot DNS, of which only the first one signs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._conf = folder / "knot.conf"
        self._conf.write_text(CONF.format(folder=folder))
        (folder / "zone").write_text(ZONE)
        (folder / "signed").mkdir()
        self.first = self._keymgr("generate", "ksk=yes", "zsk=yes").split()[-1]
        later = "publish=+0", "ready=+1y", "active=+1y"
        self.second = self._keymgr("generate", "ksk=yes", "zsk=yes", *later).split()[-1]

    def _run(self, name: str, *arguments: str) -> str:
        program = shutil.which(name, path=PATH)
        assert program is not None, "the Debian package knot-dnssecutils is missing"
        command = [program, "-c", str(self._conf), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _keymgr(self, *arguments: str) -> str:
        return self._run("keymgr", "example.", *arguments)

    @property
    def anchor(self) -> str:
        """The first key as a DNSKEY record."""
        return self._keymgr("dnskey", self.first)

    def sign(self) -> str:
        """Return the signed zone."""
        signed = self._folder / "signed"
        self._run("kzonesign", "-o", str(signed), "example.")
        return (signed / "zone").read_text()

    def revoke(self) -> None:
        """Revoke the first key, and sign with the second one as well."""
        self._keymgr("set", self.second, "ready=+0", "active=+0")
        self._keymgr("set", self.first, "revoke=+0")


def states(path: Path) -> list[str]:
    """Return the states of the two keys in the state file, in the order of their discovery."""
    if not path.exists():
        return []
    zones = json.loads(path.read_text())["zones"]
    return sorted(key["state"] for key in zones["example."]["keys"])


def end_hold_down(path: Path) -> None:
    """Let the hold-down times in the state file end."""
    content = json.loads(path.read_text())
    for key in content["zones"]["example."]["keys"]:
        key["until"] = min(key["until"], int(time.time()))
    path.write_text(json.dumps(content))


def answer(signer: Signer, folder: Path, expected: list[str]) -> DNSRecord:
    """Return a validated reply; a server starts, and runs until it has these states."""
    state = folder / "state"
    with (
        knot(signer.sign(), "example.") as (host, port),
        serve(
            f". {{\n forward . {host}:{port} {{\n dnssec validate {folder}/anchor\n"
            f" trust_anchors_state {state}\n }}\n}}"
        ) as server,
    ):
        wait_until(lambda: states(state) == expected)
        return server.ask("ns.example", "A", ad=True)


def test_a_rollover(tmp_path: Path) -> None:
    """Each server begins with the state that the one before has left, as months later."""
    signer, state = Signer(tmp_path), tmp_path / "state"
    (tmp_path / "anchor").write_text(signer.anchor)
    assert answer(signer, tmp_path, ["pending", "valid"]).header.ad
    end_hold_down(state)
    assert answer(signer, tmp_path, ["valid", "valid"]).header.ad
    signer.revoke()
    assert answer(signer, tmp_path, ["revoked", "valid"]).header.ad
    end_hold_down(state)
    assert answer(signer, tmp_path, ["removed", "valid"]).header.ad
