"""k8s_external: names for the services of a cluster, for clients outside of it."""

from corepy_k8s_external.setup import setup as setup

api_version = 1
