"""The socket of a command that serves."""

from __future__ import annotations

import socket

from steer.errors import SteerError


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 takes a free one.

    Raises:
        SteerError: if it cannot.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SteerError(f"cannot listen at {host}:{port} ({error.strerror or error}); choose another --port") from None
    return listener
