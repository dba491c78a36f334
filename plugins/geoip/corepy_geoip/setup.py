"""Parse the *geoip* directive (CoreDNS: plugin/geoip/setup.go)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.plugin import FileData
from corepy_geoip.database import LARGEST, LOG, Database, examine
from corepy_geoip.geoip import GeoIP
from corepy_geoip.labels import asn_labels, city_labels

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

INTERVAL: Final = 10.0
"""Seconds between two looks at the file."""

SETTLE: Final = 1.0
"""Seconds for which a changed file must stay unchanged: a database takes time to be written."""

_HINT: Final = "such as GeoLite2-City.mmdb"


def setup(controller: Controller) -> None:
    """Add the handler, and load its database at the start."""
    database: Token | None = None
    options: list[str] = []
    for _ in controller.occurrences():
        directive = controller.token
        token = controller.argument(_HINT)
        if database is not None:
            message = "geoip has one database; this server block has a second one"
            raise controller.error(message, token if directive is None else directive)
        database = token
        controller.options({"edns-subnet": lambda: options.append("edns-subnet")})
    assert database is not None
    path = Path(database.text)
    _examine(controller, path, database)
    if not controller.sibling("metadata"):
        message = "geoip has no effect: this server block has no plugin 'metadata'"
        controller.warn(message, database, "add metadata to the block")
    file: FileData[Database | None] = FileData(
        path,
        Database,
        None,
        interval=INTERVAL,
        settle=SETTLE,
        what="database",
        most=LARGEST,
        log=LOG,
    )
    controller.provides_labels([*city_labels(None), *asn_labels(None)])
    controller.register(file)
    controller.add_handler(GeoIP(file, uses_subnet=bool(options)))


def _examine(controller: Controller, path: Path, token: Token) -> None:
    """Raise `CorefileError` if the database cannot be used."""
    try:
        examine(path)
    except OSError as error:
        message = f"failed to open database file {token.text!r}: {error.strerror or error}"
        raise controller.error(message, token) from None
    except ValueError as error:
        message = f"cannot use database file {token.text!r}: {error}"
        raise controller.error(message, token, _HINT) from None
