"""Validation of upstreams' replies with DNSSEC (RFC 4033 to 4035, 5155, 6840)."""
