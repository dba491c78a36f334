"""The addresses of AWS services by partition: the standard one, China, GovCloud and others.

Source: the endpoint rules of Route 53 in the AWS SDKs. Route 53 is global in each partition.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Partition(NamedTuple):
    """A group of regions with accounts of its own."""

    region_prefix: str
    suffix: str
    """The domain of the services of a region."""

    host: str
    """The host of Route 53."""

    region: str
    """The region that requests to Route 53 are signed for."""


STANDARD: Final = Partition("", "amazonaws.com", "route53.amazonaws.com", "us-east-1")
_OTHERS: Final = (
    Partition("cn-", "amazonaws.com.cn", "route53.amazonaws.com.cn", "cn-northwest-1"),
    Partition("us-gov-", "amazonaws.com", "route53.us-gov.amazonaws.com", "us-gov-west-1"),
    Partition("us-iso-", "c2s.ic.gov", "route53.c2s.ic.gov", "us-iso-east-1"),
    Partition("us-isob-", "sc2s.sgov.gov", "route53.sc2s.sgov.gov", "us-isob-east-1"),
    Partition("us-isof-", "csp.hci.ic.gov", "route53.csp.hci.ic.gov", "us-isof-south-1"),
    Partition("eu-isoe-", "cloud.adc-e.uk", "route53.cloud.adc-e.uk", "eu-isoe-west-1"),
    Partition("eusc-", "amazonaws.eu", "route53.amazonaws.eu", "eusc-de-east-1"),
)


def partition_of(region: str) -> Partition:
    """Return the partition of a region, the standard one without a region."""
    return next((it for it in _OTHERS if region.startswith(it.region_prefix)), STANDARD)
