"""``pynenc``: the command line. Every group of commands is one module beside this one."""

from __future__ import annotations

import click

from pynenc.cli import bench, demo, invocations, operations, runner, triggers, workflows
from pynenc.version import __version__


class _Commands(click.Group):
    """Says where ``--app`` belongs."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            if error.option_name not in ("--app", "-A"):
                raise
            hint = f"{error.option_name} stands before the command: pynenc {error.option_name} SPEC {ctx.invoked_subcommand} ..."
            raise click.UsageError(hint, error.ctx) from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Examples: pynenc demo · pynenc --app shop.tasks runner start · pynenc call shop.tasks.add 1 2 · pynenc invocations list --status failed",
)
@click.option(
    "--app",
    "-A",
    "spec",
    metavar="SPEC",
    help="The app: module, module.attr, module:attr or a file. Default: PYNENC__APP, [tool.pynenc] app, or the one app here.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show tracebacks of errors.")
@click.version_option(__version__, prog_name="pynenc")
@click.pass_context
def cli(context: click.Context, /, *, spec: str | None, verbose: bool) -> None:  # noqa: ARG001  # output.guarded reads it
    """Run Python functions elsewhere: in other threads and processes, later, again after a crash."""
    context.obj = spec


for command in (
    demo.demo,
    runner.runner,
    operations.status,
    invocations.call,
    invocations.invocations,
    triggers.triggers,
    workflows.workflows,
    operations.queues,
    operations.runners,
    operations.config,
    operations.store,
    operations.doctor,
    bench.bench,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the script."""
    cli(prog_name="pynenc")


if __name__ == "__main__":
    main()
