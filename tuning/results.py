"""What a search found: its trials on disk, finished or not, best first.

A search is a folder (see `tuning.session`): `search.json` says what was asked, `trials/ID.json` is one finished trial,
`trials/ID.history.json` its epochs. Nothing here needs TensorFlow, but for training the best anew.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import provenance
from pipelines.arguments import argument
from pipelines.datasets.opening import open_events
from pipelines.documents import read_json_document
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.moved import moved_names
from pipelines.outputs import check_new, clean
from tuning import pareto
from tuning.objectives import Objective
from tuning.schemas import Asked, Table, damaged, numbered, read_record
from tuning.schemas import History as HistoryFile

__getattr__ = moved_names(__name__, {"importance": "tuning.importance.importance"})


log = logging.getLogger(__name__)

NOTHING = 0.9  # of the figure of merit `reconstruction`, which is a little less than 1 for the mean of everything


def check_out(out: Path, resume: bool) -> None:
    """Raise `InputError` if something is there already; with `resume`, if that is no search."""
    if is_begun(out):
        clean(out)  # the lock of a process that was killed when the folder had just got its name
        if resume:
            return
        raise InputError(
            f"{out}: a search exists already; go on with it by {argument('resume', True)}, or give another {argument('out')}"
        )
    check_new(out)


def is_begun(out: Path) -> bool:
    """Return whether there is a search in a folder, though its description may be damaged."""
    return any((out / name).is_file() for name in ("search.json", "search.json.damaged"))


@dataclasses.dataclass(frozen=True)
class Results:
    """What a search found: every finished trial, best first, and where it is on disk.

    Args:
        trials: records as in `trials/ID.json`, sorted by `ranked`.
        objective: as it was given, such as "reconstruction+10*sculpting".
        out: folder of the search. exhausted: whether the space had fewer configurations than were asked for.
        asked: what is in search.json: `model`, `trials` and so on.
        damaged: records that could not be read.
    """

    trials: Sequence[Mapping[str, Any]]
    objective: str
    out: Path
    exhausted: bool = False
    asked: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    damaged: Sequence[str] = ()

    @property
    def parsed(self) -> Objective:
        """The objective, read."""
        return Objective.parse(self.objective)

    @property
    def completed(self) -> list[Mapping[str, Any]]:
        """The trials that did not fail, best first."""
        return [trial for trial in self.trials if trial["status"] == "COMPLETED"]

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The completed trial to take, or None: the best one, of a Pareto objective the knee of the front."""
        done = self.completed
        return done[self.parsed.best([trial["metrics"] for trial in done])] if done else None

    @property
    def front(self) -> list[Mapping[str, Any]]:
        """The trials that no other beats in every figure of merit, by the first of them; one alone has one best."""
        done = self.completed
        if not done:
            return []
        values = self.parsed.values([trial["metrics"] for trial in done])
        return [done[i] for i in sorted(pareto.fronts(values)[0], key=lambda i: tuple(values[i]))]

    def events(self) -> Events:
        """Return the events that were searched with, those that judge among them unless they have a file of their own.

        Raises `InputError` if their files are not there any more, or have changed.
        """
        data: Mapping[str, Any] = self.asked.get("data") or {}
        advice = f"give the events to train on, {argument('data')}"
        if not data.get("files"):
            raise InputError(f"{self.out}: it is not known in which files its events are; {advice}")
        try:
            events = open_events(data["files"], self.mass_range)
        except InputError as error:
            raise InputError(f"{self.out}: its events cannot be opened: {error}; {advice}") from None
        if provenance.checksum(events) != data.get("sha256"):
            raise InputError(f"{data.get('source', 'the data')}: other events than when {self.out} was made; {advice}")
        return events

    def caveats(self) -> list[str]:
        """Return what has to be said before the best trial is taken."""
        found = (self.best or {}).get("metrics") or {}
        reconstruction = found.get("reconstruction")
        if reconstruction is None or reconstruction < NOTHING:
            return []
        return [
            f"The best trial reconstructs next to nothing: {reconstruction:.3f}, where 1 is the mean of everything. Train "
            f"longer (--max-epochs), or look at other scalings, learning rates and weights of the loss (--set, --space)."
        ]

    @property
    def truth_used(self) -> bool:
        """Whether labels judged the trials."""
        return self.parsed.uses_truth

    @property
    def complete(self) -> bool:
        """Whether as many trials are there as were asked for, or as the space has."""
        return self.exhausted or len(self.trials) >= self.asked.get("trials", 0)

    @property
    def mass_range(self) -> tuple[float, float] | None:
        """The masses that the search was given, GeV, where that is written down."""
        found = (self.asked.get("extra") or {}).get("mass_range")
        return tuple(found) if found else None

    def trial(self, name: str) -> Mapping[str, Any]:
        """Return one trial by its id; raises `InputError` if there is none."""
        found = [
            trial for trial in self.trials if trial["trial"] == name or trial["trial"].lstrip("0") == name.lstrip("0")
        ]
        if not found:
            names = ", ".join(sorted((trial["trial"] for trial in self.trials), key=numbered)[:8])
            raise InputError(f"{self.out}: no trial {name!r}; there are {names} ... ({len(self.trials)} in all)")
        return found[0]

    def history(self, trial: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the epochs of a trial, and before them those of the trials that it was promoted from."""
        chain, seen = [trial], {trial["trial"]}
        while past := chain[-1].get("promoted_from"):
            chain.append(self.trial(past))
            if chain[-1]["trial"] in seen:
                path = self.out / "trials" / f"{trial['trial']}.json"
                raise InputError(f"{path}: damaged (trial {trial['trial']} is promoted from itself)")
            seen.add(chain[-1]["trial"])
        paths = [self.out / "trials" / f"{one['trial']}.history.json" for one in reversed(chain)]
        return [row for path in paths if path.is_file() for row in _rows(path)]

    def varied(self) -> list[str]:
        """Return the hyperparameters that are not the same in all trials."""
        names = dict.fromkeys(name for trial in self.trials for name in trial["hyperparameters"])
        texts = {name: {json.dumps(t["hyperparameters"].get(name)) for t in self.trials} for name in names}
        return [name for name in names if len(texts[name]) > 1]

    def to_json(self) -> dict[str, Any]:
        """Return what `tune --json` and `tune results --json` print."""
        pareto = {"front": [trial["trial"] for trial in self.front]} if self.parsed.pareto else {}
        damaged = {"damaged": list(self.damaged)} if self.damaged else {}
        return {
            "objective": self.objective,
            "truth_used": self.truth_used,
            "trials": [dict(trial) for trial in self.trials],
            "best": dict(self.best) if self.best else None,
            **pareto,
            "exhausted": self.exhausted,
            **damaged,
            **({"warnings": caveats} if (caveats := self.caveats()) else {}),
        }

    def to_csv(self) -> str:
        """Return a row a trial: what it is, what it found, and its hyperparameters as `hp.NAME`."""
        plain = ["trial", "status", "objective", "bracket", "round", "initial_epoch", "epochs"]
        terms = list(self.parsed.weights)
        names = list(dict.fromkeys(name for trial in self.trials for name in trial["hyperparameters"]))
        head = [*plain, *terms, *(f"hp.{n}" for n in names), "promoted_from", "seconds", "message", "truth_used"]
        text = io.StringIO()
        table = csv.DictWriter(text, head, lineterminator="\n")
        table.writeheader()
        for trial in self.trials:
            row = {name: trial.get(name) for name in (*plain, "promoted_from", "seconds", "message")}
            row |= {name: trial["metrics"].get(name) for name in terms}
            row |= {f"hp.{n}": _cell(trial["hyperparameters"].get(n)) for n in names}
            table.writerow(row | {"truth_used": self.truth_used})
        return text.getvalue()


def _rows(path: Path) -> list[dict[str, Any]]:
    found: Any = read_json_document(path, HistoryFile, advice="damaged")
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def ranked(records: Sequence[Mapping[str, Any]], objective: str) -> list[Mapping[str, Any]]:
    """Return records of trials best first (see `Objective.order`), those that failed behind them; ties by trial.

    >>> found = [{"trial": t, "status": "COMPLETED", "metrics": {"objective": x}} for t, x in (("0", 2.0), ("1", 1.0))]
    >>> [record["trial"] for record in ranked(found, "reconstruction")]
    ['1', '0']
    """
    records = sorted(records, key=lambda record: numbered(record["trial"]))
    done = [record for record in records if record["status"] == "COMPLETED"]
    order = Objective.parse(objective).order([record["metrics"] for record in done])
    return [done[place] for place in order] + [record for record in records if record["status"] != "COMPLETED"]


def load_results(out: str | os.PathLike) -> Results:
    """Return what is on disk of a search, finished or not.

    A trial's record that cannot be read is left out, with a warning that names it; where it is results.json that cannot,
    `exhausted` is False. Raises `InputError` if `out` is no
    folder of a search.
    """
    out = Path(out)
    if not (out / "search.json").is_file():
        found = "no such folder" if not out.exists() else "no search.json in it"
        raise InputError(f"{out}: {found}, expected the folder of a search made by `tune`")
    try:
        asked: Any = read_json_document(out / "search.json", Asked)
        terms = Objective.parse(asked["objective"]).weights
    except InputError as error:
        raise InputError(f"{damaged(out / 'search.json', error)}; expected what `tune` wrote") from None
    records, left_out = [], []
    for path in sorted((out / "trials").glob("*.json")):
        if path.name.count(".") > 1:  # ID.history.json
            continue
        try:
            records.append(read_record(path, terms))
        except InputError as error:
            left_out.append(str(path))
            log.warning("%s; this trial is left out", damaged(path, error))
    return Results(ranked(records, asked["objective"]), asked["objective"], out, _exhausted(out), asked, left_out)


def _exhausted(out: Path) -> bool:
    """Return what the table says; `--resume` writes a damaged table again from the records."""
    path = out / "results.json"
    if not path.is_file():
        return False
    try:
        found: Any = read_json_document(path, Table)
    except InputError as error:
        log.warning("%s; whether the search space was exhausted is not known", damaged(path, error))
        return False
    return bool(found.get("exhausted"))


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def retrained(
    results: Results,
    trial: Mapping[str, Any],
    events: Events | None,
    out: str | os.PathLike,
    *,
    members: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    extra: Mapping[str, Any] | None = None,
    **options: Any,
):
    """Train a trial's hyperparameters anew on all of the events, and write a run directory.

    Args:
        results: the search. trial: one of its records.
        events: to train on, by default those of the search; labels, if there are any, are not read.
        members, seed: as the trial had, if None. epochs: of the main phase, as many as the trial had, if None.
        extra: goes into the run's config.json. options: of `zoo.run.train`, such as `resume`.

    Returns the Keras history. Raises `InputError` as `zoo.run.train` does.
    """
    from zoo import registry, run

    given = {"members": members, "seed": seed}
    hyperparameters = {**trial["hyperparameters"], **{k: v for k, v in given.items() if v is not None}}
    model = registry.get(results.asked["model"], **hyperparameters)
    about = {"search": str(results.out), "trial": trial["trial"], "objective": results.objective}
    tuned = {**about, "found": trial["objective"], "truth_used": results.truth_used}
    epochs = epochs or trial["epochs"]
    events = results.events() if events is None else events
    return run.train(model, events, out, epochs=epochs, extra={**(extra or {}), "tuning": tuned}, **options)


def best_so_far(results: Results) -> list[tuple[str, float]]:
    """Return (trial, best objective until then) of completed trials, in the order in which they were started.

    Of a Pareto objective it is the hypervolume of the front until then, which grows: on axes on which all completed trials
    span [0, 1], up to 1.1 (see `tuning.pareto.hypervolume`).
    """
    done = sorted(results.completed, key=lambda trial: numbered(trial["trial"]))
    names = [trial["trial"] for trial in done]
    if results.parsed.pareto:
        x = pareto.normalised(results.parsed.values([trial["metrics"] for trial in done]))
        found = [pareto.hypervolume(x[: end + 1], np.full(x.shape[1], 1.1)) for end in range(len(x))]
    else:
        found = np.minimum.accumulate([trial["objective"] for trial in done]).tolist() if done else []
    return list(zip(names, found))
