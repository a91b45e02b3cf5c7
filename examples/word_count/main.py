"""Write some files, count their words with a runner in processes of its own, check the sum.

python main.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tasks import count_folder

FILES = 40
TEXT = "the quick brown fox jumps over the lazy dog and the fox sleeps"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(FILES):
            (folder / f"{number}.txt").write_text(f"{TEXT}\n" * (number + 1))

        invocation = count_folder(folder)  # accepted and stored; nothing runs yet
        run_until_idle()
        counted = invocation.result

    lines = sum(range(1, FILES + 1))
    assert counted["the"] == 3 * lines
    assert counted.total() == len(TEXT.split()) * lines
    print(f"{FILES} files, {counted.total()} words")
    print("commonest:", ", ".join(f"{word} {number}" for word, number in counted.most_common(2)))


def run_until_idle() -> None:
    """Start a runner as from a terminal; with --burst it ends when nothing is left to do."""
    command = [sys.executable, "-m", "pynenc", "--app", "tasks", "runner", "start", "--burst", "--log-level", "warning"]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)


if __name__ == "__main__":
    main()
