"""The directive (CoreDNS: plugin/multisocket/multisocket_test.go), and how many processors there are."""

import os

import pytest

from corepy import corefile
from corepy.plugin import SocketCount
from corepy.server.build.builder import build
from corepy.testing import refusal, set_up
from corepy_multisocket.cpus import usable


@pytest.mark.parametrize(
    ("text", "sockets"),
    [
        ("multisocket", usable()),
        ("multisocket 2", 2),
        ("multisocket 1024", 1024),
        (" multisocket 1", 1),
        ("multisocket +3", 3),
    ],
)
def test_accepted(text, sockets):
    controller = set_up(text)
    assert controller.config.get(SocketCount).per_address == sockets
    assert not controller.handlers
    assert not controller.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("multisocket text", "not a whole number"),
        ("multisocket 1.5", "not a whole number"),
        ("multisocket 0", "num sockets can not be zero or negative"),
        ("multisocket -1", "num sockets can not be zero or negative"),
        ("multisocket 1025", "num sockets exceeds maximum"),
        ("multisocket 2 2", "wrong argument count"),
        ("multisocket 2 {\nblock\n}", "unknown option"),
        ("multisocket 2\nmultisocket 2", "only be used once"),
    ],
)
def test_refused(text, message):
    assert message in refusal(text).message


def sockets_of(text):
    generation = build(corefile.parse(text))
    return {listen.label(): number for listen, number in generation.sockets.items()}


def test_without_the_directive_there_is_one():
    assert sockets_of(".:53 {\nwhoami\n}") == {"dns://:53": 1}


def test_the_first_block_of_an_address_decides():
    text = """
        a.test:53 b.test:54 { multisocket 2
            whoami
        }
        c.test:53 { multisocket 5
            whoami
        }
        d.test:54 e.test:55 { whoami
        }
        f.test:55 { multisocket 3
            whoami
        }
        """
    assert sockets_of(text) == {"dns://:53": 2, "dns://:54": 2, "dns://:55": 1}


def host(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


CPUS = len(os.sched_getaffinity(0))
V1 = "4:memory:/pod\n3:cpu,cpuacct:/pod/box\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, CPUS),
        ({"proc/self/cgroup": "0::/\n"}, CPUS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, CPUS),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99900000 100000\n"}, CPUS),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "90000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/pod/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/pod/box/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/pod/box/cpu.cfs_period_us": "100000\n",
            },
            CPUS,
        ),
    ],
)
def test_usable_processors(files, expected, tmp_path):
    assert usable(host(tmp_path, files)) == expected
