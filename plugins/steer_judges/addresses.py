"""Addresses of servers: checked, free of secrets, and whether they are of this machine."""

import ipaddress
import re
import urllib.parse

from steer import SteerError


def checked_url(url: str, option: str) -> str:
    """Return a server's URL without a slash at its end.

    Raises:
        SteerError: if it is none of http or https, or holds a user or a query: recipes and logs would hold a password.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SteerError(f"{option}: got {_without_secrets(url)!r}, expected an address such as http://localhost:8000")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SteerError(
            f"{option}: an address with a user, a password or a query would put it into every recipe; put keys into "
            "the environment"
        )
    return url.rstrip("/")


def is_local(url: str) -> bool:
    """Whether a URL is of this machine, which no proxy can reach."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])[:80]
