"""hosts: answers from a file such as /etc/hosts, and from lines in the Corefile."""

from corepy_hosts.setup import setup as setup

api_version = 1
