"""`corepy cache stats`, `lookup` and `dump`, and the status of *cache*."""

import json

import pytest

from corepy.plugin import control_client
from corepy.plugin.control_client import ControlError, ask
from corepy.testing import serve
from corepy_cache import inspecting
from corepy_cache.cli import main

COREFILE = """\
. {
    bind 127.0.0.1
    cache
    template IN A example.org {
        answer "{{ .Name }} 60 IN A 192.0.2.1"
        answer "{{ .Name }} 60 IN A 192.0.2.2"
    }
    template IN TXT example.org {
        rcode NXDOMAIN
        authority "example.org. 60 IN SOA ns. mail. 1 2 3 4 60"
    }
    template IN A many.test {
@MANY@
    }
}
""".replace("@MANY@", "\n".join(
    f'        answer "many.test. 60 IN A 10.0.0.{number}"' for number in range(30)
))  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the sockets of these tests to themselves."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


def output(capsys, *words):
    assert main(list(words)) == 0
    return capsys.readouterr().out


@pytest.fixture
def filled(folder, capsys):
    with serve(COREFILE, control=True) as server:
        server.ask("www.example.org")
        server.ask("www.example.org", do=True)
        server.ask("www.example.org", "TXT")
        server.ask("other.example.org", cd=1)
        (path,) = folder.glob(control_client.PATTERN)
        yield server, path


def test_look_up_a_name(filled, capsys):
    lines = output(capsys, "lookup", "WWW.example.org").splitlines()
    titles = [line for line in lines if line.startswith(";")]
    assert [line.partition(":")[0] for line in titles] == [
        "; www.example.org. IN A",
        "; www.example.org. IN A (do)",
        "; www.example.org. IN TXT",
    ]
    assert "NOERROR, fresh, " in titles[0]
    assert titles[0].endswith(" of 60 s left")
    assert "NXDOMAIN, fresh, " in titles[2]
    assert [line.split("\t")[0] for line in lines[1:3]] == ["www.example.org."] * 2
    assert {line.split("\t")[4] for line in lines[1:3]} == {"192.0.2.1", "192.0.2.2"}
    assert lines[-1].endswith("\t; authority")
    assert output(capsys, "lookup", "other.example.org", "A").startswith(
        "; other.example.org. IN A (cd): NOERROR"
    )
    assert output(capsys, "lookup", "www.example.org", "MX") == "; no entry of www.example.org.\n"
    (found,) = json.loads(output(capsys, "lookup", "-json", "www.example.org", "TXT"))
    assert (found["rcode"], found["kept_as"], found["flags"]) == ("NXDOMAIN", "denial", [])
    assert found["size"] > 300


def test_a_look_up_is_no_use_of_an_entry(filled, capsys):
    _, path = filled
    before = ask(path, "stats")["plugins"][0]["status"]
    output(capsys, "lookup", "www.example.org")
    output(capsys, "dump")
    assert ask(path, "stats")["plugins"][0]["status"] == before


def test_dump(filled, capsys, monkeypatch):
    monkeypatch.setattr(inspecting, "SCAN", 1)
    monkeypatch.setattr(inspecting, "_SLICE", 1)
    server, _ = filled
    server.ask("many.test")
    text = output(capsys, "dump")
    titles = [line for line in text.splitlines() if line.startswith("; ") and " IN " in line]
    assert len(titles) == 5
    assert text.count("\tA\t10.0.0.") == inspecting.FEW_RECORDS
    assert f"; {30 - inspecting.FEW_RECORDS} more records\n" in text
    found = list(map(json.loads, output(capsys, "dump", "-json", "Example.org").splitlines()))
    assert sorted(it["name"] for it in found) == ["other.example.org.", *["www.example.org."] * 3]
    assert output(capsys, "dump", "example.com") == ""
    assert output(capsys, "lookup", "many.test").count("\tA\t10.0.0.") == 30


def test_stats(filled, capsys):
    server, _ = filled
    for _ in range(4):
        server.ask("www.example.org")
    header, row = output(capsys, "stats").splitlines()
    assert header.split() == [
        "BLOCK", "ZONES", "ENTRIES", "CAPACITY", "BYTES", "HITS", "MISSES", "RATIO", "STALE",
        "EVICTED",
    ]  # fmt: skip
    cells = row.split()
    assert cells[:4] == ["Corefile:1", ".", "4", "19968"]
    assert cells[5:] == ["4", "4", "50.0%", "0", "0"]
    (found,) = json.loads(output(capsys, "stats", "-json"))
    cache = found["status"]["cache"]
    assert (cache["success_entries"], cache["denial_entries"]) == (3, 1)
    assert int(cells[4]) == cache["bytes"] < cache["limit"]


@pytest.mark.parametrize("words", [["stats"], ["lookup", "a."], ["dump"], ["dump", "-json"]])
def test_without_a_cache(words, capsys):
    with serve(". {\n    bind 127.0.0.1\n    whoami\n}\n", control=True):
        assert main(words) == 1
    assert capsys.readouterr().err == (
        "corepy cache: no server with a cache runs here, or this user may not use its control"
        " socket\n"
    )


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("lookup", None),
        ("lookup", {}),
        ("lookup", {"name": "a..b"}),
        ("lookup", {"name": "a", "type": "NONE?"}),
        ("lookup", {"name": "a", "other": 1}),
        ("list", {"zone": "."}),
        ("list", {"zone": "a..b", "start": 0}),
        ("list", {"zone": ".", "start": -1}),
        ("list", {"zone": ".", "start": True}),
    ],
)
def test_arguments_that_are_refused(filled, command, argument):
    _, path = filled
    with pytest.raises(ControlError, match=r"takes|label|unknown|empty|start"):
        ask(path, f"cache/{command}", argument)


def test_entries_for_subnets_and_stale_ones(capsys, monkeypatch):
    entry = {
        "name": "a.", "type": "A", "class": "IN", "flags": [], "rcode": "NOERROR",
        "state": "stale", "left": -3, "ttl": 60, "for_subnet": True, "records": [],
    }  # fmt: skip
    from corepy_cache import cli

    monkeypatch.setattr(cli, "ask_all", lambda *_: [("socket", [{"value": [entry]}])])
    assert output(capsys, "lookup", "a.") == "; a. IN A (client subnet): NOERROR, stale, expired\n"
