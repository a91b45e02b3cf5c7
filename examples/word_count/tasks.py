"""Count words of many files: one task for each batch of files, and one that adds up."""

import re
from collections import Counter
from pathlib import Path

from pynenc import Pynenc

app = Pynenc(app_id="word_count")

WORD = re.compile(r"[a-z]+")
BATCH = 8


@app.task
def count_words(paths: list[Path]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for path in paths:
        counted.update(WORD.findall(path.read_text().lower()))
    return counted


@app.task
def count_folder(folder: Path) -> Counter[str]:
    paths = sorted(folder.glob("*.txt"))
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    total: Counter[str] = Counter()
    for counted in count_words.map(batches).results:  # the slot is free while this waits
        total += counted
    return total
