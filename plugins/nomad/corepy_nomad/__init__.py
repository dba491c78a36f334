"""nomad: answers for the services of a Nomad cluster."""

from corepy_nomad.setup import setup as setup

api_version = 1
