"""The cases, by the name that ``--only`` takes. Each is a module with one function ``measure``; imported when it is its turn."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from benchmarks.harness import Bench, Report

CASES = {
    "enqueue-normal": "enqueue:measure_normal",
    "enqueue-full": "enqueue:measure_full",
    "parallelize": "bulk:measure",
    "drain": "drain:measure",
    "drain-processes": "drain_processes:measure",
    "round-trip": "round_trip:measure",
    "memory-drain": "memory_drain:measure",
    "triggers": "triggers:measure",
    "workflow-steps": "workflow_steps:measure_sqlite",
    "workflow-replay": "workflow_replay:measure_sqlite",
    "workflow-sleepers": "workflow_sleepers:measure",
    "process-slots": "process_slots:measure",
    "cpu-bound": "cpu_bound:measure",
    "common-argument": "common_argument:measure",
    "fibonacci": "fibonacci:measure",
    "idle": "idle:measure",
    "import": "import_time:measure",
    "memory-slope": "memory_slope:measure",
    "claim-sqlite": "claim_cost:measure_sqlite",
    "claim-memory": "claim_cost:measure_memory",
    "enqueue-redis": "server_enqueue:measure_redis",
    "bulk-redis": "server_bulk:measure_redis",
    "drain-redis": "server_drain:measure_redis",
    "round-trip-redis": "server_round_trip:measure_redis",
    "claim-redis": "claim_cost:measure_redis",
    "cost-redis": "server_cost:measure_redis",
    "enqueue-postgres": "server_enqueue:measure_postgres",
    "bulk-postgres": "server_bulk:measure_postgres",
    "drain-postgres": "server_drain:measure_postgres",
    "round-trip-postgres": "server_round_trip:measure_postgres",
    "workflow-steps-postgres": "workflow_steps:measure_postgres",
    "workflow-replay-postgres": "workflow_replay:measure_postgres",
    "claim-postgres": "claim_cost:measure_postgres",
    "cost-postgres": "server_cost:measure_postgres",
}


def load(name: str) -> Callable[[Bench], Report]:
    """The function that measures a case."""
    module, _, function = CASES[name].partition(":")
    found: Callable[[Bench], Report] = getattr(import_module(f"benchmarks.cases.{module}"), function)
    return found
