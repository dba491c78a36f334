"""The *sign* directive: what it takes and what it refuses (plugin/sign/setup_test.go)."""

from pathlib import Path

import pytest

from corepy.corefile import CorefileError, parse
from corepy.dns.names import from_text
from corepy.server.build.builder import build
from corepy.testing import refusal, set_up
from corepy.testing.zone_keys import write_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    write_key(folder, "miek.nl.", "Kmiek.nl.+013+59725")
    write_key(folder, "miek.nl.", "Kmiek.nl.+013+00001", flags=256)
    write_key(folder, "example.org.", "Kexample.org.+015+00002", algorithm=15)
    return folder


def files_of(text, keys):
    controller = set_up(text.replace("KEYS", str(keys)), "example.org")
    (signer,) = controller.hooks
    assert not controller.handlers
    return signer.files, controller


@pytest.mark.parametrize(
    ("text", "origins", "source", "path"),
    [
        ("sign db.miek.nl miek.nl {\nkey file KEYS/Kmiek.nl.+013+59725\n}",
         ["miek.nl."], "db.miek.nl", "/var/lib/coredns/db.miek.nl.signed"),
        ("sign db.miek.nl example.org {\nkey file KEYS/Kmiek.nl.+013+59725\ndirectory /d\n}",
         ["example.org."], "db.miek.nl", "/d/db.example.org.signed"),
        # more than CoreDNS's cases
        ("sign db {\nkey file KEYS/Kmiek.nl.+013+59725.private\n}",
         ["example.org."], "db", "/var/lib/coredns/db.example.org.signed"),
        ("sign db example.org example.org {\nkey directory KEYS\n}",
         ["example.org."], "db", "/var/lib/coredns/db.example.org.signed"),
        ("sign db 192.0.2.0/25 {\nkey file KEYS/Kmiek.nl.+013+59725\n}",
         ["0/25.2.0.192.in-addr.arpa."], "db",
         "/var/lib/coredns/db.0%2f25.2.0.192.in-addr.arpa.signed"),
        ("sign db . {\nkey file KEYS/Kmiek.nl.+013+59725\n}", ["."], "db",
         "/var/lib/coredns/db..signed"),
    ],
)  # fmt: skip
def test_accepted(keys, text, origins, source, path):
    if "192.0.2.0/25" in text:
        text = text.replace("192.0.2.0/25", "0/25.2.0.192.in-addr.arpa")
    files, _ = files_of(text, keys)
    assert [it.origin for it in files] == [from_text(it) for it in origins]
    assert (files[0].source, str(files[0].path)) == (Path(source), path)
    assert len(files[0].keys) == 1


def test_keys_of_a_folder_are_those_of_the_zone(keys):
    (one, other), controller = files_of(
        "sign db miek.nl example.org {\nkey directory KEYS\n}", keys
    )
    assert [it.algorithm for it in one.keys + other.keys] == [13, 15]
    assert keys / "Kexample.org.+015+00002.private" in controller.files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sign db.example.org {\nkey file /nothing/keys/Kexample.org\n}", "cannot read"),
        ('sign "\ufffd" 8.44.in-addr.arpa. 9.44.in-addr.arpa. {}', "invalid characters"),
        # more than CoreDNS's cases
        ("sign", "argument"),
        ("sign {\nkey directory KEYS\n}", "unexpected token '{', expecting an argument"),
        ("sign db", "zone example.org. has no key"),
        ("sign db {\nkey\n}", "argument"),
        ("sign db {\nkey file\n}", "argument"),
        ("sign db {\nkey vault x\n}", "unknown source of keys 'vault'"),
        ("sign db {\nkey file KEYS/Kmiek.nl.+013+00001\n}", "is not a CSK/KSK"),
        ("sign db {\nkey file /\n}", "/: this is a folder"),
        (f"sign db {{\nkey file {'K' * 300}\n}}", "cannot read K"),
        ("sign db {\nkey directory KEYS/nothing\n}", "nothing: No such file"),
        ("sign db {\nkey directory KEYS/Kmiek.nl.+013+59725.key\n}", "is not a directory"),
        (f"sign db {{\nkey directory {'K' * 300}\n}}", "cannot read K"),
        ("sign db example.net {\nkey directory KEYS\n}", "no CSK/KSK for zone example.net."),
        ("sign db {\nkey file KEYS/Kmiek.nl.+013+59725\ndirectory\n}", "argument"),
        ("sign db {\nkey file KEYS/Kmiek.nl.+013+59725\ndirectory a b\n}", "argument"),
        (
            "sign KEYS/db.miek.nl.signed miek.nl {\nkey directory KEYS\ndirectory KEYS\n}",
            "db.miek.nl.signed is both the zone file and the signed file",
        ),
        ("sign db {\nresign 5h\n}", "unknown option 'resign'"),
    ],
)
def test_refused(keys, text, message):
    assert message in refusal(text.replace("KEYS", str(keys)), "example.org").message


@pytest.mark.parametrize("source", ["file KEYS/Kmiek.nl.+005+1", "directory KEYS"])
def test_one_warning_about_a_key_with_sha1(tmp_path, source):
    write_key(tmp_path, "miek.nl.", "Kmiek.nl.+005+1", algorithm=5)
    write_key(tmp_path, "miek.nl.", "Kmiek.nl.+005+2", algorithm=5, flags=256)
    write_key(tmp_path, "miek.org.", "Kmiek.org.+013+3")
    (tmp_path / "db").touch()
    text = f"sign KEYS/db miek.nl miek.org {{\nkey {source}\ndirectory KEYS\n}}"
    text = text.replace("KEYS", str(tmp_path))
    (warning,) = set_up(text, "example.org").warnings
    assert "signs with SHA-1" in warning.message


def test_warnings_of_a_missing_file_and_folder(keys, tmp_path):
    text = f"sign {tmp_path}/db a. b. {{\nkey file {keys}/Kmiek.nl.+013+59725\ndirectory DIR\n}}"
    controller = set_up(text.replace("DIR", f"{tmp_path}/out"), "example.org")
    assert [it.message for it in controller.warnings] == [
        f"cannot open {tmp_path}/{name}: No such file or directory" for name in ("db", "out")
    ]
    (tmp_path / "db").touch()
    assert set_up(text.replace("DIR", str(tmp_path)), "example.org").warnings == []


def test_two_directives_that_write_one_file_are_refused(keys):
    block = f"sign db example.org {{\nkey directory {keys}\n}}\n"
    with pytest.raises(CorefileError, match="is written by another directive"):
        build(parse(f"example.org:1053 {{\n{block}}}\nexample.net:1053 {{\n{block}}}\n"))


def test_a_check_writes_nothing(keys, tmp_path):
    (tmp_path / "db").write_text("@ SOA a. b. 1 1 1 1 1\n@ NS a.\n")
    block = f"sign {tmp_path}/db {{\nkey directory {keys}\ndirectory {tmp_path}\n}}"
    build(parse(f"example.org {{\n{block}\n}}\n"), checking=True)
    assert [it.name for it in tmp_path.iterdir()] == ["db"]
