"""Sockets and certificates to listen for collectors with."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Final

from corepy.plugin.reading import read_file

if TYPE_CHECKING:
    import ssl

    from corepy_dnstap.settings import TLSFiles

BACKLOG: Final = 16
"""Collectors that may wait to be accepted."""

Inode = tuple[int, int]
"""A file: the numbers of its device and of its inode."""


def bind_unix(path: str) -> socket.socket:
    """Return a listening socket at `path`, replacing one that no process listens on any more.

    Raises OSError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            os.unlink(path)
            sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_abandoned(path: str) -> bool:
    """Return whether `path` is a socket that refuses connections."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


def inode_of(path: str) -> Inode | None:
    """Return the file at `path`, None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unlink_own(path: str, inode: Inode | None) -> None:
    """Remove a socket, unless another process has replaced it in the meantime."""
    with contextlib.suppress(OSError):
        if inode is not None and inode_of(path) == inode:
            os.unlink(path)


def make_context(files: TLSFiles, skip_verify: bool) -> ssl.SSLContext:
    """Return the context of a listener; raises OSError or ValueError for an unusable file.

    With the certificates of authorities, collectors must have a certificate of one of them; with
    `skip_verify` they may also have none (plugin/dnstap/listener.go).
    """
    import ssl

    for path in (files.certificate, files.key, files.authorities):
        if path is not None:
            read_file(path)  # OpenSSL would wait for a FIFO
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key, "")  # else it may ask for a password
    if files.authorities is not None:
        context.load_verify_locations(files.authorities)
        context.verify_mode = ssl.CERT_OPTIONAL if skip_verify else ssl.CERT_REQUIRED
    return context
