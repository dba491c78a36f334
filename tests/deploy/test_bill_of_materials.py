"""The bill of materials of the image against the schema of CycloneDX, and its package URLs.

cyclonedx-python-lib contains the schema; the Makefile installs it with the group `charts`.
"""

import json
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator
from packageurl import PackageURL

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tools"))

import sbom


@pytest.fixture(scope="module")
def bill():
    return sbom.bill()


def refused(document):
    """The error of the schema of the version that the document names, or None."""
    version = SchemaVersion.from_version(document["specVersion"])
    return make_schemabased_validator(OutputFormat.JSON, version).validate_str(json.dumps(document))


def test_the_schema_accepts_the_bill(bill):
    assert refused(bill) is None
    # corepy itself is the main component, here as in the image.
    assert {"type", "bom-ref", "name", "version", "purl"} == bill["metadata"]["component"].keys()


@pytest.mark.parametrize(
    "change",
    [
        {"bomFormat": "SPDX"},
        {"metadata": {"timestamp": 0}},
        {"components": [{"type": "package", "name": "a"}]},
        {"components": [{"type": "library", "version": "1"}]},
        {"components": [{"type": "library", "name": "a", "bom_ref": "a"}]},
    ],
    ids=json.dumps,
)
def test_the_schema_refuses_others(bill, change):
    assert refused(bill | change) is not None


def test_the_package_urls_name_the_packages(bill):
    for it in (*bill["components"], bill["metadata"]["component"]):
        url = PackageURL.from_string(it["purl"])
        expected = {"pypi": None, "deb": "debian"}[url.type]
        assert (url.namespace, url.name, url.version) == (expected, it["name"], it["version"])
        assert url.to_string() == it["purl"]
