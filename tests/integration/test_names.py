"""Names that not every store can keep are refused at the call, with the same words on all stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pynenc import Pynenc
from pynenc.exceptions import ConfigError, InvocationNotFoundError
from pynenc.testing.servers.postgres import empty_url
from pynenc.workflow.workflow_context import WorkflowContext
from tests.servers import url_for

STORES: dict[str, Callable[[Path], str]] = {
    "memory": lambda _: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder / 'names.db'}",
    "postgresql": lambda _: empty_url(),
    "redis": url_for,
}
#: What takes a name, and the error that it raises.
USES: dict[str, tuple[Callable[[Pynenc, Any, str], object], type[Exception]]] = {
    "queue of a task": (lambda app, _, name: app.task(queue=name)(other), ConfigError),
    "queue of a call": (lambda _, task, name: task.options(queue=name), ValueError),
    "key of a call": (lambda _, task, name: task.options(key=name), ValueError),
    "tag of a call": (lambda _, task, name: task.options(tags=(name,)), ValueError),
    "id": (lambda app, _, name: app.get_invocation(name), InvocationNotFoundError),
    "id to cancel": (lambda app, _, name: app.engine.cancel([name]), InvocationNotFoundError),
    "id to resume": (lambda app, _, name: app.engine.resume(name), InvocationNotFoundError),
    "signal": (lambda app, task, name: app.engine.signal(task(1).invocation_id, name), ValueError),
    "event": (lambda app, _, name: app.trigger.emit_event(name), ValueError),
    "queue to search": (lambda app, _, name: app.find_invocations(queues=name), ValueError),
    "ids to search": (lambda app, _, name: app.find_invocations(ids={name}), ValueError),
    "tags to search": (lambda app, _, name: app.find_invocations(tags=iter([name])), ValueError),
    "text to search": (lambda app, _, name: app.find_invocations(text=name), ValueError),
}


def task(x: int) -> int:
    return x


def other(x: int) -> int:
    return x


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"], ids=["NUL", "surrogate"])
@pytest.mark.parametrize("store", STORES)
def test_a_name_that_not_every_store_can_keep_is_refused(store: str, name: str, tmp_path: Path) -> None:
    app = Pynenc(app_id="names", store=STORES[store](tmp_path))
    known = app.task(task)
    known(1)
    for use, error in USES.values():
        with pytest.raises(error) as raised:
            use(app, known, name)
        str(raised.value).encode()
        assert "\0" not in str(raised.value)
    app.close()


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"], ids=["NUL", "surrogate"])
def test_so_is_a_key_of_workflow_data(name: str) -> None:
    context = WorkflowContext.__new__(WorkflowContext)
    for use in (context.get_data, lambda key: context.set_data(key, 1)):
        with pytest.raises(ValueError, match="the key of workflow data must be Unicode"):
            use(name)
