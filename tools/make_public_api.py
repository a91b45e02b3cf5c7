"""Write down the public API: every name that users may rely on, with its signature.

The list is committed as ``tests/api/public_api.txt``; a test compares it with the code, so that nothing public changes
unnoticed. After a change that is meant:

    python -m tools.make_public_api
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

LIST = Path(__file__).resolve().parents[1] / "tests" / "api" / "public_api.txt"

#: Import path → public names, as the documentation promises them.
PUBLIC: dict[str, tuple[str, ...]] = {
    "pynenc": (
        "Pynenc",
        "PynencBuilder",
        "Task",
        "ConcurrencyControlType",
        "InvocationStatus",
        "RetryError",
        "__version__",
    ),
    "pynenc.app": ("Pynenc",),
    "pynenc.arguments": ("Arguments",),
    "pynenc.builder": ("PynencBuilder",),
    "pynenc.call": ("Call", "PreSerializedCall"),
    "pynenc.conf.config_pynenc": ("ArgumentPrintMode", "ConfigPynenc", "LogFormat"),
    "pynenc.conf.config_runner": ("ConfigRunner",),
    "pynenc.conf.config_task": ("ConcurrencyControlType", "ConfigTask"),
    "pynenc.context": ("wrap",),
    "pynenc.exceptions": (
        *(
            "PynencError",
            "RetryError",
            "SerializationError",
            "ConfigError",
            "TaskError",
            "InvalidTaskOptionsError",
            "TaskRoutingError",
        ),
        *("InvocationConcurrencyWithDifferentArgumentsError", "TaskTimeoutError", "TaskFailedError", "WorkerLostError"),
        *(
            "InvocationError",
            "InvocationNotFoundError",
            "InvocationCancelledError",
            "ConcurrencyControlledError",
            "ResultTimeoutError",
        ),
        *(
            "CycleDetectedError",
            "RunnerError",
            "RunnerNotExecutableError",
            "InvocationStatusError",
            "StoreError",
            "WorkflowError",
        ),
        *("WorkflowPauseError", "NonDeterminismError", "WorkflowMembershipError", "TriggerError"),
    ),
    "pynenc.identifiers.call_id": ("CallId",),
    "pynenc.identifiers.invocation_id": ("InvocationId",),
    "pynenc.identifiers.task_id": ("TaskId",),
    "pynenc.invocation": (
        *(
            "BaseInvocation",
            "BaseInvocationGroup",
            "DistributedInvocation",
            "DistributedInvocationGroup",
            "ReusedInvocation",
        ),
        *("ConcurrentInvocation", "ConcurrentInvocationGroup", "InvocationStatus"),
    ),
    "pynenc.invocation.base_invocation": ("BaseInvocation", "BaseInvocationGroup"),
    "pynenc.invocation.conc_invocation": ("ConcurrentInvocation", "ConcurrentInvocationGroup"),
    "pynenc.invocation.dist_invocation": ("DistributedInvocation", "DistributedInvocationGroup", "ReusedInvocation"),
    "pynenc.invocation.status": ("InvocationStatus",),
    "pynenc.runner": ("ThreadRunner", "ProcessRunner", "MultiThreadRunner", "PersistentProcessRunner", "DummyRunner"),
    "pynenc.serializer": ("BaseSerializer", "JsonSerializer", "JsonSerializable", "PickleSerializer"),
    "pynenc.task": (
        *(
            "Task",
            "WorkflowTask",
            "can_batch_process",
            "prepare_arguments",
            "distribute_calls",
            "distribute_batch_calls",
        ),
        "_extract_task_from_wrapper",
    ),
    "pynenc.types": ("Params", "Result", "Func", "Args"),
    "pynenc.trigger": (
        *(
            "TriggerBuilder",
            "on_any_result",
            "on_cron",
            "on_event",
            "on_exception",
            "on_interval",
            "on_result",
            "on_status",
        ),
    ),
    "pynenc.trigger.trigger_builder": (
        *(
            "TriggerBuilder",
            "on_any_result",
            "on_cron",
            "on_event",
            "on_exception",
            "on_interval",
            "on_result",
            "on_status",
        ),
    ),
    "pynenc.trigger.arguments": (
        *("ArgumentProvider", "StaticArguments", "ContextProvider", "TriggerContextProvider"),
        *("MappingFilter", "ValueFilter", "FunctionFilter", "make_filter"),
    ),
    "pynenc.trigger.conditions.base": ("Condition", "ConditionContext", "TriggerContext"),
    "pynenc.trigger.conditions.composite": ("CompositeCondition", "CompositeContext"),
    "pynenc.trigger.conditions.cron": ("CronCondition", "CronContext", "IntervalCondition"),
    "pynenc.trigger.conditions.event": ("EventCondition", "EventContext"),
    "pynenc.trigger.conditions.exception": ("ExceptionCondition", "ExceptionContext"),
    "pynenc.trigger.conditions.result": ("ResultCondition", "ResultContext"),
    "pynenc.trigger.conditions.status": ("StatusCondition", "StatusContext"),
    "pynenc.engine.triggers": ("Described", "Triggers"),
    "pynenc.workflow": ("WorkflowContext", "WorkflowIdentity", "WorkflowError", "WorkflowPauseError"),
    "pynenc.workflow.workflow_context": ("WorkflowContext",),
    "pynenc.workflow.workflow_exceptions": ("WorkflowError", "WorkflowPauseError"),
    "pynenc.workflow.workflow_identity": ("WorkflowIdentity",),
}
#: Members with an underscore that are public all the same.
ALSO_PUBLIC = frozenset(
    {"__call__", "__getstate__", "__setstate__", "__str__", "__repr__", "_call", "_get_from_task_id"}
)


def resolve(path: str, name: str) -> Any:
    """The object behind a public name."""
    return getattr(import_module(path), name)


def describe_all() -> str:
    """The whole list; a name that lives elsewhere is described once, at the first path that leads to it."""
    seen: dict[int, str] = {}
    lines: list[str] = []
    for path, names in PUBLIC.items():
        for name in names:
            found = resolve(path, name)
            first = seen.setdefault(id(found), f"{path}.{name}")
            is_alias = first != f"{path}.{name}" and not isinstance(found, str)
            lines += [f"{path}.{name} is {first}"] if is_alias else describe(f"{path}.{name}", found)
    return "".join(f"{line}\n" for line in lines)


def describe(path: str, found: Any) -> Iterator[str]:
    """The lines of one public object and its members."""
    if inspect.isclass(found):
        bases = ", ".join(base.__name__ for base in found.__bases__ if base is not object)
        yield f"class {path}({bases})"
        yield from _members(path, found)
    elif inspect.isroutine(found):
        yield _signature(path, found)
    else:
        yield f"{path}: {type(found).__name__}"


def _members(path: str, kind: type) -> Iterator[str]:
    if issubclass(kind, enum.Enum):
        yield from (f"{path}.{name} = {member.value!r}" for name, member in kind.__members__.items())
    elif _is_ours(kind.__init__):
        yield _signature(f"{path}.__init__", kind.__init__)
    settings = getattr(kind, "settings", None)
    if isinstance(settings, dict):
        yield from (f"{path}.{name}: {kind.__annotations__[name]}" for name in settings)
    for name in sorted(dir(kind)):
        if name.startswith("_") and name not in ALSO_PUBLIC:
            continue
        member = inspect.getattr_static(kind, name)
        if isinstance(member, property):
            yield f"{path}.{name}: property -> {_returns(member.fget)}"
        elif isinstance(member, cached_property):
            yield f"{path}.{name}: property -> {_returns(member.func)}"
        elif inspect.isroutine(getattr(kind, name)) and _is_ours(getattr(kind, name)):
            prefix = type(member).__name__ + " " if isinstance(member, classmethod | staticmethod) else ""
            yield prefix + _signature(f"{path}.{name}", getattr(kind, name))
    yield from _fields(path, kind)


def _fields(path: str, kind: type) -> Iterator[str]:
    """Attributes that a record declares, or that the class's docstring names (``:ivar x:``)."""
    declared = re.findall(r":ivar (\w+):", inspect.getdoc(kind) or "")
    slots = getattr(kind, "__dataclass_fields__", ())
    yield from (f"{path}.{name}: attribute" for name in sorted({*declared, *slots}) if not name.startswith("_"))


def _is_ours(member: Any) -> bool:
    return str(getattr(member, "__module__", "")).partition(".")[0] == "pynenc"


def _signature(path: str, function: Any) -> str:
    try:
        text = str(inspect.signature(function))
    except (TypeError, ValueError):
        text = "(...)"
    return ("async " if inspect.iscoroutinefunction(function) else "") + path + _plain(text)


def _returns(getter: Any) -> str:
    return _plain(str(inspect.signature(getter).return_annotation))


def _plain(signature: str) -> str:
    """A signature as it is written: annotations without quotes, defaults without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", signature.replace("'", ""))


def main() -> int:
    """Write the list; the exit code."""
    LIST.write_text(describe_all(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
