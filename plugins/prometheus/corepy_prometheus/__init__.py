"""prometheus: counts queries, and exports the metrics of the whole process."""

from corepy_prometheus.setup import setup as setup

api_version = 1
