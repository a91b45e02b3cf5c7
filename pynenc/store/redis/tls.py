"""Whether a server speaks TLS, asked when a connection to it did not come about: a wrong scheme in the URL gets no better by waiting."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any

#: Seconds that a server gets for the first handshake of TLS, and one for the answer to a question here.
HANDSHAKE, ANSWER = 5.0, 1.0


def wrong_files(arguments: Mapping[str, Any]) -> str:
    """Why the certificates or the key that a URL names are of no use; empty when they are."""
    authorities, own = arguments.get("ssl_ca_certs"), arguments.get("ssl_certfile")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authorities:
            context.load_verify_locations(authorities)
        if own:
            context.load_cert_chain(own, arguments.get("ssl_keyfile"), arguments.get("ssl_password"))
    except OSError as error:
        return str(error)
    return ""


def is_plain(arguments: Mapping[str, Any]) -> bool:
    """Whether a server understands who speaks without TLS; it is told nothing but PING."""
    try:
        with socket.create_connection(_place(arguments), ANSWER) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-DENIED", b"-LOADING"))
    except OSError:
        return False


def is_tls(arguments: Mapping[str, Any]) -> bool:
    """Whether a server answers a handshake, be it with an alert: it may want a certificate. It is told nothing, so it need not be trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(_place(arguments), ANSWER) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "").upper()
    except OSError:
        return False


def _place(arguments: Mapping[str, Any]) -> tuple[str, int]:
    return arguments.get("host") or "localhost", int(arguments.get("port") or 6379)
