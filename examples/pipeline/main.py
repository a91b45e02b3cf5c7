"""Three files arrive while no runner is there, one of them broken; then a runner starts, works until nothing is left, and stops.

python main.py
"""

import subprocess
import sys
from pathlib import Path

from tasks import add_up, app, complain, conclude, parse

FILES = {"north": "1 2 3", "south": "40 50", "west": "7 eight"}


def main() -> None:
    for name, text in FILES.items():
        app.trigger.emit_event("file.arrived", {"name": name, "text": text})
    command = [sys.executable, "-m", "pynenc", "--app", "tasks", "runner", "start", "--burst", "--processes", "1"]
    subprocess.run([*command, "--log-level", "critical"], cwd=Path(__file__).parent, check=True)

    for task in (parse, add_up, complain, conclude):
        calls = app.find_invocations(tasks=task.task_id.key)
        print(f"{task.func.__name__}: {', '.join(sorted(f'{call.status}' for call in calls))}")
    (conclusion,) = app.find_invocations(tasks=conclude.task_id.key)
    (complaint,) = app.find_invocations(tasks=complain.task_id.key)
    print(f"total {conclusion.result}; {complaint.result}")


if __name__ == "__main__":
    main()
