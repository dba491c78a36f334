"""`corepy -check` of Kubernetes manifests: the Corefiles in them, with the lines of the manifest."""

import json
import subprocess
import sys

import pytest

from corepy.corefile import embedded, is_manifest, parse
from corepy.testing import helper_module

COREPY = [sys.executable, "-m", "corepy"]
run_here = helper_module(__file__, "command_here").run_here

BLOCKS = """\
# two documents, the second a List
apiVersion: v1
kind: ConfigMap
metadata:
  name: coredns
  namespace: kube-system
data:
  NodeHosts: |
    10.0.0.1 a
    data: no key
    Corefile: no key either
  Corefile: |
    .:53 {
        errors
        whoamy
    }

  example.server: |-
    example.org:53 {
        whoami
    }
  Corefile.base: |2
      example.net {
        whoami
      }
immutable: true
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  data:
    Corefile: ".:53 {\\n    errors\\n    forward . 192.0.2.300\\n    \\
      cache 30\\n}\\n"
  metadata:
    name: "quoted"
- apiVersion: apps/v1
  kind: DaemonSet
  spec:
    Corefile: |
      not below data
"""


def shown(name, text):
    return [(it.title, it.name, parse(it.text, it.name).blocks) for it in embedded(name, text)]


def test_every_corefile_is_found_where_it_is():
    (first, second, third, fourth) = shown("cm.yaml", BLOCKS)
    assert [it[0] for it in (first, second, third, fourth)] == [
        "cm.yaml: data.Corefile of coredns",
        "cm.yaml: data.example.server of coredns",
        "cm.yaml: data.Corefile.base of coredns",
        "cm.yaml: data.Corefile of quoted",
    ]
    token = first[2][0].statements[1].tokens[0]
    assert (token.text, token.location) == ("whoamy", "cm.yaml:15:9")
    assert token.source.line(15) == "        whoamy"
    assert third[2][0].keys[0].location == "cm.yaml:23:7"
    assert fourth[1] == "cm.yaml(data.Corefile)"
    assert [it.name for it in fourth[2][0].statements] == ["errors", "forward", "cache"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apiVersion: v1\nkind: ConfigMap\n", True),
        ("\ufeffkind: ConfigMap\r\napiVersion: v1\r\n", True),
        ('{"apiVersion": "v1", "kind": "ConfigMap"}', True),
        ('{"apiVersion": "v1"}', False),
        ("{\n whoami\n}", False),
        (". {\n whoami\n}", False),
        ("kind: Deployment\n", False),
        ("", False),
        ("{" * 100_000, False),
        ("[" * 100_000, False),
    ],
)
def test_what_is_a_manifest(text, expected):
    assert is_manifest(text) is expected


@pytest.mark.parametrize(
    "text",
    [BLOCKS[:length] for length in range(len(BLOCKS) - 200, len(BLOCKS), 7)]
    + [BLOCKS.replace("\n", "\r\n"), 'apiVersion: v1\nkind: x\ndata:\n  Corefile: "never closed'],
)
def test_any_manifest_is_read(text):
    for each in embedded("cm.yaml", text):
        assert each.title.startswith("cm.yaml: data.")


def corepy(*arguments, **options):
    return subprocess.run(
        [*COREPY, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_check_of_a_manifest(tmp_path):
    (tmp_path / "cm.yaml").write_text(BLOCKS)
    done = run_here("-check", "-conf", "cm.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "cm.yaml:15:9: unknown directive 'whoamy'\n  15 |         whoamy\n" in done.stderr
    assert "cm.yaml(data.Corefile):3:15: not an IP address: '192.0.2.300'" in done.stderr
    assert done.stdout.splitlines() == [
        "cm.yaml: data.example.server of coredns is valid",
        "cm.yaml: data.Corefile.base of coredns is valid",
    ]
    done = corepy("-check", "-json", "-conf", "stdin", input=BLOCKS)
    found = json.loads(done.stdout)
    assert not found["valid"]
    assert [it["line"] for it in found["diagnostics"]] == [15, 3]
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "coredns"},
        "data": {"Corefile": ". {\n whoami\n}\n", "NodeHosts": ""},
    }
    done = corepy("-check", "-conf", "stdin", input=json.dumps(document))
    assert (done.returncode, done.stdout) == (0, "stdin: data.Corefile of coredns is valid\n")


@pytest.mark.parametrize("arguments", [["-conf", "stdin"], ["explain", "-conf", "stdin", "a."]])
def test_a_manifest_is_not_served(arguments):
    done = corepy(*arguments, input=BLOCKS)
    assert done.returncode == 1
    first, hint = done.stderr.splitlines()
    assert first == "stdin is a Kubernetes manifest, not a Corefile"
    assert "jsonpath='{.data.Corefile}'" in hint


def test_a_manifest_without_a_corefile():
    done = corepy("-check", "-conf", "stdin", input="apiVersion: v1\nkind: Service\n")
    assert done.returncode == 1
    assert "stdin: this manifest has no Corefile" in done.stderr
