"""The best trials of a search as text, as wide as the terminal."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.arguments import argument
from tuning.schemas import numbered

if TYPE_CHECKING:
    from tuning.results import Results


WIDTH = 120  # of tables that go to no terminal


def table(results: Results, rows: int = 10) -> str:
    """Return the best trials as text, as wide as the terminal; of a Pareto objective the front."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    trials = _listed(results)
    pareto = results.parsed.pareto
    count = len(results.trials)
    title = f"Pareto front of {count} trials" if pareto else f"Best of {count} trials by {results.objective}"
    shown = Table(title=f"{title} ({results.parsed.notice})", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("trial", *([] if pareto else ["objective"]), "epochs", "figures of merit"):
        shown.add_column(column, no_wrap=True)
    shown.add_column("hyperparameters", overflow="fold")
    varied = results.varied()
    for trial in trials[:rows]:
        chosen = ", ".join(f"{k}={brief(trial['hyperparameters'].get(k))}" for k in varied)
        chosen = "\n".join(filter(None, (trial.get("message"), chosen)))
        since = f"\nfrom {trial['promoted_from']}" if trial.get("promoted_from") else ""
        name = trial["trial"] + (" knee" if pareto and trial is results.best else "")
        score = f"{trial['objective']:.4f}" if trial["objective"] is not None else "failed"
        cells = (name, *([] if pareto else [score]), f"{trial['epochs']}{since}", _merits(trial), chosen)
        shown.add_row(*map(Text, cells))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with console.capture() as captured:
        console.print(shown)
        for line in _remarks(results, trials[:rows]):
            console.print(line, soft_wrap=not sys.stdout.isatty(), markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _merits(trial) -> str:
    return "\n".join(f"{k} {v:.4f}" for k, v in trial["metrics"].items() if k != "objective" and v is not None)


def _listed(results):
    if not results.parsed.pareto:
        return results.trials
    knee = results.best
    return [trial for trial in results.front if trial is knee] + [trial for trial in results.front if trial is not knee]


def _remarks(results, shown) -> list[str]:
    lines, best = [], results.out / "best"
    failed = [trial for trial in results.trials if trial["status"] != "COMPLETED"]
    if any(trial not in shown for trial in failed):
        first = min(failed, key=lambda trial: numbered(trial["trial"]))
        count = "1 trial has failed" if len(failed) == 1 else f"{len(failed)} trials have failed; the first"
        lines.append(f"{count}: trial {first['trial']}, {first['message']}")
    lines += [line for caveat in results.caveats() for line in textwrap.wrap(caveat, WIDTH)]
    if judges := results.asked.get("validation"):
        lines.append(f"Judged by {judges['events']} events of {judges['source']}.")
    if window := results.asked.get("window"):
        template = results.asked.get("template")
        against = f"{template['in_window']} events of {template['source']}" if template else "its side bands"
        lines.append(f"argos: {window[0]:g} to {window[1]:g} GeV against {against}.")
    if best.exists():
        lines.append(f"Best: {best} (trial {_trial_of(best)}; zoo score, zoo evaluate and zoo export take it)")
    if results.exhausted:
        lines.append("The search space was exhausted.")
    elif not results.complete:
        lines.append(
            f"Not finished: {len(results.trials)} of {results.asked['trials']} trials; {argument('resume', True)} goes on."
        )
    return lines


def _trial_of(run: Path) -> str:
    """Which trial a run is of; not always the best one of a search that is not finished."""
    from zoo.run import read_config

    return (read_config(run).get("tuning") or {}).get("trial", "unknown")


def best_is_written(results) -> bool:
    """Return whether the run of the best trial is there; a search whose time was up leaves it to --resume."""
    run = results.out / "best"
    return results.best is not None and run.exists() and _trial_of(run) == results.best["trial"]


def brief(value: object) -> object:
    """Return a value with three digits if it is a float."""
    return f"{value:.3g}" if isinstance(value, float) else value
