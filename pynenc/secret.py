"""A value that must not be seen: in logs, errors and monitors it is three stars."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar, final

T = TypeVar("T")


@final
class Secret(Generic[T]):
    """Wraps a value so that printing it tells nothing; it travels to the task and stays a ``Secret`` of the same type.

    The stored arguments do contain the value: what is hidden is every place that shows them.
    """

    __slots__ = ("_value",)
    #: How those who show values know it.
    __pynenc_secret__: ClassVar = True

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself."""
        return self._value

    def get_secret_value(self) -> T:
        """The value itself, by the name that other libraries use."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))
