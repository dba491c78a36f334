"""The Corefile language: parses text into server blocks with source positions.

A text passes through lexer.py (tokens, by grammar.lark), expansion.py (imports, read by files.py)
and parser.py (server blocks; environment.py replaces variables) into model.py. keys.py and zones.py
interpret the keys of a block, numbers.py their numbers. dispenser.py is a cursor over a directive's
tokens, diagnostics.py reports errors, formatting.py formats a Corefile, and kubernetes.py finds
Corefiles in manifests.

This package depends on no plugin, socket or DNS message, and imports nothing else of the project.
"""

from corepy.corefile.diagnostics import CorefileError, Diagnostic, render, to_json
from corepy.corefile.dispenser import Dispenser
from corepy.corefile.formatting import format_text
from corepy.corefile.generated import GeneratedCorefile
from corepy.corefile.keys import OverlapChecker, ZoneAddress, server_keys
from corepy.corefile.kubernetes import Embedded, embedded, is_manifest
from corepy.corefile.mistakes import Mistakes
from corepy.corefile.model import Directive, Import, ServerBlock, Source, Token
from corepy.corefile.numbers import parse_integer, parse_unsigned
from corepy.corefile.parsed import Corefile as Corefile
from corepy.corefile.parser import load, parse, parse_generated
from corepy.corefile.suggest import suggest, suggest_file
from corepy.corefile.zones import (
    HostPort,
    is_domain_name,
    normalize_zone,
    reverse_zones,
    split_host_port,
    split_transport,
    zones_from_args,
    zones_of,
)

__all__ = [
    "Corefile",
    "CorefileError",
    "Diagnostic",
    "Directive",
    "Dispenser",
    "Embedded",
    "GeneratedCorefile",
    "HostPort",
    "Import",
    "Mistakes",
    "OverlapChecker",
    "ServerBlock",
    "Source",
    "Token",
    "ZoneAddress",
    "embedded",
    "format_text",
    "is_domain_name",
    "is_manifest",
    "load",
    "normalize_zone",
    "parse",
    "parse_generated",
    "parse_integer",
    "parse_unsigned",
    "render",
    "reverse_zones",
    "server_keys",
    "split_host_port",
    "split_transport",
    "suggest",
    "suggest_file",
    "to_json",
    "zones_from_args",
    "zones_of",
]
