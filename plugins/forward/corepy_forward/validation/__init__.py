"""Validation of upstreams' replies with DNSSEC (`dnssec validate`)."""
