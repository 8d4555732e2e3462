"""The command `zoo doctor`: can this machine do the work?"""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.terminal import JSON, quiet_zoo, say


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".", help="Where outputs go."
)
@JSON
def doctor(folder, as_json):
    """Look whether this machine is ready, and say what to do. Looks at versions, devices, XLA, memory, disks and file locks; exit
    code 1 if one is wrong."""
    found = quiet_zoo().doctor(folder)
    say(found, as_json, lambda: str(found))
    if not found["ok"]:
        click.get_current_context().exit(1)
