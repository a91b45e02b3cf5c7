"""``pynenc runner``: execute invocations."""

from __future__ import annotations

import sys

import click

from pynenc.app import Pynenc
from pynenc.cli.apps import load_app
from pynenc.cli.output import DURATION, EXIT_FORCED, guarded
from pynenc.exceptions import ConfigError
from pynenc.store import open_store


@click.group(epilog="Example: pynenc runner start")
def runner() -> None:
    """Run tasks."""


@runner.command(
    epilog="Examples: pynenc runner start · pynenc runner start --threads 4 --queues high,default · pynenc --app shop.tasks runner start --burst"
)
@click.option("--processes", type=click.IntRange(0), help="Worker processes (0: one for each CPU).")
@click.option("--threads", type=click.IntRange(1), help="Threads in each process.")
@click.option("--queues", "-Q", help="Queues to serve, in order: high,default. Default: all.")
@click.option("--burst", is_flag=True, help="Stop when there is nothing left to run.")
@click.option("--reload", is_flag=True, help="Start again when a Python file here changes (extra: reload).")
@click.option("--shutdown-timeout", type=DURATION, help="How long running tasks get at the end: 30, 2m.")
@click.option("--max-tasks-per-child", type=click.IntRange(0), help="Replace a process after so many tasks.")
@click.option("--max-memory-per-child", metavar="SIZE", help="Replace a process that uses more, e.g. 512MB.")
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    help="Serve /livez, /readyz and /metrics on this port (0: any that is free).",
)
@click.option("--health-host", help="Address of the health port [127.0.0.1]; 0.0.0.0 for all.")
@click.option("--name", help="Name of the runner in listings.")
@click.option("--runner-cls", help="ThreadRunner, MultiThreadRunner, PersistentProcessRunner or ProcessRunner.")
@click.option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")
@click.pass_obj
@guarded
def start(
    spec: str | None,
    /,
    *,
    processes: int | None,
    threads: int | None,
    queues: str | None,
    burst: bool,
    reload: bool,
    runner_cls: str | None,
    log_level: str | None,
    **settings: object,
) -> None:
    """Execute invocations until SIGTERM or Ctrl-C; a second signal does not wait for running tasks."""
    if reload:
        _reload(sys.argv)
        return
    if queues is not None and not queues.strip(", "):
        raise ConfigError(
            f"--queues {queues!r} names no queue: write them as high,default, or leave it out to serve all"
        )
    app = load_app(spec)
    given = {"processes": processes, "threads": threads, "queues": queues, "burst": burst or None, **settings}
    for name, value in given.items():
        if value is not None:
            setattr(app.conf.runner, name, value)
    if runner_cls:
        app.conf.runner_cls = runner_cls
    if processes not in (None, 1) and app.conf.runner_cls.rpartition(".")[2] == "ThreadRunner":
        raise ConfigError(
            "--processes has no effect on ThreadRunner, which is one process: leave it out, or choose MultiThreadRunner"
        )
    if log_level:
        app.conf.logging_level = log_level
    if app.is_dev_mode:
        raise ConfigError(
            f"development mode is on ({app.conf.origin('dev_mode_force_sync_tasks')}): calls run in their caller, and a runner would never see one"
        )
    store = open_store(
        app.conf.store_url, app.app_id
    )  # only made: the runner waits for a server that does not answer yet
    if not store.shared:
        raise ConfigError(
            f"{store.display_url} lives in one process, where nobody else could make calls: use sqlite:///... (see `pynenc config show`)"
        )
    app.configure_logging()
    from pynenc.runner.launch import share_one_arena

    share_one_arena()
    _announce(app, store.display_url)
    app.runner.run()
    if app.runner.was_forced:
        sys.exit(EXIT_FORCED)


def _announce(app: Pynenc, where: str) -> None:
    """Say what starts, where."""
    count = len(app.import_tasks())
    runner = app.runner
    app.logger.info(
        "%s serves %s: %d task(s) from %s",
        type(runner).__name__,
        ", ".join(runner.conf.queues) or "all queues",
        count,
        where,
    )
    if not count:
        app.logger.warning("no task is known: name the modules that define tasks in the setting `imports`")


def _reload(arguments: list[str]) -> None:
    """Run the same command without ``--reload`` in a child, again after every change."""
    try:
        from watchfiles import PythonFilter, run_process
    except ImportError:
        raise click.ClickException("--reload needs the extra: pip install 'pynenc[reload]'") from None
    import shlex

    command = shlex.join([sys.executable, "-m", "pynenc", *(a for a in arguments[1:] if a != "--reload")])
    run_process(".", target=command, target_type="command", watch_filter=PythonFilter())
