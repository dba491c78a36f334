"""The ACME form: CoreDNS's cases (plugin/tls/acme_test.go), and the options of several blocks."""

from pathlib import Path

import pytest

from corepy.corefile import CorefileError, parse
from corepy.loading.registry import find
from corepy.plugin import TLSSetting
from corepy.server.build.builder import build
from corepy.server.listen import transports
from corepy.testing import refusal, set_up
from corepy.testing.certificates import Authority
from corepy_tls.acme_settings import LETS_ENCRYPT, AcmeSettings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working directory, with a file of authorities."""
    Authority().issue(tmp_path, "ca.example").authority.rename(tmp_path / "roots.pem")
    (tmp_path / "empty.pem").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of(options):
    source = set_up(f"tls {{\n{options}\n}}", "tls://.").config.get(TLSSetting).source
    with pytest.raises(OSError, match="there is no certificate for"):
        source.certificate()
    return source.settings


def test_all_options(folder):
    settings = settings_of(
        "acme DNS.Example. dns.example\nemail admin@example.org\n"
        "ca https://ca.example/directory\nstorage certs\nca_root roots.pem\nresolver 1.1.1.1:53"
    )
    assert settings == AcmeSettings(
        ("dns.example",),
        folder / "certs",
        "admin@example.org",
        "https://ca.example/directory",
        folder / "roots.pem",
        ("1.1.1.1", 53),
    )


def test_the_defaults(folder):
    settings = settings_of("acme b.example *.a.example")
    assert settings.domains == ("*.a.example", "b.example")
    assert (settings.ca, settings.email, settings.resolver) == (LETS_ENCRYPT, "", None)
    assert settings.storage == folder / ".coredns/acme"
    assert not list(folder.glob(".coredns*"))


@pytest.mark.parametrize(
    ("word", "domain"),
    [("b\u00fccher.example", "xn--bcher-kva.example"), ("LOCALHOST.", "localhost")],
    ids=["international", "one label"],
)
def test_domains(word, domain):
    assert settings_of(f"acme {word}").domains == (domain,)


def test_an_ipv6_resolver():
    assert settings_of("acme a.example\nresolver [2001:db8::1]:5353").resolver == (
        "2001:db8::1",
        5353,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "at least one domain"),
        ("email a@example", "at least one domain"),
        ("acme", "wrong argument count"),
        ("acme 192.0.2.1", "invalid ACME domain"),
        ("acme 2001:db8::1", "invalid ACME domain"),
        ("acme *.*.example", "invalid ACME domain"),
        ("acme a.*.example", "invalid ACME domain"),
        ("acme *", "invalid ACME domain"),
        ("acme *.", "invalid ACME domain"),
        ("acme .", "invalid ACME domain"),
        ("acme a..example", "invalid ACME domain"),
        ("acme ../a.example", "invalid ACME domain"),
        ("acme a/b.example", "invalid ACME domain"),
        ("acme _a.example", "invalid ACME domain"),
        ("acme -a.example", "invalid ACME domain"),
        (f"acme {'a' * 64}.example", "invalid ACME domain"),
        ("acme dns.example\nca ftp://ca.example", "invalid ACME CA URL"),
        ("acme dns.example\nca https://", "invalid ACME CA URL"),
        ("acme dns.example\nresolver 1.1.1.1", "invalid ACME resolver"),
        ("acme dns.example\nresolver :53", "invalid ACME resolver"),
        ("acme dns.example\nresolver 1.1.1.1:dns", "invalid ACME resolver port"),
        ("acme dns.example\nresolver 1.1.1.1:0", "invalid ACME resolver port"),
        ("acme dns.example\nresolver 1.1.1.1:65536", "invalid ACME resolver port"),
        (f"acme dns.example\nresolver 1.1.1.1:{'9' * 5000}", "invalid ACME resolver port"),
        ("acme dns.example\nca_root missing.pem", "reading ACME CA root"),
        ("acme dns.example\nca_root empty.pem", "reading ACME CA root"),
        ("acme dns.example\nacme other.example", "only be specified once"),
        ("acme dns.example\nemail a@example b@example", "wrong argument count"),
        ("acme dns.example\nstorage", "wrong argument count"),
        ("acme dns.example\nprovider example", "unknown option"),
    ],
)
def test_refused(options, message):
    assert message in refusal(f"tls {{\n{options}\n}}", "tls://.").message


def built(*options):
    text = "".join(
        f"tls://{at}.test:{8530 + at} {{\ntls {{\n{lines}\n}}\n}}\n"
        for at, lines in enumerate(options)
    )
    return build(parse(text, schemes=transports.KNOWN), found=find())


def test_blocks_with_the_same_options_share_a_certificate():
    generation = built("acme a.example b.example", "acme b.example a.example", "acme c.example")
    sources = [it.get(TLSSetting).source for it in generation.settings.values()]
    assert sources[0] == sources[1] != sources[2]
    assert sources[0]._certificate is sources[1]._certificate


@pytest.mark.parametrize(
    "other",
    ["ca https://ca.example", "storage two", "email a@example"],
    ids=["ca", "storage", "email"],
)
def test_one_domain_with_different_options(other):
    with pytest.raises(CorefileError) as caught:
        built("acme a.example b.example", f"acme a.example b.example\n{other}")
    (mistake,) = caught.value.diagnostics
    assert "ACME domain 'a.example' is configured with conflicting options" in mistake.message
    assert mistake.token.line == 7


@pytest.mark.parametrize(
    ("name", "is_covered"),
    [
        ("DNS.EXAMPLE.", True),
        ("one.wild.example", True),
        ("two.one.wild.example", False),
        ("wild.example", False),
        ("other.example", False),
        ("example", False),
    ],
)
def test_the_names_that_a_certificate_covers(name, is_covered):
    settings = AcmeSettings(("*.wild.example", "dns.example"), Path("/"))
    assert settings.covers(name) is is_covered
