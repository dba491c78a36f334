"""route53: answers from hosted zones of AWS Route 53."""

from corepy_route53.setup import setup as setup

api_version = 1
