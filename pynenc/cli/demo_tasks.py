"""The tasks of ``pynenc demo``: a word index of the Python standard library's own source files."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pynenc.app import Pynenc
from pynenc.conf.config_task import ConcurrencyControlType
from pynenc.exceptions import RetryError

app = Pynenc(app_id="demo", store=f"sqlite:///{Path.cwd() / '.pynenc' / 'demo.db'}")

_WORD = re.compile(r"[A-Za-z_]{3,}")
#: Letters whose sections of the index are written one at a time.
SECTIONS = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Stats:
    """What was counted in some files."""

    files: int = 0
    lines: int = 0
    words: int = 0
    common: dict[str, int] = field(default_factory=dict)
    documented: int = 0


def library_files() -> list[str]:
    """The source files of the standard library, without its tests."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
    return sorted(str(path) for path in root.rglob("*.py") if not skipped & set(path.relative_to(root).parts))


@app.task
def count_words(paths: list[str], reference: str) -> Stats:
    """Map: count the words of some files, and how many of them the reference text explains."""
    known = set(_WORD.findall(reference))
    stats, counter = Stats(files=len(paths)), Counter[str]()
    for path in paths:
        text = Path(path).read_text(errors="replace")
        words = _WORD.findall(text)
        stats.lines += text.count("\n")
        stats.words += len(words)
        stats.documented += sum(word in known for word in words)
        counter.update(words)
    stats.common = dict(counter.most_common(2000))
    return stats


@app.task(running_concurrency=ConcurrencyControlType.KEYS, key_arguments=("index",))
def write_section(index: str, letter: str, words: list[str]) -> int:
    """Append a section to the index file; the key keeps two writers of one file apart."""
    with Path(index).open("a") as file:
        file.write(f"[{letter}] {' '.join(words)}\n")
    return len(words)


@app.task(max_retries=3, retry_delay=0.05)
def check_index(index: str, sections: int) -> int:
    """Read the index back. The first attempt fails on purpose, to show a retry."""
    if check_index.invocation.num_retries == 0:
        raise RetryError("the first look at the index always fails")
    lines = Path(index).read_text().splitlines()
    if len(lines) != sections:
        raise ValueError(f"{index} has {len(lines)} sections instead of {sections}")
    return sum(len(line.split()) - 1 for line in lines)


@app.task
def index_library(batches: list[list[str]], reference: str, index: str) -> Stats:
    """Reduce: spread the files, wait for the counts, write the index and have it checked. Waiting costs no slot."""
    Path(index).unlink(missing_ok=True)
    total, counter = Stats(), Counter[str]()
    for stats in count_words.parallelize([{"paths": batch} for batch in batches], {"reference": reference}).results:
        total.files += stats.files
        total.lines += stats.lines
        total.words += stats.words
        total.documented += stats.documented
        counter.update(stats.common)
    sections = [(letter, sorted(word for word in counter if word.lower().startswith(letter))) for letter in SECTIONS]
    list(write_section.parallelize([(index, letter, words) for letter, words in sections]).results)
    assert check_index(index, len(sections)).result == sum(len(words) for _, words in sections)
    total.common = dict(counter.most_common(10))
    return total
