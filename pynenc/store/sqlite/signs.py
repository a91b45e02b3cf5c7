"""Signs of life between processes of one machine: a lock file for each group of runners, which the kernel releases when its process dies."""

from __future__ import annotations

import fcntl
import os
from hashlib import blake2b
from pathlib import Path


class Signs:
    """The lock files in one folder. ``flock`` belongs to the open file, so two stores of one process exclude one another as well."""

    def __init__(self, folder: Path, app_id: str) -> None:
        self._folder = folder
        self._app_id = app_id
        self._held: dict[str, int] = {}

    def _path(self, group: str) -> Path:
        return self._folder / f"alive-{blake2b(f'{self._app_id}/{group}'.encode(), digest_size=12).hexdigest()}"

    def hold(self, group: str) -> None:
        """Show that this process lives, on behalf of a group."""
        if group in self._held:
            return
        handle = os.open(self._path(group), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)  # another store of this process shows it
            return
        self._held[group] = handle

    def release(self, group: str) -> None:
        """Stop showing it."""
        handle = self._held.pop(group, None)
        if handle is not None:
            os.close(handle)

    def is_dead(self, group: str) -> bool:
        """Whether the process behind a group certainly died: there is its file, and nobody holds it."""
        if group in self._held:
            return False
        try:
            handle = os.open(self._path(group), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
        return True

    def forget(self, group: str) -> None:
        """Remove the file of a group that has no runners any more."""
        self.release(group)
        self._path(group).unlink(missing_ok=True)

    def close(self) -> None:
        """Release all."""
        for group in list(self._held):
            self.release(group)
