"""Invocations that a runner executes, here or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pynenc.arguments import Arguments
from pynenc.invocation.base_invocation import BaseInvocation, BaseInvocationGroup
from pynenc.types import Params, Result

if TYPE_CHECKING:
    from pynenc.engine import Engine
    from pynenc.task import Task


class DistributedInvocation(BaseInvocation[Params, Result]):
    """An invocation in the app's store."""

    __slots__ = ()


class ReusedInvocation(DistributedInvocation[Params, Result]):
    """The answer to a call that an invocation registered before stands in for; it has that invocation's id.

    :ivar diff_arg: the arguments of the call that was not submitted, when they differ from the registered ones; else None.
    """

    __slots__ = ("diff_arg",)

    def __init__(
        self,
        task: Task[Params, Result],
        invocation_id: str,
        engine: Engine,
        *,
        arguments: Arguments | None = None,
        diff_arg: Arguments | None = None,
    ) -> None:
        super().__init__(task, invocation_id, engine, arguments=arguments)
        self.diff_arg = diff_arg


class DistributedInvocationGroup(BaseInvocationGroup[Params, Result]):
    """What ``parallelize`` returns."""


__all__ = ["DistributedInvocation", "DistributedInvocationGroup", "ReusedInvocation"]
