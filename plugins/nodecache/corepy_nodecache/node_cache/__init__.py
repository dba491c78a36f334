"""The command `node-cache`, in place of the program of that name (kubernetes-sigs/node-local-dns).

flags.py reads its flags, configmap.py the ConfigMap of kube-dns, corefile_template.py makes the
Corefile of both and of the template, corefile_maker.py keeps the last good parts, and sync.py
follows the changes while the server runs.
"""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run `corepy node-cache`; return the exit code."""
    from corepy_nodecache.node_cache.command import run

    return run(arguments)


def script() -> int:
    """Run the program `node-cache` with the arguments of the process; return the exit code."""
    from corepy.net.descriptors import fill_standard_descriptors

    fill_standard_descriptors()
    return main(sys.argv[1:])
