"""Prints the software bill of materials of the container image, as CycloneDX 1.5 in JSON.

    python3 tools/sbom.py > sbom.cdx.json

It lists the distributions of this interpreter and the installed Debian packages, with package URLs
(purl-spec: types "pypi" and "deb"), by which scanners find their vulnerabilities.
SOURCE_DATE_EPOCH, if set, is its time, so that the same image has the same bill.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import distributions
from typing import Any, Final

_DEBIAN: Final = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"
_MAIN: Final = "corepy-dns"


def python_components() -> list[dict[str, str]]:
    """Return the distributions that this interpreter imports."""
    # As in a package URL: the index regards names with "-", "_" and "." as equal.
    found = {(re.sub("[-_.]+", "-", it.name).lower(), it.version) for it in distributions()}
    return [_component(name, version, f"pkg:pypi/{name}@{version}") for name, version in found]


def debian_components() -> list[dict[str, str]]:
    """Return the installed Debian packages; raises OSError without dpkg."""
    query = ("dpkg-query", "--show", f"--showformat={_DEBIAN}")
    done = subprocess.run(query, capture_output=True, text=True, check=True)  # noqa: S603  # constant
    rows = [line.split(" ") for line in done.stdout.splitlines()]
    system = platform.freedesktop_os_release()
    release = f"{system['ID']}-{system.get('VERSION_ID', 'sid')}"
    return [
        _component(name, version, f"pkg:deb/debian/{name}@{version}?arch={arch}&distro={release}")
        for status, name, version, arch in rows
        if status == "installed"
    ]


def _component(name: str, version: str, url: str) -> dict[str, str]:
    url = url.replace("+", "%2B")
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def bill() -> dict[str, Any]:
    """Return the whole document."""
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    components = sorted((*python_components(), *debian_components()), key=lambda it: it["purl"])
    main = [it for it in components if it["name"] == _MAIN]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
            **({"component": {**main[0], "type": "application"}} if main else {}),
        },
        "components": [it for it in components if it not in main],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=2)
    sys.stdout.write("\n")
