"""The search, from what is asked to the best run.

OUT/search.json        what was asked: model, data, budget, seed, objective, space
OUT/trials/            the trials (see `tuning.trial`), and what was promoted when
OUT/results.json       the table
OUT/best/              the best trial as a run directory, for every `zoo` command
OUT/lock               who is at work
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines import memory, provenance
from pipelines.arguments import argument
from pipelines.documents import read_json_document
from pipelines.errors import InputError, Unfinished, WorkerFault
from pipelines.events.events import Events
from pipelines.events.layout import match_columns
from pipelines.events.overlap import overlap
from pipelines.jobs.executors import Batch
from pipelines.outputs import as_json, check_apart, clean_folder, new_directory, write_json
from tuning import algorithms
from tuning.argos import chosen_region, described_region, windowed
from tuning.description import NAMES, check_same, described, growth, read_asked
from tuning.engine import Apart, Engine, owned
from tuning.listener import Plan, SearchListener
from tuning.objectives import Objective
from tuning.programs import POINTS, sizes
from tuning.results import Results, check_out, is_begun, load_results, ranked
from tuning.schemas import History, Record, numbered
from tuning.space import Space
from tuning.space_points import sample
from tuning.space_text import range_text
from tuning.spacefile import read_space
from tuning.trial import Job, forget_programs, forget_runners, read_json, runner_of
from zoo import registry, run
from zoo.cli.terminal import workplace
from zoo.inputs import TAKES, resolve

__all__ = ["DEFAULT_OBJECTIVE", "VALIDATION_SHARE", "Plan", "Results", "SearchListener", "load_results", "search"]

DEFAULT_OBJECTIVE = "reconstruction+10*sculpting"
VALIDATION_SHARE = 0.2


def search(
    model: str,
    events: Events,
    *,
    trials: int,
    out: str | os.PathLike,
    validation: Events | None = None,
    algorithm: str = "hyperband",
    max_epochs: int = 9,
    factor: int = 3,
    architectures: int = 0,
    objective: str = DEFAULT_OBJECTIVE,
    fixed: Mapping[str, Any] | None = None,
    preset: str | None = None,
    space: str | os.PathLike | Mapping[str, Any] | None = None,
    time_limit: float | None = None,
    trial_timeout: float | None = None,
    workers: int = 1,
    scheduler: str | Batch | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
    cluster_config: str | os.PathLike | None = None,
    seed: int = 0,
    resume: bool = False,
    window: Sequence[float] = (),
    sidebands: Sequence[float] | float = (),
    template: Events | None = None,
    jit_compile: bool | None = None,
    extra: Mapping[str, Any] | None = None,
    tensorboard: str | os.PathLike | None = None,
    listener: SearchListener | None = None,
    watcher: SearchListener | None = None,
) -> Results:
    """Search the hyperparameters of a model, in exactly `trials` trials, without labels.

    Four fifths of the events train, one fifth judges (drawn with the seed); with `validation` all of them train, and
    those others judge. A trial is one set of hyperparameters trained to a number of epochs; one that is promoted to more
    epochs goes on from its weights and optimizer state, and is a trial of its own, as KerasTuner counts. What is tried
    and found depends on the seed, not on how many workers there are or how often the search was interrupted. Where
    workers have other numbers of threads, rounding differs.

    Args:
        model: registered name.
        events: the events; labels, if there are any, are read only for an objective that uses them.
        trials: how many, 1 or more; fewer run only if the space has fewer; `Results.exhausted` is True then. With `resume`
            they may be more than the search was begun with: those that are done stay as they are, and others follow.
        out: new folder; with `resume` also that of an interrupted search, which goes on. Workers on other machines must
            see it.
        validation: events that judge, instead of a fifth of the others. Their labels are read by a term of the objective
            that asks for one, by nothing else.
        algorithm: "hyperband", "random", "bayesian" or "grid" (see `tuning.algorithms`).
        max_epochs, factor: of Hyperband (Li et al. 2018): epochs of the longest trials, and the share promoted. The
            other algorithms train all trials for `max_epochs`.
        architectures: draw no more than so many, each with many settings of the rest; an architecture that was tried
            before costs no compilation. 0 is without limit. Of "hyperband" and "random" only.
        objective: what is minimised (see `tuning.objectives`).
        fixed: hyperparameters that are not searched. preset: the values of those that neither are.
        space: what changes the model's search space, a YAML file or what is in one (see `tuning.space`).
        time_limit: seconds after which no trial is begun, and those under way are kept at the end of their epoch; with
            `resume` the search goes on.
        trial_timeout: seconds that a worker process has for a trial; one that takes longer, because it hangs, is taken
            from it, and the process is started anew. It has failed, unless it came further than the last time.
        workers: processes on this machine, of one thread each; 1 is this process.
        scheduler: address of a Dask scheduler whose workers are used instead, or a `pipelines.jobs.executors.Batch`.
        cluster, jobs, cluster_config: "slurm" or "htcondor", the number of jobs that are submitted as workers instead,
            and a YAML file of what the site asks for (see `pipelines.jobs.batch_systems`).
        window: signal region (low, high), GeV, of the objective "argos"; also of the model, if it has one itself and none is
            fixed. Of such a model it may be left out. sidebands: outer edges (low, high), GeV, of the side bands that are
            background, or the width of each: GeV, below 1 a share of the window's centre; by default all events outside of the window. template: events of background that are it instead;
            those in the window are taken, and labels, if there are any, are not read.
        seed: fixes configurations, split, weights and the order of events.
        jit_compile: compile training steps with XLA; None is where there is a GPU, or where
            the model says that it pays on a CPU (`Detector.searched_by_xla`).
        extra: goes into the configuration of the best run.
        tensorboard: new folder, or with `resume` that of before, for TensorBoard: what trials come to, while they run.
        listener: is notified of the progress. watcher: its old name, deprecated.

    Raises `InputError` for all bad input, before anything is written; and if every trial failed, with the
    first one's reason.

    Example:
        `tuning.search("gan_ae", pipelines.open("lhco_sim_train"), trials=10, out="my_search").best`
    """
    for name, value in (("time_limit", time_limit), ("trial_timeout", trial_timeout)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name} is {value}, expected seconds > 0")
    if watcher is not None:
        warnings.warn("watcher is called listener now", DeprecationWarning, stacklevel=3)
        listener = watcher
    deadline = None if time_limit is None else time.monotonic() + time_limit
    place = workplace(scheduler, cluster, jobs, cluster_config)
    if not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers is {workers}, expected at least 1")
    if trial_timeout is not None and place is None and workers == 1:
        raise InputError(
            f"trial_timeout is {trial_timeout:g}, and 1 worker is this process, which cannot end itself; give 2 workers or more"
        )
    if place is None:
        memory.check(memory.TRAINING)
    share_gpus()
    check_out(Path(out), resume)
    if tensorboard is not None:
        from tuning.tensorboard import TensorBoard

        check_apart(tensorboard, out, argument("tensorboard"))
        listener = TensorBoard(tensorboard, listener, resume, Objective.parse(objective))
    sidebands = (sidebands,) if isinstance(sidebands, (int, float)) else sidebands
    fixed = windowed(model, fixed or {}, window, sidebands)
    asked = _Asked(model, preset, fixed, algorithm, trials, max_epochs, factor, architectures, objective, seed)
    session = _Session(
        asked, space, events, Path(out), jit_compile, extra or {}, listener or SearchListener(), validation,
        window, sidebands, template,
    )  # fmt: skip
    if not resume or not is_begun(session.out):
        session.start()
    with owned(session.out) as token:
        if resume:  # which changes the folder, so not before it is ours
            session.resume()
        return session.run(token, deadline, workers, place, trial_timeout)


def __getattr__(name: str) -> object:
    if name == "Watcher":
        warnings.warn("tuning.session.Watcher is tuning.listener.SearchListener now", DeprecationWarning, stacklevel=2)
        return SearchListener
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def share_gpus() -> None:
    """Let this process take no more of a GPU than it needs, for workers to come; before anything touches it."""
    with contextlib.suppress(RuntimeError, ValueError):  # something has
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


def _check_alike(model, events: Events, validation: Events) -> None:
    """Raise `InputError` unless a model that learns some events can be judged by others."""
    if not len(validation):
        raise InputError(f"{validation.name}: no events to judge trials by; expected some, in the same range of masses")
    taken = resolve(events, **{name: getattr(model.hp, name) for name in TAKES[model.takes]})
    if taken.columns:
        match_columns(taken.columns, validation.columns, validation.name)
    taken.check_layout(validation)


@contextlib.contextmanager
def _what_is_there_kept() -> Iterator[None]:
    """Leave objects that are there already out of garbage collection: tracing would go through TensorFlow's, a million.

    What an earlier search left behind goes first. Where something is left out already, nothing more is done.
    """
    if gc.get_freeze_count():
        yield
        return
    forget_runners()
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclasses.dataclass(frozen=True)
class _Asked:
    model: str
    preset: str | None
    fixed: Mapping[str, Any]
    algorithm: str
    trials: int
    max_epochs: int
    factor: int
    architectures: int
    objective: str
    seed: int


class _Session:
    """A search in the process that the user started."""

    def __init__(
        self, asked: _Asked, space, events: Events, out: Path, jit_compile: bool | None, extra: Mapping, listener,
        validation: Events | None = None, window: Sequence[float] = (), sidebands: Sequence[float] = (),
        template: Events | None = None,
    ):  # fmt: skip
        self.asked, self.out, self.jit_compile, self.extra = asked, out, jit_compile, extra
        self.listener = Apart(listener)
        objective = Objective.parse(asked.objective)
        kind = registry.model_class(asked.model)
        # a learning rate that falls over all epochs falls over those of the longest trials, in the shorter ones too
        falls = kind.learning_rate_falls and (space is None or "epochs" not in read_space(space)[0])
        length = {"epochs": asked.max_epochs} if falls else {}
        self.space = Space(asked.model, {"seed": asked.seed, **length, **asked.fixed}, asked.preset, space)
        kind.require("events", "tune")
        self._fit_space_to(events)
        self.searched = self.space.hyperparameters()
        plain = registry.get(asked.model, **{"seed": asked.seed, **self.space.draw(self.space.hyperparameters())})
        self.oracle = self._oracle({"budgets": [asked.trials], "names": NAMES})
        if validation is None:
            self.training, self.validation = events.split(1.0 - VALIDATION_SHARE, asked.seed)
        else:
            self.training, self.validation = events, validation
            _check_alike(plain, events, validation)
        self.space.check(events=len(self.training))
        plain.check_enough(self.training)
        names = {one.name for one in self.searched.space} - set(asked.fixed)
        self.region = chosen_region(objective.needs_region, plain, names, window, sidebands, template)
        if template is not None:
            _check_alike(plain, events, template)
        dataclasses.replace(objective, region=self.region).check(self.validation, plain)
        self.training = self.training.without_labels()
        if not objective.uses_truth:
            self.validation = self.validation.without_labels()
        self.description = self._description(events, validation, objective.uses_truth)  # which reads all of them
        plain.check_data(self.training)
        points = [self.space.draw(sample(self.searched, seed)) for seed in range(POINTS)]
        self.larger = sizes(asked.model, points)

    def _oracle(self, growth: Mapping[str, Any]) -> algorithms.Oracle:
        """Return what decides on trials, of a search that has grown like this (see `tuning.description.growth`)."""
        asked, names = self.asked, growth["names"]
        oracle = algorithms.make(asked.algorithm, self.searched, asked.trials, asked.max_epochs, asked.factor, asked.seed,
                                 asked.architectures, self.space.shapes(), growth["budgets"][:-1])  # fmt: skip
        oracle.width, oracle.in_order = names["width"], names["in_order"]
        return oracle

    def _fit_space_to(self, events: Events) -> None:
        """Narrow the space for the number of features that the model takes of these events, and keep what was changed."""
        model = registry.get(
            self.asked.model, **{"seed": self.asked.seed, **self.space.draw(self.space.hyperparameters())}
        )
        features = len(resolve(events, **{name: getattr(model.hp, name) for name in TAKES[model.takes]}).columns)
        fitted, before = self.space.of_features(features), self.space.rows()
        changed = [row for row in fitted.rows() if row not in before] if fitted is not self.space else []
        self.space = fitted
        if changed:
            said = "; ".join(f"{row['name']} {range_text(row)}" for row in changed)
            self.listener.told(f"The space for {features} features, and for what is fixed: {said}")

    def _description(self, events: Events, validation: Events | None, truth: bool) -> dict[str, Any]:
        space = self.searched.get_config()["space"]
        data = {"data": described(events, truth and validation is None), "validation": None}
        if validation is not None:
            data["validation"] = {**described(validation, truth), "also_trained_on": overlap(events, validation)}
        region = described_region(self.region)
        if self.region is not None and self.region.template is not None:
            region["template"]["also_in_data"] = overlap(events, self.region.template)
        about = {"budgets": [self.asked.trials], "names": NAMES, "command": provenance.command(),
                 "versions": provenance.versions(), "plan": [str(bracket) for bracket in self.oracle.plan]}  # fmt: skip
        return as_json(
            {**dataclasses.asdict(self.asked), "space": space, **data, **region, "extra": self.extra, **about}
        )

    def start(self) -> None:
        """Make the folder."""
        check_out(self.out, resume=False)
        with new_directory(self.out) as part:
            (part / "trials").mkdir()
            write_json(part / "search.json", self.description)

    def resume(self) -> None:
        """Check that the folder is of this search, and remove what killed processes left in it."""
        path, kept = self.out / "search.json", read_asked(self.out)
        for folder in (self.out, self.out / "trials"):
            clean_folder(folder)
        if os.path.lexists(path) and kept is None:
            os.replace(path, f"{path}.damaged")
            self.listener.told(
                f"{path}: damaged; set aside as search.json.damaged, and made anew of what is asked for now"
            )
        (self.out / "trials").mkdir(exist_ok=True)
        if kept is not None:  # else the records of trials are compared with what is asked for
            check_same(self.out, kept, self.description)
        found = growth(self.out, kept, self.asked.trials)
        self.oracle = self._oracle(found)
        self.description |= {**found, "plan": [str(bracket) for bracket in self.oracle.plan]}
        if kept is None or kept["trials"] != self.asked.trials:
            write_json(path, self.description)

    def run(
        self, token: str, deadline: float | None, workers: int, place, trial_timeout: float | None = None
    ) -> Results:
        """Do the trials that are left; write the table and the best run."""
        job = Job(token, self.asked.model, self.asked.objective, self.jit_compile, str(self.out.resolve()),
                  self.training, self.validation, self.larger, self.region)  # fmt: skip
        engine = Engine(self.oracle, self.space.draw, job, self.listener, deadline, trial_timeout)
        engine.restore()
        count = place.jobs if isinstance(place, Batch) else workers
        again = (self.description["validation"] or {}).get("also_trained_on")
        if again:
            self.listener.told(
                f"{again} of the {len(self.validation)} events that judge also train: trials look better than they are"
            )
        also = (self.description["template"] or {}).get("also_in_data")
        if also:
            self.listener.told(
                f"{also} events of the template are among those of the search too: they are no independent background"
            )
        self.listener.planned(Plan(self.oracle.plan, count, list(engine.records.values()), job.program))
        with _what_is_there_kept():
            engine.run(workers, place)
        return self._finish(engine, job)

    def _finish(self, engine: Engine, job: Job) -> Results:
        records = ranked(list(engine.records.values()), self.asked.objective)
        exhausted = bool(self.oracle.exhausted) and len(records) < self.asked.trials and not engine.waiting
        results = Results(records, self.asked.objective, self.out, exhausted, self.description)
        grown = {name: self.description[name] for name in ("budgets", "names")}
        write_json(self.out / "results.json", {**results.to_json(), **grown})
        if results.best is not None:
            self._write_best(results, results.best, job, engine.is_over)
        elif results.complete and records:
            first = min(records, key=lambda record: numbered(record["trial"]))
            raise InputError(f"all {len(records)} trials failed; the first: {first['message']}")
        return results

    def _write_best(self, results: Results, best: Mapping[str, Any], job: Job, is_over: bool) -> None:
        path = self.out / "best"
        if self._is_written(path, best["trial"]):
            return
        model = registry.get(self.asked.model, **best["hyperparameters"])
        if is_over and any(phase.epochs for phase in model.recipe()[model.main_phase + 1 :]):
            self.listener.told(
                f"The time is up: {path} is not written, whose later phases take a while; {argument('resume', True)} does it."
            )
            return
        try:
            runner = runner_of(job)
        except WorkerFault as error:
            raise Unfinished(f"{error}; the best is not written, {argument('resume', True)} does it") from None
        forget_programs()
        model.adapt(runner.training)
        try:
            run.load_state(model, runner.file(best["trial"], "h5"))
        except (InputError, OSError) as error:
            record = runner.file(best["trial"], "json")
            os.replace(record, f"{record}.damaged")
            raise InputError(
                f"{error}; the record of trial {best['trial']} is set aside as {record.name}.damaged: {argument('resume', True)} trains it again"
            ) from None
        extra = {
            **self.extra,
            "epochs": best["epochs"],
            "validation": self.description["validation"] or VALIDATION_SHARE,
            "tuning": {
                "trial": best["trial"],
                "objective": best["objective"],
                "search": self.asked.objective,
                "truth_used": results.truth_used,
                **(
                    {name: self.description[name] for name in ("window", "sidebands", "template")}
                    if self.region
                    else {}
                ),
            },
        }
        rows, model.member_rows = (self._history(best, which) for which in ("rows", "members"))
        model.histories.clear()
        model.finish(runner.training, jit_compile=job.xla)
        rows += run.history_rows(model.histories)
        if path.exists():  # of a search that had less time
            shutil.rmtree(path)
        with new_directory(path) as part:
            run.write(model, part, run.configuration(model, self.training, **extra), rows, **best["metrics"])

    def _is_written(self, path: Path, trial: str) -> bool:
        """Whether the run of a trial is in a folder, with all of its parts. A damaged one is reported, and made again."""
        if not path.is_dir():
            return False
        try:
            run.check_whole(path)
        except InputError as error:
            self.listener.told(f"{error}; the best run is made again")
            return False
        return (run.read_config(path).get("tuning") or {}).get("trial") == trial

    def _history(self, record: Mapping[str, Any], which: str) -> list[dict[str, Any]]:
        """Return the epochs, `rows` or those of `members`, of a trial and of those that it was promoted from."""
        folder, past = self.out / "trials", record["promoted_from"]
        before = self._history(read_json_document(folder / f"{past}.json", Record), which) if past else []
        path = folder / f"{record['trial']}.history.json"
        kept = read_json(path, History)
        if kept is None:
            self.listener.told(f"{path}: damaged or gone; its epochs are missing in the history of the best run")
        own = (kept or {}).get(which, [])
        again = {(row["phase"], row["epoch"]) for row in own}  # trained once more, since their weights were damaged
        return [row for row in before if (row["phase"], row["epoch"]) not in again] + own
