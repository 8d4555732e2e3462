"""The command line `tune`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.terminal import JSON, MASS_RANGE, SEED, Command, open_events, quiet_zoo, say, setting, stdout_to_stderr

SAMPLE = "lhco_sim_train"


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hep-anomaly-zoo")
@click.option("--model", required=True, help="The model to tune (see `zoo list`).")
@click.option("--trials", type=int, default=20, show_default=True, help="How many trials, exactly.")
@click.option("--data", help=f"Events file; the embedded sample {SAMPLE} otherwise.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the search; tune-MODEL otherwise.")
@click.option("--objective", help="What to minimise, such as reconstruction+10*sculpting; no labels in it.")
@click.option("--max-epochs", type=int, default=9, show_default=True, help="Epochs of the longest trials.")
@click.option("--factor", type=int, default=3, show_default=True, help="One trial in FACTOR is promoted.")
@click.option("--preset", help="Preset for the hyperparameters that are not searched.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Fix a hyperparameter; may be repeated.")
@click.option("--export", "export_to", type=click.Path(path_type=Path), help="Export the best as a SavedModel there.")
@MASS_RANGE
@SEED
@click.option("--resume", is_flag=True, help="Go on with an interrupted search.")
@click.option("--xla/--no-xla", default=True, help="Compile training steps with XLA.")
@JSON
def main(model, trials, data, out, objective, max_epochs, factor, preset, settings, export_to, mass_range,
         seed, resume, xla, as_json):  # fmt: skip
    """Tune a model's hyperparameters with Hyperband, without labels, in exactly as many trials as asked."""
    zoo = quiet_zoo()
    from pipelines.outputs import check_new
    from tuning import session
    from zoo import registry

    registry.model_class(model)
    out = out or Path(f"tune-{model}")
    if not resume:
        check_new(out)
    if export_to and check_new(export_to).resolve() == out.resolve():
        raise InputError(f"{export_to}: given for --export and --out; name two folders")
    notice = "" if data else f"No --data given: tuning on the embedded sample {SAMPLE} (simulated, 20,000 QCD dijets)."
    events = open_events([data or SAMPLE], mass_range)
    with stdout_to_stderr(), _display(notice) as watcher:
        results = session.search(
            model,
            events,
            trials=trials,
            out=out,
            max_epochs=max_epochs,
            factor=factor,
            objective=objective or session.DEFAULT_OBJECTIVE,
            fixed=dict(map(setting, settings)),
            preset=preset,
            seed=seed,
            resume=resume,
            jit_compile=xla,
            extra={"mass_range": mass_range},
            watcher=watcher,
        )
    if export_to:
        zoo.load(out / "best").export(export_to)
    say(results.to_json(), as_json, lambda: table(results))


def table(results, rows: int = 10) -> str:
    """Return the best trials as text, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"Best of {len(results.trials)} trials by {results.objective} (no labels used)")
    for column in ("trial", "objective", "epochs", "figures of merit", "hyperparameters"):
        shown.add_column(column, overflow="fold")
    varied = _varied(results.trials)
    for trial in results.trials[:rows]:
        score = f"{trial['objective']:.4f}" if trial["objective"] is not None else trial["status"]
        merits = "\n".join(f"{k} {v:.4f}" for k, v in trial["metrics"].items() if k != "objective" and v is not None)
        chosen = ", ".join(f"{k}={_brief(trial['hyperparameters'][k])}" for k in varied)
        since = f" (from trial {trial['promoted_from']})" if trial["promoted_from"] else ""
        shown.add_row(trial["trial"], score, f"{trial['epochs']}{since}", merits or trial["message"], chosen)
    console = Console(width=None if sys.stdout.isatty() else 120)
    with console.capture() as captured:
        console.print(shown)
    end = f"Best: {results.out / 'best'} (a run directory: zoo score, zoo evaluate and zoo export take it)"
    return captured.get() + end + ("\nThe search space was exhausted." if results.exhausted else "")


def _varied(trials):
    first = trials[0]["hyperparameters"]
    return [k for k in first if any(trial["hyperparameters"].get(k) != first[k] for trial in trials)]


def _brief(value):
    return f"{value:.3g}" if isinstance(value, float) else value


@contextlib.contextmanager
def _display(notice: str):
    """A live line on a terminal, one line per trial otherwise; always on stderr."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from tuning.hyperband import total_epochs
    from tuning.session import Watcher

    console = Console(stderr=True)

    class Display(Watcher):
        best = None

        def planned(self, oracle):
            if notice:
                console.print(notice, highlight=False, soft_wrap=True)
            trials = sum(bracket.trials for bracket in oracle.plan)
            console.print(f"Plan: {trials} trials, {total_epochs(oracle.plan)} epochs")
            for bracket in oracle.plan:
                console.print(f"  {bracket}", highlight=False)
            done = [oracle.trials[t] for t in oracle.end_order]
            self.best = min((t.score for t in done if t.score is not None), default=None)
            self.task = bar.add_task("starting", total=trials, completed=len(done), best="")
            self.trials = trials

        def begun(self, trial, epochs):
            self.at = f"trial {trial.trial_id}"
            bar.update(self.task, description=f"{self.at}, epoch {epochs.start} of {epochs.stop}")
            self.stop = epochs.stop

        def epoch(self, trial, epoch):
            bar.update(self.task, description=f"{self.at}, epoch {epoch} of {self.stop}")

        def ended(self, record, finished):
            if record["objective"] is not None:
                self.best = min(self.best, record["objective"]) if self.best is not None else record["objective"]
            best = f"best {self.best:.4f}" if self.best is not None else "none completed yet"
            bar.update(self.task, completed=finished, best=best)
            if not console.is_terminal or record["status"] != "COMPLETED":
                found = record["message"] or f"objective {record['objective']:.4f}"
                line = f"trial {record['trial']} ({finished}/{self.trials}): epoch {record['epochs']}, {found}"
                console.print(f"{line}; {best}, {record['seconds']:.0f} s", highlight=False, soft_wrap=True)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[best]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True,
                  disable=not sys.stderr.isatty()) as bar:  # fmt: skip
        yield Display()
