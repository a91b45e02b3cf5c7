"""A runner for the tasks that are measured, in a process of its own.

``python -m benchmarks.worker '{"runner_cls": "ThreadRunner", "threads": 10}'``: the settings of the runner as JSON. At the end it
prints how often values were loaded from the data store.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.tasks import app
from pynenc.runner.launch import share_one_arena


def main(settings: dict[str, Any]) -> None:
    app.conf.runner_cls = settings.pop("runner_cls")
    for name, value in settings.items():
        setattr(app.conf.runner, name, value)
    app.conf.logging_level = "ERROR"
    app.configure_logging()
    share_one_arena()  # as `pynenc runner start` does
    store, loads = app.store, 0
    load = store.get_blobs

    def counted(keys: Any) -> dict[str, bytes]:
        nonlocal loads
        loads += len(keys)
        return load(keys)

    store.get_blobs = counted  # type: ignore[method-assign]
    app.runner.run()
    print(json.dumps({"loads": loads}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
