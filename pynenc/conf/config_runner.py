"""The settings of runners: ``app.conf.runner``."""

from __future__ import annotations

from pynenc.conf.section import Section, setting
from pynenc.conf.values import boolean, choice, duration, number, optional, several, size, text, whole
from pynenc.exceptions import ConfigError

__all__ = ["ConfigRunner"]


class ConfigRunner(Section, section="runner"):
    """How a runner works; a table of the class's own name (``[tool.pynenc.threadrunner]``) overrides ``runner``."""

    name: str | None = setting(None, optional(text()), "Name shown for the runner; none for its class.", flat=False)
    processes: int = setting(0, whole(), "Worker processes; 0 for one per CPU.", aliases=("num_processes",))
    threads: int = setting(8, whole(minimum=1), "Threads in each process: how many sync tasks it runs at once.")
    min_threads: int = setting(1, whole(minimum=1), "Fewest threads of ThreadRunner, also where 'threads' says less.")
    max_threads: int = setting(0, whole(), "Threads of ThreadRunner, which keeps all of them ready; 0 takes 'threads'.")
    coroutines: int = setting(100, whole(minimum=1), "Async tasks that one process runs at once.")
    queues: tuple[str, ...] = setting((), several(text()), "Queues to serve, in order; empty for all.")
    queue_policy: str = setting(
        "ordered", choice("ordered", "round_robin", "weighted"), "How several queues share the slots."
    )
    queue_weights: tuple[float, ...] = setting(
        (), several(number(minimum=0.001)), "For 'weighted': one weight for each of 'queues'."
    )
    heartbeat_seconds: float = setting(5.0, duration(exclusive=True), "Seconds between two heartbeats.")
    lease_seconds: float = setting(
        15.0, duration(exclusive=True), "Seconds without heartbeat after which others take the work over."
    )
    shutdown_timeout: float = setting(30.0, duration(), "Seconds that running tasks get to finish at a graceful stop.")
    max_tasks_per_child: int = setting(0, whole(), "Tasks after which a worker process is replaced; 0 for never.")
    max_memory_per_child: int = setting(
        0, size, "Resident bytes (or 512MB) above which a worker process is replaced; 0 for no limit."
    )
    max_claim_ahead: int = setting(256, whole(), "Most invocations a process claims beyond its free slots.")
    poll_seconds: float = setting(
        1.0, duration(exclusive=True), "Safety net: longest wait for a wake-up from the store."
    )
    flush_ms: float = setting(
        5.0, number(minimum=0.0), "Milliseconds that an outcome may wait to be written with others."
    )
    cancel_grace: float = setting(5.0, duration(), "Seconds between asking a task to end and killing its process.")
    burst: bool = setting(False, boolean, "Stop when nothing is left to do.")
    health_port: int | None = setting(
        None, optional(whole(maximum=65535)), "Port of /livez, /readyz and /metrics; 0 for any, none for no port."
    )
    health_host: str = setting(
        "127.0.0.1", text(), "Address of the health port; 0.0.0.0 for all, as probes of Kubernetes need it."
    )
    health_timeout: float = setting(
        10.0,
        duration(exclusive=True),
        "Seconds without a look for work, or an answer of the store, after which a runner is not ready.",
    )

    def check(self) -> None:
        """Refuse leases shorter than heartbeats, health times shorter than polls, thread ranges upside down, and weights without queues."""
        if self.lease_seconds <= self.heartbeat_seconds:
            raise ConfigError(
                f"'lease_seconds' ({self.lease_seconds:g}, {self.origin('lease_seconds')}) must be longer than "
                f"'heartbeat_seconds' ({self.heartbeat_seconds:g}, {self.origin('heartbeat_seconds')}): three times is safe"
            )
        if self.health_port is not None and self.health_timeout <= self.poll_seconds + 1:
            raise ConfigError(
                f"'health_timeout' ({self.health_timeout:g}, {self.origin('health_timeout')}) must be more than a second longer than "
                f"'poll_seconds' ({self.poll_seconds:g}, {self.origin('poll_seconds')}): idle runners look for work that often"
            )
        if self.max_threads and self.max_threads < self.min_threads:
            raise ConfigError(f"'max_threads' ({self.max_threads}) is less than 'min_threads' ({self.min_threads})")
        if self.queue_weights and len(self.queue_weights) != len(self.queues):
            raise ConfigError(
                f"'queue_weights' has {len(self.queue_weights)} weights for {len(self.queues)} 'queues': give one for each"
            )
