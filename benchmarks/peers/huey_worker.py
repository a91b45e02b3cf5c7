"""A consumer of huey in a process of its own: ``python -m benchmarks.peers.huey_worker '{"place": {"url": ...}, "workers": 10}'``."""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks import marks
from benchmarks.peers import huey_peer


def main(options: dict[str, Any]) -> None:
    """Consume until a signal ends it."""
    marks.attach()
    huey, _ = huey_peer.make(options.pop("place"))
    huey.create_consumer(periodic=False, **options).run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
