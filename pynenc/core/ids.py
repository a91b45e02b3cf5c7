"""Identities: of tasks, calls and invocations.

Things that may happen many times get a fresh, time-ordered id (UUID version 7, RFC 9562). Things that must happen once
get an id *derived* from what makes them unique, so that a replay or a race ends in "already there".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")


@dataclass(frozen=True, slots=True)
class TaskId:
    """Identity of a task: the module and the name of its function."""

    module: str
    func_name: str

    @property
    def key(self) -> str:
        """``module.func_name``, the form that stores, files and people use."""
        return f"{self.module}.{self.func_name}"

    @classmethod
    def from_key(cls, key: str) -> TaskId:
        """The inverse of :attr:`key`.

        :raises ValueError: when ``key`` is not of the form ``module.func_name``.
        """
        module, dot, func_name = key.rpartition(".")
        if not (dot and func_name.isidentifier() and _MODULE.match(module)):
            raise ValueError(f"{key!r} is not a task id; it should read 'module.function'")
        return cls(module, func_name)

    def __str__(self) -> str:
        return self.key


@dataclass(frozen=True, slots=True)
class CallId:
    """Identity of a call: a task and a digest of its arguments."""

    task_id: TaskId
    args_id: str

    @property
    def key(self) -> str:
        """``module.func_name#digest``."""
        return f"{self.task_id.key}#{self.args_id}"

    @classmethod
    def from_key(cls, key: str) -> CallId:
        """The inverse of :attr:`key`; raises ``ValueError`` when there is no ``#``."""
        task, hash_sign, digest = key.partition("#")
        if not hash_sign:
            raise ValueError(f"{key!r} is not a call id; it should read 'module.function#digest'")
        return cls(TaskId.from_key(task), digest)

    def __str__(self) -> str:
        return self.key


class InvocationId(str):
    """Identity of an invocation: the text of a UUID."""

    __slots__ = ()


def digest(*parts: str | bytes) -> str:
    """32 hexadecimal digits of BLAKE2b over the length-prefixed parts: no two lists of parts collide by concatenation."""
    from hashlib import blake2b  # takes long to import

    state = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


#: Any hexadecimal digit → one that begins with the bits of the variant of RFC 9562.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def uuid7_head(unix_ms: int) -> str:
    """The start of a version 7 UUID, from a time in milliseconds; one of :func:`uuid7_tails` completes it."""
    hexa = f"{unix_ms:012x}"
    return f"{hexa[:8]}-{hexa[8:]}"


def uuid7_tails(entropy: bytes) -> list[str]:
    """What follows the head of version 7 UUIDs: one for every ten bytes of entropy, of which 74 bits are used."""
    digits = entropy.hex()
    tens = [digits[start : start + 20] for start in range(0, len(digits), 20)]
    return [f"-7{hexa[1:4]}-{_VARIANT[hexa[4]]}{hexa[5:8]}-{hexa[8:]}" for hexa in tens]


def derived_id(*parts: str) -> str:
    """The text of a version 8 UUID (RFC 9562, application-defined) that depends on ``parts`` only."""
    hexa = digest(*parts)
    return f"{hexa[:8]}-{hexa[8:12]}-8{hexa[13:16]}-{_VARIANT[hexa[16]]}{hexa[17:20]}-{hexa[20:]}"
