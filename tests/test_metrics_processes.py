"""The metrics of the process: those of Go's client library, from the same files of the kernel."""

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.http.metrics import processes

GO = [
    # client_golang 1.23, prometheus/process_collector.go
    ("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds."),
    ("process_open_fds", "gauge", "Number of open file descriptors."),
    ("process_max_fds", "gauge", "Maximum number of open file descriptors."),
    ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    (
        "process_virtual_memory_max_bytes",
        "gauge",
        "Maximum amount of virtual memory available in bytes.",
    ),
    ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    (
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
    ),
    (
        "process_network_receive_bytes_total",
        "counter",
        "Number of bytes received by the process over the network.",
    ),
    (
        "process_network_transmit_bytes_total",
        "counter",
        "Number of bytes sent by the process over the network.",
    ),
]


def samples() -> dict[str, float]:
    """The values of all metrics of the process; each has one sample."""
    found = {}
    for family in processes.families(()):
        (sample,) = family.samples
        assert sample.labels == {}
        found[sample.name] = sample.value
    return found


def test_names_types_and_texts_are_those_of_go() -> None:
    found = [
        (family.samples[0].name, family.type, family.documentation)
        for family in processes.families(())
    ]
    assert sorted(found) == sorted(GO)


def test_the_limit_of_the_memory() -> None:
    soft, hard = before = resource.getrlimit(resource.RLIMIT_AS)
    name = "process_virtual_memory_max_bytes"
    assert samples()[name] == (2.0**64 if soft == resource.RLIM_INFINITY else soft)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 46, hard))
    try:
        assert samples()[name] == 1 << 46
        line = next(
            it for it in Path("/proc/self/limits").read_text().splitlines() if "address space" in it
        )
        assert line.split()[3] == str(1 << 46)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_traffic_is_that_of_the_network_namespace() -> None:
    def read() -> tuple[int, int]:
        names, values = (
            line.split()
            for line in Path("/proc/self/net/netstat").read_text().splitlines()
            if line.startswith("IpExt:")
        )
        octets = dict(zip(names, values, strict=True))
        return int(octets["InOctets"]), int(octets["OutOctets"])

    before = read()
    found = samples()
    after = read()
    for name, low, high in zip(("receive", "transmit"), before, after, strict=True):
        assert low <= found[f"process_network_{name}_bytes_total"] <= high


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0, 0]),
        ("TcpExt: A\nTcpExt: 1\nIpExt: InOctets OutOctets\nIpExt: 7 8\n", [7, 8]),
        ("IpExt: X OutOctets\nIpExt: 1 18446744073709551615\n", [0, 2**64 - 1]),
        ("IpExt: InOctets\n", [0, 0]),
        ("IpExt: InOctets OutOctets\nIpExt: 1\n", []),
        ("IpExt: InOctets\nIpExt: many\n", []),
        ("\u00e9\n", []),
        (None, []),
    ],
)
def test_files_of_other_kernels(tmp_path, monkeypatch, text, expected) -> None:
    """As in Go: a counter that is missing is 0, and without a readable file there is none."""
    path = tmp_path / "netstat"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(processes, "NETSTAT", path)
    found = samples()
    names = [name for name in found if name.startswith("process_network")]
    assert [found[name] for name in names] == expected
    assert len(found) == len(GO) - 2 + len(expected)


WORDS = st.sampled_from(("IpExt:", "InOctets", "1", " ", "\n")) | st.text(max_size=5)


@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS, max_size=20).map(" ".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        octets = processes._ip_octets(text)
    except ValueError:
        return
    assert all(type(value) is int for value in octets.values())
