"""The page of a search in one file of HTML, and its trials for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.outputs import new_directory
from pipelines.report.page import Cell, Page
from tuning.results import Results
from tuning.space_text import searched_text

CAPTIONS = {
    "history": "The objective of every trial in the order in which they were started, and the best until then; of several "
    "figures of merit the hypervolume that their front has reached. Larger signs are trials trained to more epochs; of "
    "failed trials there are crosses at the bottom.",
    "pareto": "Figures of merit against each other, all to be small. Trials on the front are beaten by no other in "
    "everything; the knee is where a little of one begins to cost much of another.",
    "parallel": "Every line is a trial and passes its hyperparameters; dark is good. Axes of logarithms are marked.",
    "importance": "How much the R² of a random forest falls when one hyperparameter's values are shuffled, on trials that it "
    "has not seen, with the spread over shuffles. Where R² is near 0 or below, these lengths mean nothing.",
    "learning": "The loss by epoch of the best trials, the best one in front. Losses with other weights or scalings are other "
    "quantities: what trials are compared by is the objective.",
}


def to_html(results: Results, folder: Path, missing: Mapping[str, str]) -> str:
    best, asked = results.best, results.asked
    assert best is not None, "a page is of a search with a completed trial"
    failed = len(results.trials) - len(results.completed)
    page_ = Page(f"Tuning of {asked.get('model', 'a model')}", f"{len(results.trials)} trials by {results.objective}")
    if results.truth_used:
        page_.warning(f"{results.parsed.notice}.")
    told = f"Best is trial {best['trial']}" + (", the knee of the Pareto front" if results.parsed.pareto else "")
    state = "" if results.complete else f" The search is not finished: {asked.get('trials')} trials were asked for."
    page_.lead(f"{told}. {len(results.completed)} trials completed, {failed} failed; {results.parsed.notice}.{state}")
    for caveat in results.caveats():
        page_.warning(caveat)
    page_.section("Best trials")
    terms, varied = list(results.parsed.weights), results.varied()
    listed = results.front if results.parsed.pareto else results.completed[:20]
    rows = [
        _row(trial, terms, varied, " (knee)" if results.parsed.pareto and trial is best else "") for trial in listed
    ]
    caption = f"The best {len(rows)} by {results.objective}, the best first."
    objective = ["objective"]
    if results.parsed.pareto:
        caption, objective = "The Pareto front.", []
        rows = [[*row[:2], *row[3:]] for row in rows]  # no single trial has a number
    page_.table(["trial", "epochs", *objective, *terms, *varied], rows, caption)
    for name, caption in CAPTIONS.items():
        if (folder / f"{name}.png").exists():
            page_.section(name.capitalize()).figure(folder / f"{name}.png", caption)
        elif name in missing:
            page_.section(name.capitalize()).text(f"Not drawn: {missing[name]}.")
    if failed:
        page_.section("Failed trials")
        rows = [[t["trial"], t["epochs"], t.get("message")] for t in results.trials if t["status"] != "COMPLETED"]
        page_.table(["trial", "epochs", "reason"], rows, "What ended them.")
    _done(page_, asked, results)
    return page_.to_html()


def _done(page_: Page, asked: Mapping[str, Any], results: Results) -> None:
    """Say what was done: data, plan, space, seed and command."""
    page_.section("What was done")
    extra, validation = asked.get("extra") or {}, asked.get("validation")
    within, fixed = extra.get("mass_range"), asked.get("fixed") or {}
    space = searched_text(asked.get("space") or [])
    told = {*results.varied(), *fixed, *(name for name, _, _ in space), "seed"}
    first = results.trials[0]["hyperparameters"] if results.trials else {}
    others = {
        name: value for name, value in first.items() if name not in told
    }  # a list that the file of the space fixes
    shared: list[list[Cell]] = [["the same in all trials", _settings(others)]] if others else []
    rows: list[list[Cell]] = [
        [
            "model",
            " ".join([str(asked.get("model")), *([f"(preset {asked['preset']})"] if asked.get("preset") else [])]),
        ],
        ["data", _events(asked.get("data"))],
        ["judged by", _events(validation) if validation else "a fifth of the data, drawn with the seed"],
        ["mass range", f"{within[0]:g} to {within[1]:g} GeV" if within else "all"],
        ["fixed by --set", _settings(fixed)],
        *shared,
        ["algorithm", f"{asked.get('algorithm', 'hyperband')}, {asked.get('trials')} trials"],
        ["plan", "; ".join(asked.get("plan") or ["not known"])],
        ["seed", str(asked.get("seed"))],
    ]
    page_.table(["", "what"], rows, "What was asked for.")
    if space:
        page_.table(["name", "searched", "when"], [list(row) for row in space], "The space.")
    page_.details("The command that repeats it", str(asked.get("command", "not known")))
    versions = "\n".join(f"{name} {version}" for name, version in (asked.get("versions") or {}).items())
    page_.details("Versions", versions or "not known")


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value_text(value)}" for name, value in values.items()) or "nothing"


def _events(data: Mapping[str, Any] | None) -> str:
    if not data:
        return "not known"
    return f"{data.get('events')} events of {data.get('source')} (SHA-256 {str(data.get('sha256'))[:12]})"


def _row(trial: Mapping, terms: Sequence[str], varied: Sequence[str], note: str) -> list[Any]:
    found = [trial["objective"], *(trial["metrics"].get(name) for name in terms)]
    return [
        trial["trial"] + note,
        trial["epochs"],
        *found,
        *(plain_value(trial["hyperparameters"].get(n)) for n in varied),
    ]


def plain_value(value: object) -> int | float | str:
    """Return a hyperparameter as a table and TensorBoard have it."""
    return value if isinstance(value, (int, float, str)) else value_text(value)


def write_hparams(results: Results, folder: str | os.PathLike) -> int:
    """Write the trials for TensorBoard's HParams page into a new folder, a run for each; returns how many there are.

    Hyperparameters are those that vary, with their names; metrics are the objective and its terms. Learning curves are
    scalars of the same runs.
    """
    import tensorflow as tf

    varied, terms = results.varied(), ["objective", *results.parsed.weights]
    with new_directory(folder) as part:
        write_metrics(part, terms, results.truth_used, varied)
        for trial in results.completed:
            writer = tf.summary.create_file_writer(str(part / trial["trial"]))
            with writer.as_default():
                write_trial({**trial, "metrics": {name: trial["metrics"].get(name) for name in terms[1:]}}, varied)
                for row in results.history(trial):
                    for term in ("loss", "val_loss"):
                        if row.get(term) is not None:
                            tf.summary.scalar(f"epoch/{term}", row[term], step=int(row["epoch"]) + 1)
            writer.close()
    return len(results.completed)


def write_metrics(folder: Path, terms: Sequence[str], truth_used: bool, varied: Sequence[str] = ()) -> None:
    """Write for the HParams page of a folder which hyperparameters and figures of merit there are, with what labels judged marked."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api  # which looks for a Keras, so not before ours is chosen

    told = " (TRUTH USED)" if truth_used else ""
    with tf.summary.create_file_writer(str(folder)).as_default():
        api.hparams_config(
            hparams=[api.HParam(name) for name in varied],
            metrics=[api.Metric(name, display_name=f"{name}{told}") for name in terms],
        )


def write_trial(record: Mapping[str, Any], names: Sequence[str] | None = None) -> None:
    """Write hyperparameters, all or those of these names, and figures of merit of a trial to the default writer."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api  # which looks for a Keras, so not before ours is chosen

    given = record["hyperparameters"]
    values = {name: plain_value(given.get(name)) for name in (given if names is None else names)}
    api.hparams(values, trial_id=record["trial"])
    metrics = {"objective": record["objective"], **record["metrics"]}
    for name, value in metrics.items():
        if value is not None:
            tf.summary.scalar(name, value, step=record["epochs"])


def value_text(value: object) -> str:
    return "-".join(map(str, value)) if isinstance(value, (list, tuple)) else "-" if value is None else str(value)
