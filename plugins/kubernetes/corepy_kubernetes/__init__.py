"""kubernetes: answers for the services and pods of a Kubernetes cluster."""

from corepy_kubernetes.setup import setup as setup

api_version = 1
