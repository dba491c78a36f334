"""NOTRACK with the real command: questions leave no flow in the kernel's tables, a control does.

Asked from a pod, whose packets come through PREROUTING, and from the host's own network.
"""

from __future__ import annotations

import pytest

from corepy.testing import run_command
from corepy.testing.netns import isolated, pod, run

KINDS = ("legacy", "nft")
PORT, CONTROL = 5300, 5399


def corefile(kind: str, ip: str) -> str:
    """The same server twice, once without nodecache."""
    return (
        f".:{PORT} {{\n bind {ip}\n nodecache {{\n iptables {kind}\n }}\n whoami\n}}\n"
        f".:{CONTROL} {{\n bind {ip}\n whoami\n}}\n"
    )


def dig(*prefix: str, ip: str, port: int) -> None:
    for flag in ("+notcp", "+tcp"):
        said = run(*prefix, "dig", f"@{ip}", "-p", str(port), flag, "+tries=1", "example.org", "A")
        assert "status: NOERROR" in said


@pytest.mark.parametrize(
    ("ip", "client", "gateway"),
    [
        ("169.254.20.10", "10.5.5.2/24", "10.5.5.1/24"),
        ("fd00::10", "fd05::2/64", "fd05::1/64"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_questions_leave_no_flow_behind(kind: str, ip: str, client: str, gateway: str) -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")
    program = f"{'ip6tables' if ':' in ip else 'iptables'}-{kind}"
    # As a firewall has it: connection tracking is on, and what is neither known nor allowed is
    # dropped, so untracked questions need our ACCEPT.
    state = ["-m", "conntrack", "--ctstate"]
    run(program, "-A", "INPUT", *state, "ESTABLISHED", "-j", "ACCEPT")
    run(program, "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    for protocol in ("tcp", "udp"):
        run(program, "-A", "INPUT", "-p", protocol, "--dport", str(CONTROL), "-j", "ACCEPT")
    if ":" in ip:
        run(program, "-A", "INPUT", "-p", "icmpv6", "-j", "ACCEPT")
    run(program, "-P", "INPUT", "DROP")
    with run_command(corefile(kind, ip)) as server, pod(client, gateway) as inside:
        run("conntrack", "-F")  # the server has asked itself before it took the traffic
        for port in (CONTROL, PORT):
            dig(*inside, ip=ip, port=port)
            dig(ip=ip, port=port)
        flows = run("conntrack", "-L", "-f", "ipv6" if ":" in ip else "ipv4")
        asked = [line for line in flows.splitlines() if f"dst={ip} " in line]
        assert [line for line in asked if f"port={PORT} " in line] == []
        sources = {(line.split()[0], line.partition("src=")[2].split()[0]) for line in asked}
        pod_ip = client.partition("/")[0]
        assert {("udp", pod_ip), ("tcp", pod_ip), ("udp", ip), ("tcp", ip)} <= sources
        assert server.stop() == 0
