"""Chaos: real processes on one store, killed, stopped and replaced while they work; afterwards all witnesses are compared.

Theory of operation
-------------------
Runners of every kind work on one store with a short lease: an SQLite file, or a server behind a proxy. Clients submit and are
killed in mid batch. The nemesis sends SIGKILL to runners, to their children and to clients, and SIGSTOP for half a lease up to three,
then SIGCONT; it kills the server and starts it again, ends its sessions, cuts connections, silences them, and loses replies after what
they tell of was done (:mod:`~pynenc.testing.chaos.ground`). Everything that the checker needs
is written beside the store: bodies and clients append single lines to files (:mod:`~pynenc.testing.chaos.witness`), so that what a
store forgot is still known. When the storm is over the survivors finish
what is left, and :mod:`~pynenc.testing.chaos.verdict` compares witnesses, acknowledgements and the store.
"""

from __future__ import annotations

from pynenc.testing.chaos.storm import ChaosPlan, run_chaos

__all__ = ["ChaosPlan", "run_chaos"]
