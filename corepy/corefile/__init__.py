"""The Corefile language: text in, server blocks with positions out.

The way of a text: lexer.py (words, by grammar.lark) -> expansion.py (imports, from files.py) ->
parser.py (blocks, variables from environment.py) -> model.py. keys.py and zones.py say what the
keys of a block mean, numbers.py what their numbers mean, dispenser.py walks a directive's tokens,
diagnostics.py says what is wrong, formatting.py how a Corefile is to look, and kubernetes.py finds
Corefiles in manifests.

Nothing here knows a plugin, a socket or a DNS message, and nothing else of the project is imported.
"""

from corepy.corefile.diagnostics import CorefileError, Diagnostic, render, to_json
from corepy.corefile.dispenser import Dispenser
from corepy.corefile.formatting import format_text
from corepy.corefile.keys import OverlapChecker, ZoneAddress, server_keys
from corepy.corefile.kubernetes import Embedded, embedded, is_manifest
from corepy.corefile.mistakes import Mistakes
from corepy.corefile.model import Corefile, Directive, Import, ServerBlock, Source, Token
from corepy.corefile.numbers import parse_integer, parse_unsigned
from corepy.corefile.parser import load, parse
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
