"""What a store does by itself when the status of an invocation changes: it submits another one."""

from __future__ import annotations

import msgspec

from pynenc.core.records import New
from pynenc.core.status import InvocationStatus

#: What the names of tasks begin with whose bodies decide about triggers. Changes of their invocations concern only reactions that name them.
FIRING = "pynenc.trigger."
#: The scope of values in which the definitions of all declared triggers are.
DEFINITIONS = "pynenc.triggers"
#: What the arguments of a firing look like that a store put together: around the cause. They carry no signature.
CHANGE_HEAD, CHANGE_TAIL = b'{"kind":"change","cause":"', b'"}'


class Reaction(msgspec.Struct, frozen=True, gc=False):
    """What a store submits whenever an invocation of ``task`` (empty: of any task that does not begin with :data:`FIRING`) becomes ``status``,
    one of :data:`pynenc.core.status.REACTED`.

    ``new`` is a template: its id and arguments are completed with the *cause*, see :func:`cause_of`.
    """

    task: str
    status: InvocationStatus
    new: New
    tail: bytes = b""

    def answer(self, owner: str, cause: str) -> New:
        """The invocation to submit: ``owner~cause`` is its id; its arguments are those of the template, the cause, and ``tail``."""
        return msgspec.structs.replace(self.new, id=f"{owner}~{cause}", args=self.new.args + cause.encode() + self.tail)


def cause_of(invocation_id: str, status: InvocationStatus, round_: int, attempt: int) -> str:
    """One change of status, told apart from all others."""
    return f"{invocation_id}~{status}~{round_}~{attempt}"
