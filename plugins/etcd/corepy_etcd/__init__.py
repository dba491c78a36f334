"""etcd: answers from services in etcd, in the schema of SkyDNS."""

from corepy_etcd.setup import setup as setup

api_version = 1
