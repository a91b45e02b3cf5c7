"""Whether there will be no connection whoever waits.

A failed connection leaves a text and no code, and a server may speak any language. So the server is asked again, while the driver writes down what it
hears: there the code stands. Where that is not to be had, because libpq itself refuses, a pooler has one code for everything, or libpq is older than 17
and the error comes while it authenticates, the English words decide.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Iterator
from math import inf

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ConnStatus, PollingStatus
from psycopg.pq.abc import PGconn

from pynenc.store.postgres.connection import poll

#: Seconds that a host gets for a second answer.
PATIENCE = 5.0
#: Errors that are remembered.
MANY = 256
#: Seconds for which an error is, where a host gave no code: it may give one later, and a connection that is listened to costs memory for good.
SILENCE = 30.0
#: Not authorized, no such database, a feature or a name in the URL that the server does not have, no right to connect.
_REFUSING = re.compile(r"28...|3D000|0A000|22023|42...")
#: One code for everything: protocol violation, which is what poolers say.
_VAGUE = "08P01"
#: What the driver writes down of an error, up to its code.
_HEARD = re.compile(rb'\tB\t\d+\tErrorResponse\t.*? C "(\w{5})"')
#: What the server or libpq says when there will be no connection.
_WORDS = re.compile(
    r"authentication failed|does not exist|no pg_hba\.conf entry|no password supplied|[Pp]ermission denied|invalid|not permitted to log in"
    r"|unrecognized configuration parameter|does not support SSL|certificate|definition of service|channel binding"
)
#: Begins the error of one of several attempts: the host and the port as the URL has them, then one of their addresses.
_ATTEMPT = re.compile(r"^- (host: .*?, port: .*?), hostaddr: ", re.MULTILINE)
#: What the user chose: where it leads, and what is quoted.
_CHOSEN = re.compile(r"connection to server .*? failed: |\"[^\"]*\"|'[^']*'")
_EVENTS = {PollingStatus.READING: select.POLLIN, PollingStatus.WRITING: select.POLLOUT}
#: Whether it is a refusal, and until when that is believed, in monotonic seconds.
_judged: dict[tuple[str, str], tuple[bool, float]] = {}


class RefusedError(psycopg.OperationalError):
    """There is no connection, and waiting gives none."""


def is_refusal(error: psycopg.Error, conninfo: str) -> bool:
    """Whether a connection was refused for a reason that will not pass: by each host, since one that is down may come back.

    :param conninfo: what the connection was asked for with.
    """
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return False
    told = str(error)
    judged, until = _judged.get((conninfo, told), (False, 0.0))
    if time.monotonic() < until:
        return judged
    codes = [code_of(each) for each in _hosts(conninfo)]
    clear = [code for code in codes if code and code != _VAGUE]
    judged = all(map(_REFUSING.fullmatch, clear)) if len(clear) == len(codes) else tells_refusal(told)
    if len(_judged) >= MANY:
        _judged.clear()
    _judged[conninfo, told] = judged, time.monotonic() + SILENCE if None in codes else inf
    return judged


def tells_refusal(told: str) -> bool:
    """Whether the words of an error say so, at one address of each host. Names do not count: a host may be called "invalid"."""
    _, *attempts = _ATTEMPT.split(told)
    if not attempts:
        return _has_words(told)
    refusing = {host for host, reason in zip(attempts[::2], attempts[1::2], strict=True) if _has_words(reason)}
    return refusing == set(attempts[::2])


def _has_words(told: str) -> bool:
    return _WORDS.search(_CHOSEN.sub("", told)) is not None


def _hosts(conninfo: str) -> Iterator[str]:
    """The same for each host alone."""
    try:
        asked = {name: value for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    except psycopg.Error:
        yield conninfo
        return
    names = [name for name in ("host", "hostaddr", "port") if "," in str(asked.get(name, ""))]
    values = {name: str(asked[name]).split(",") for name in names}
    for at in range(max(map(len, values.values()), default=1)):
        yield make_conninfo("", **asked | {name: each[min(at, len(each) - 1)] for name, each in values.items()})


def code_of(conninfo: str) -> str | None:
    """The code with which a server refuses a connection; None when it does not, or cannot be heard."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        heard = os.memfd_create("pynenc")
    except OSError:  # no descriptor is free, or the system forbids it
        return None
    try:
        connection = pq.PGconn.connect_start(conninfo.encode())
        try:
            _hear(connection, heard)
        finally:
            connection.finish()
        found = _HEARD.search(os.pread(heard, os.fstat(heard).st_size, 0))
    except psycopg.Error:
        return None
    finally:
        os.close(heard)
    return found[1].decode() if found else None


def _hear(connection: PGconn, heard: int) -> None:
    """Let a connection begin, and have written down what is said once somebody is there: that takes memory which libpq does not give back."""
    until, state, is_heard = time.monotonic() + PATIENCE, PollingStatus.WRITING, False
    try:
        while connection.status != ConnStatus.BAD and state in _EVENTS:
            if not poll({connection.socket: _EVENTS[state]}, max(0.0, until - time.monotonic())):
                return
            state = PollingStatus(connection.connect_poll())
            if not is_heard and connection.status in (ConnStatus.MADE, ConnStatus.AWAITING_RESPONSE):
                connection.trace(heard)
                is_heard = True
    finally:
        if is_heard:
            connection.untrace()
