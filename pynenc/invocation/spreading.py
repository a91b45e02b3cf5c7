"""Many calls at once: how they are bound, encoded and submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from pynenc.arguments import Arguments
from pynenc.core.binding import Binder
from pynenc.core.options import ConcurrencyControlType
from pynenc.engine.call_options import CallOptions
from pynenc.engine.spec import TaskSpec
from pynenc.invocation.base_invocation import BaseInvocation, BaseInvocationGroup
from pynenc.invocation.conc_invocation import ConcurrentInvocationGroup
from pynenc.invocation.dist_invocation import DistributedInvocation, DistributedInvocationGroup, ReusedInvocation
from pynenc.types import Params, Result
from pynenc.workflow.flow import recording

if TYPE_CHECKING:
    from pynenc.core.records import Submitted
    from pynenc.engine import Engine
    from pynenc.engine.codec import Encoded
    from pynenc.task import Task

#: What one call of ``parallelize`` may be given as.
CallParams = tuple[Any, ...] | dict[str, Any] | Arguments
Track = Callable[[Iterable[Any]], Iterable[Any]]


def distribute(
    task: Task[Params, Result],
    params: Sequence[CallParams],
    common: dict[str, Any] | None,
    options: CallOptions,
    *,
    progress: bool,
) -> BaseInvocationGroup[Params, Result]:
    """Submit calls: in batches where that is possible, else one by one."""
    if common is not None and not isinstance(common, Mapping):
        raise TypeError(f"common_args is a dict from names of parameters to values, not {type(common).__name__}")
    track = _progress_bar(task, len(params)) if progress else iter
    if can_batch_process(task, len(params)):
        return in_batches(task, params, common, options, track)
    return one_by_one(task, params, common, options, track)


def one_by_one(
    task: Task[Params, Result],
    params: Sequence[CallParams],
    common: dict[str, Any] | None,
    options: CallOptions,
    track: Track,
) -> BaseInvocationGroup[Params, Result]:
    """Submit calls one by one; ``track`` sees them pass."""
    accepted: list[BaseInvocation[Params, Result]] = []
    bound = [bind(task.spec.binder, item, common) for item in params]
    with _Accepted(accepted):
        accepted.extend(task._submit(task.spec, arguments, options) for arguments in track(bound))
    kind = ConcurrentInvocationGroup if task.app.is_dev_mode else DistributedInvocationGroup
    return kind(task, accepted)


def in_batches(
    task: Task[Params, Result],
    params: Sequence[CallParams],
    common: dict[str, Any] | None,
    options: CallOptions,
    track: Track,
) -> DistributedInvocationGroup[Params, Result]:
    """Submit calls in batches of ``parallel_batch_size``, one transaction each."""
    engine = task.app.engine
    spec = task.spec
    accepted: list[BaseInvocation[Params, Result]] = []
    encode = _encoder(task, common)
    calls = iter(track(params))
    flow = recording(engine)
    with _Accepted(accepted):
        while batch := list(islice(calls, task.conf.parallel_batch_size or 1)):
            submit = partial(_submit_batch, engine, spec, batch, encode, options)
            if flow is not None:
                children, _ = flow.call(spec.key, len(batch), submit)
                accepted.extend([DistributedInvocation(task, child, engine) for child in children])
                continue
            answers = submit(None)
            accepted.extend(
                [
                    (ReusedInvocation if answer.existing else DistributedInvocation)(task, answer.id, engine)
                    for answer in answers
                ]
            )
    return DistributedInvocationGroup(task, accepted)


def _submit_batch(
    engine: Engine,
    spec: TaskSpec,
    batch: Sequence[CallParams],
    encode: Callable[[CallParams], Encoded],
    options: CallOptions,
    ids: Sequence[str] | None,
) -> list[Submitted]:
    return engine.submitter.submit_encoded(spec, [encode(item) for item in batch], options, ids)


def _encoder(task: Task[Any, Any], common: dict[str, Any] | None) -> Callable[[CallParams], Encoded]:
    """How one call of a batch is encoded: the common part only once."""
    codec, spec = task.app.engine.codec, task.spec
    binder = spec.binder
    if not common:
        return lambda params: codec.encode(spec, bind(binder, params, None))
    fragments = codec.encode_common(spec, common)

    def encode(params: CallParams) -> Encoded:
        bound = bind(binder, params, common)
        own = {
            name: value
            for name, value in bound.items()
            if name not in fragments or (isinstance(params, dict) and name in params)
        }
        return codec.encode_with_common(spec, fragments, own)

    return encode


def bind(binder: Binder, params: CallParams, common: dict[str, Any] | None) -> dict[str, Any]:
    """The arguments of one call, bound by name."""
    if common:
        if not isinstance(params, dict):
            raise ValueError(
                f"with common_args each call is a dict of its own arguments, not {type(params).__name__}: {params!r:.80}"
            )
        return binder.bind((), {**common, **params})
    if isinstance(params, tuple):
        return binder.bind(params, {})
    if isinstance(params, dict):
        return binder.bind((), params)
    if isinstance(params, Arguments):
        return params.kwargs if tuple(params.kwargs) == binder.names else binder.complete(params.kwargs)
    raise TypeError(
        f"each call of parallelize is a tuple, a dict or {binder.name}.args(...), not {type(params).__name__}: {params!r:.80}"
    )


class _Accepted:
    """Tells an exception what had been accepted before it."""

    def __init__(self, accepted: Sequence[object]) -> None:
        self._accepted = accepted

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            error.__dict__["accepted"] = tuple(self._accepted)


def _progress_bar(task: Task[Any, Any], total: int) -> Track:
    from rich.console import Console
    from rich.progress import track

    return lambda items: track(items, description=task.task_id.func_name, total=total, console=Console(stderr=True))


def can_batch_process(task: Task[Any, Any], num_calls: int) -> bool:
    """Whether calls of a task can be submitted in batches: more than one, a batch size, no development mode, and no control at
    registration, which answers each call on its own.
    """
    return (
        not task.app.is_dev_mode
        and num_calls > 1
        and task.conf.parallel_batch_size > 0
        and task.conf.registration_concurrency is ConcurrencyControlType.DISABLED
    )
