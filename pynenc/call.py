"""Calls: a task with the arguments of one invocation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic

from pynenc.arguments import Arguments
from pynenc.core.ids import CallId
from pynenc.core.records import Submitted
from pynenc.engine.codec import Encoded
from pynenc.engine.spec import TaskSpec
from pynenc.types import Params, Result

if TYPE_CHECKING:
    from pynenc.invocation.base_invocation import BaseInvocation
    from pynenc.task import Task


class Call(Generic[Params, Result]):
    """A task and its arguments, bound by name with defaults applied. Equal calls have equal ``call_id``."""

    def __init__(self, task: Task[Params, Result], arguments: Arguments) -> None:
        self.task = task
        self.arguments = arguments

    @property
    def call_id(self) -> CallId:
        """Identity of the call: the task and a digest of the encoded arguments."""
        return CallId(self.task.task_id, self.task.app.engine.codec.digest(self.encoded()))

    def encoded(self) -> Encoded:
        """The arguments as the store keeps them."""
        return self.task.app.engine.codec.encode(self.task.spec, self.arguments.kwargs)

    @property
    def spec(self) -> TaskSpec:
        """The task as the engine needs it."""
        return self.task.spec

    def accepted(self, answer: Submitted) -> BaseInvocation[Params, Result]:
        """The invocation of the call, from the answer of the store."""
        return self.task._accepted(self.task.app.engine, answer, self.arguments.kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and other.call_id == self.call_id

    def __hash__(self) -> int:
        return hash(self.call_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task.task_id.key}, {self.arguments!r})"


class PreSerializedCall(Call[Params, Result]):
    """A call of a batch: the arguments that the batch shares were encoded once, before.

    :param arguments: all arguments, the shared ones too. :param common: the encoding of the shared ones, by name.
    """

    def __init__(self, task: Task[Params, Result], arguments: Arguments, common: Mapping[str, bytes]) -> None:
        super().__init__(task, arguments)
        self.common = common

    def encoded(self) -> Encoded:
        """The arguments as the store keeps them, joined from the shared and the own part."""
        own = {name: value for name, value in self.arguments.kwargs.items() if name not in self.common}
        return self.task.app.engine.codec.encode_with_common(self.task.spec, self.common, own)
