"""Invocations of development mode: executed in the caller when the call is made, on a store in memory."""

from __future__ import annotations

from pynenc.invocation.base_invocation import BaseInvocation, BaseInvocationGroup
from pynenc.types import Params, Result


class ConcurrentInvocation(BaseInvocation[Params, Result]):
    """An invocation that ran in its caller."""

    __slots__ = ()


class ConcurrentInvocationGroup(BaseInvocationGroup[Params, Result]):
    """What ``parallelize`` returns in development mode."""
