"""Command-line parser for plugins' commands; see `corepy.arguments`."""

from corepy.arguments import EXIT_USAGE as EXIT_USAGE
from corepy.arguments import Parser as Parser
