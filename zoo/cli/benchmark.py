"""`zoo benchmark`: models x data x S/B x seeds, to one table."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.terminal import JSON, SCHEDULER, Command, quiet_zoo, say, stdout_to_stderr


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.yaml")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for cells, table and figures.")
@click.option("--resume", is_flag=True, help="Go on with what is in --out, or begin.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that train.")
@SCHEDULER
@JSON
def benchmark(file, out, as_json, **options):
    """Compare models on mixtures of background and signal. Trains every model of FILE.yaml on every mixture, judges it on other
    events, and makes one table with spreads.

    The file names data, models, S/B and seeds; see docs/benchmark.md. Every finished training is kept: killed, the same command
    with --resume goes on.
    """
    zoo = quiet_zoo()
    with stdout_to_stderr():
        found = zoo.benchmark(file, out, said=lambda text: click.echo(text, err=True), **options)
    say(found.to_dict(), as_json, lambda: f"{found}\n\n{out}: table.csv, table.md, results.json, figures")
