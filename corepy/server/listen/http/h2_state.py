"""The state of h2 for one connection of the server, and the settings that a client is told."""

from __future__ import annotations

from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hyperframe.frame import SettingsFrame

MAX_HEAD: Final = 32_768
"""Bytes of the header fields of a request, compressed as well as not."""

_CONFIG: Final = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)


def settings_frame(max_streams: int) -> bytes:
    """Return the settings for a client that may open `max_streams` streams at a time."""
    values = {
        SettingCodes.MAX_CONCURRENT_STREAMS: max_streams,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
    }
    return SettingsFrame(
        0, settings={int(code): value for code, value in values.items()}
    ).serialize()


class _Connection(H2Connection):
    """h2 keeps 65,536 closed streams of each connection, which are several MB."""

    MAX_CLOSED_STREAMS = 1000


def new_state(max_streams: int) -> H2Connection:
    """Return the state of a connection; the caller sends the settings.

    h2 would end the connection at a stream too many. A client may not have seen the limit yet, so
    the session resets such a stream, and h2 has a higher limit.
    """
    connection = _Connection(_CONFIG)
    values = {
        SettingCodes.MAX_CONCURRENT_STREAMS: 2 * max_streams + 100,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
    }
    connection.local_settings = Settings(client=False, initial_values=values)
    connection.decoder.max_header_list_size = MAX_HEAD
    connection.initiate_connection()
    connection.clear_outbound_data_buffer()
    return connection
