"""The Lua scripts: one for each operation, put together from the files of ``lua/`` at the first use of a store.

Names of places and statuses are rendered from :mod:`pynenc.core.status`. A script begins with ``start_of_all`` and ``base``; ``--{any}`` in it stands for
the parts that only unusual work needs, so that the usual way is over before Lua has made their functions.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files

from pynenc.core.reaction import FIRING
from pynenc.core.status import InvocationStatus, Place

#: What comes before an operation, and what stands for its ``--{any}``.
_AFTER_EDGES = ("blob", "row", "scopes", "circle", "life")
_LIFE = ("edges", *_AFTER_EDGES)
_REACT = ("accept", "react")
_CLAIM = (*_AFTER_EDGES, *_REACT, "claim_any")
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "submit": ((), (*_LIFE, "accept")),
    "claim": (("claim_usual",), ("edges", *_CLAIM)),
    "finish": (("edges", "claim_usual"), ("runner", *_CLAIM)),
    "watch": (("edges", "claim_usual"), _CLAIM),
    "unwait": (("edges", "row"), ()),
    "start": (("row",), ()),
    "report": (("row",), ()),
    "amend": ((*_LIFE, *_REACT), ()),
    "heartbeat": (("runner", *_LIFE), ()),
    "recover": (("runner", "forget", *_LIFE, *_REACT), ()),
    "expire": ((*_LIFE, *_REACT), ()),
    "retire": (("runner", "forget", *_LIFE, *_REACT), ()),
    "remember": (("scopes",), ("row",)),
    "put_blobs": (("blob",), ()),
    "lease": ((), ()),
    "purge": (("runner", "forget", *_LIFE, "remove"), ()),
    "purge_all": (("runner", "forget", *_LIFE, "remove"), ()),
    "subscribe": ((), ()),
    "set_queue": ((), ()),
    "queues": (("row",), ()),
    "read": ((), ()),
    "history": ((), ()),
    "finals": ((), ()),
    "scan": (("row",), ()),
    "check": (("row",), ()),
    "open": ((), ()),
    "pass_on": ((), ()),
}
#: What must not be refused when the memory is full: it ends work or removes something.
_ALLOWED_WHEN_FULL = frozenset(PARTS) - {"submit", "remember", "put_blobs", "subscribe", "open"}


class Script:
    """One script and the digest by which a server knows it."""

    __slots__ = ("digest", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text.encode()
        self.digest = sha1(self.text).hexdigest()  # noqa: S324 - this is how EVALSHA names a script


@cache
def script(name: str, *, has_flags: bool) -> Script:
    """The script of an operation; ``has_flags`` is what servers since 7.0 understand."""
    before, any_way = PARTS[name]
    texts = [_constants(), _file("start_of_all"), *map(_file, before), _file(name)]
    if "--{base}" not in texts[-1]:
        texts.insert(2, "--{base}")
    text = "\n".join(texts).replace("--{base}", _file("base")).replace("--{any}", "\n".join(map(_file, any_way)))
    flags = "allow-oom" if name in _ALLOWED_WHEN_FULL else ""
    return Script(name, f"#!lua flags={flags}\n{text}" if has_flags else text)


@cache
def _file(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text()


def _constants() -> str:
    """Places, statuses, why a row is parked, and what the tasks of triggers begin with."""
    names = {place.name: int(place) for place in Place}
    for code, status in enumerate(InvocationStatus):
        name = {"CONCURRENCY_CONTROLLED": "PARKED_STATUS", "CONCURRENCY_CONTROLLED_FINAL": "DROPPED"}.get(status.name)
        names[name or status.name] = code
    names |= {"BEHIND_KEY": 1, "BEHIND_RATE": 2, "BEHIND_TASK": 3}
    return f"local {', '.join(names)} = {', '.join(map(str, names.values()))}\nlocal FIRING = '{FIRING}'"
