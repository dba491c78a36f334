"""Upstreams as words: addresses, and files (CoreDNS: plugin/pkg/parse/host_test.go)."""

import pytest

from corepy.plugin import CorefileError
from corepy.plugin.upstream_words import read_upstreams
from corepy.testing import controller_for


def read(*words):
    controller = controller_for(f"x {' '.join(words)}")
    controller.next()
    found = read_upstreams(controller, controller.arguments())
    return [str(upstream) for _, upstream in found], controller


@pytest.mark.parametrize(
    ("word", "upstream"),
    [
        ("8.8.8.8", "dns://8.8.8.8:53"),
        ("8.8.8.8:153", "dns://8.8.8.8:153"),
        ("dns://8.8.8.8", "dns://8.8.8.8:53"),
        ("tls://8.8.4.4", "tls://8.8.4.4:853"),
        ("tls://8.8.4.4:8853", "tls://8.8.4.4:8853"),
        ("https://8.8.4.4", "https://8.8.4.4:443"),
        ("quic://8.8.8.8", "quic://8.8.8.8:853"),
        ("::1", "dns://[::1]:53"),
        ("[::1]", "dns://[::1]:53"),
        ("[::1]:53", "dns://[::1]:53"),
        ("[2003::1]:153", "dns://[2003::1]:153"),
        ("tls://[::1]", "tls://[::1]:853"),
        ("fe80::1%ens3", "dns://[fe80::1%ens3]:53"),
        ("[fd01::1%ens3]:153", "dns://[fd01::1%ens3]:153"),
    ],
)
def test_addresses(word, upstream):
    assert read(word)[0] == [upstream]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dns://", "invalid address: 'dns://'"),
        ("example.org", "not an IP address or file: 'example.org'"),
        ("example.org:53", "not an IP address or file: 'example.org:53'"),
        ("8.8.8.8.8", "not an IP address or file"),
        ("8.8.8.8:", "not a port number"),
        ("8.8.8.8:0", "not a port number: '8.8.8.8:0'"),
        ("8.8.8.8:65536", "not a port number"),
        ("unix://8.8.8.8", "no such transport"),
        ("/no/such/file", "not an IP address or file: '/no/such/file': No such file"),
    ],
)
def test_mistakes(word, message):
    with pytest.raises(CorefileError) as caught:
        read("192.0.2.1", word)
    (found,) = caught.value.diagnostics
    assert message in found.message
    assert found.token.text == word


def test_a_file(tmp_path):
    file = tmp_path / "resolv.conf"
    lines = "# local\nnameserver 192.0.2.1\nsearch a.test\nnameserver fe80::1%eth0\nnameserver x\n"
    file.write_text(lines)
    found, controller = read("192.0.2.9", str(file))
    assert found == ["dns://192.0.2.9:53", "dns://192.0.2.1:53", "dns://[fe80::1%eth0]:53"]
    assert controller.files == [file]


def test_a_file_without_name_servers(tmp_path):
    file = tmp_path / "resolv.conf"
    file.write_text("search a.test\n")
    with pytest.raises(CorefileError, match="no nameservers found"):
        read(str(file))
    found, controller = read(str(file), ".", "192.0.2.1")
    assert found == ["dns://192.0.2.1:53"]
    assert [it.message for it in controller.warnings] == [
        f"no name servers in {file}",
        "'.' is a folder and has no name servers",
    ]
