"""`zoo.train` and the command of that name: train a model on files or events into a run directory."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines import memory as memory_limit
from pipelines.arguments import argument, check_path
from pipelines.documents import read_json_document
from pipelines.errors import InputError
from pipelines.outputs import clean
from pipelines.quiet import imported
from zoo.printed import as_html

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run directory that was just written, and what its training came to.

    Attributes:
        path: the run directory. model: the trained model. scores: the file of scores of its own events, or None.
        amount, noun: how many of what it was trained on, as 20000 "events".
        last_epoch: the training terms of the last epoch of the main phase; None for what is not a number.
        best_epoch: by watched phase each member's best epoch, see `AnomalyModel.best_epochs`.
    """

    path: Path
    model: object
    amount: int
    noun: str
    last_epoch: Mapping[str, float | None]
    best_epoch: Mapping[str, Mapping[str, object]]
    scores: Path | None = None

    @property
    def diverged(self) -> bool:
        """Whether a loss of the last epoch is not a number."""
        return None in self.last_epoch.values()

    def to_dict(self) -> dict[str, object]:
        """Return the result ready for JSON."""
        found = {"run": str(self.path), self.noun.split()[-1]: self.amount, "last_epoch": dict(self.last_epoch)}
        found |= {"scores": str(self.scores)} if self.scores else {}
        return found | ({"best_epoch": dict(self.best_epoch)} if self.best_epoch else {})

    def __str__(self) -> str:
        terms = ", ".join(f"{k} {v:.4g}" for k, v in self.last_epoch.items() if isinstance(v, float))
        peaks = _peaks(self.best_epoch, self.last_epoch)
        return "\n".join([f"{self.path}: trained on {self.amount} {self.noun}; {terms}", *peaks])

    def _repr_html_(self) -> str:
        return as_html(str(self))


def train(
    model,
    data=None,
    out: str | os.PathLike | None = None,
    *,
    preset: str | None = None,
    hyperparameters: Mapping[str, object] | None = None,
    epochs: int | None = None,
    validation: float = 0.0,
    mass_range: tuple[float, float] | None = None,
    window: tuple[float, float] | None = None,
    seed: int = 0,
    score: bool = False,
    memory: float | None = None,
    tensorboard: str | os.PathLike | None = None,
    resume: bool = False,
    jit_compile: bool = True,
    conversion: Mapping[str, object] | None = None,
    workers: int = 1,
    verbose: int | str = "auto",
    said: Callable[[str], object] | None = None,
    progress=None,
) -> TrainedRun:
    """Train a model, without labels, and write a run directory; spectra models need no data.

    Args:
        model: a name of `zoo.names()`, or an untrained model, whose own hyperparameters and seed are taken then.
        data: what `pipelines.open` takes; None for a model that generates its spectra. Published files and tables are
            converted into OUT.events.h5, which the same call uses again.
        out: the new run directory.
        preset, hyperparameters: of the model, by name. seed: fixes everything random.
        epochs: of the main phase; the model's own number otherwise.
        validation: share of the events held out, whose losses are recorded.
        mass_range: train on events with low <= mass < high, GeV.
        window: signal region (low, high), GeV, of a model that needs one: its hyperparameter of this name.
        score: score all these events too, into OUT/scores.h5.
        memory: gigabytes of events held in memory while training; more are read from disk.
        tensorboard: new folder, or with `resume` that of before, for TensorBoard: the losses of every epoch, while it trains.
        resume: go on with an interrupted training, where there is one; what is finished stays as it is.
        jit_compile: compile the training step with XLA.
        conversion: options of `zoo data convert`, for data that need it, as {"mass": "mjj"}.
        workers: processes that convert. verbose: Keras' progress bar. said, progress: as for `pipelines.datasets.opening`.

    Raises:
        InputError: before anything is read for a model, hyperparameter or output that cannot be; and as
            `zoo.run.train`.

    Example:
        `zoo.train("gan_ae", "lhco_sim_train", "run", preset="lhco2020", mass_range=(2700, 5000))`
    """
    from pipelines.datasets.opening import open_events
    from pipelines.outputs import check_apart, check_new

    memory_limit.check(memory_limit.TRAINING)
    imported("tensorflow")
    from zoo import run as runs

    if out is None:
        raise TypeError("train() needs out, the new run directory")
    check_path("out", out)
    out = Path(check_new(out, unless=runs.CONFIG if resume else None))
    _check_numbers(validation, memory)
    made = _model(model, preset, _with_window(model, hyperparameters, window), seed)
    if not resume:
        runs.Checkpoint.refuse(out)
    if tensorboard is not None:
        check_apart(tensorboard, out, argument("tensorboard"))
        if not (resume and Path(tensorboard).is_dir()):
            check_new(tensorboard)
    if data is None or made.data_kind != "events":
        given = {"data": data, "conversion": conversion, "validation": validation or None, "mass_range": mass_range,
                 "score": score, "memory": memory}  # fmt: skip
        _refuse_options(made, given)
        events = None
    else:
        kept = out.with_name(f"{out.name}.events.h5")
        options = {"kept": kept, "workers": workers, "said": said, "progress": progress, **(conversion or {})}
        events = open_events(data, mass_range, **options)
    training, held_out = made.training_data(events, validation, seed)
    log.info("training %s on %s, into %s", made.zoo_name, getattr(training, "name", "what it generates"), out)
    extra = {"mass_range": mass_range, "validation": validation}
    runs.train(
        made, training, out, validation=held_out, epochs=epochs, resume=resume, verbose=verbose, jit_compile=jit_compile,
        extra=extra | ({"conversion": dict(conversion)} if conversion else {}),
        memory=None if memory is None else int(memory * 1e9), tensorboard=tensorboard,
    )  # fmt: skip
    return _result(out, made, training, events if score else None)


def _result(out: Path, model, training, to_score) -> TrainedRun:
    from zoo.run import Metrics

    written: Any = read_json_document(out / "metrics.json", Metrics, advice="damaged; train again")
    if to_score is not None:
        clean(out / "scores.h5")
    if to_score is not None and not (out / "scores.h5").exists():
        from zoo.evaluation.scores import score as score_events

        score_events(out, to_score).write(out / "scores.h5")
    amount, noun = model.amount_trained(training)
    kept = None if to_score is None else out / "scores.h5"
    return TrainedRun(out, model, amount, noun, written["last_epoch"], written.get("best_epoch", {}), kept)


def _model(model, preset, hyperparameters, seed):
    from zoo import registry

    if isinstance(model, str):
        return registry.get(model, preset, **{"seed": seed, **(hyperparameters or {})})
    if preset or hyperparameters:
        raise InputError(
            "preset, hyperparameters: the model is made already; give them to zoo.get, or give its name here"
        )
    return model


def _with_window(model, hyperparameters, window) -> dict[str, object]:
    """Return hyperparameters with the window, if one is given; raises `InputError` for a model that has none."""
    if hyperparameters is not None and not isinstance(hyperparameters, Mapping):
        raise TypeError(f"hyperparameters is {type(hyperparameters).__name__}, expected a dict of values by name")
    if window is None:
        return dict(hyperparameters or {})
    from zoo import registry

    kind: Any = registry.model_class(model) if isinstance(model, str) else type(model)
    if "window" not in kind.Hyperparameters.defaults():
        raise InputError(
            f"{argument('window')} is for models that need a signal region, such as cwola: {kind.zoo_name} has none"
        )
    return {**(hyperparameters or {}), "window": tuple(window)}


def _check_numbers(validation: float, memory: float | None) -> None:
    if not 0 <= validation < 1:
        raise InputError(f"{argument('validation', validation)} is not possible; expected a share >= 0 and < 1")
    if memory is not None and not 0 <= memory < math.inf:
        raise InputError(f"{argument('memory', memory)} is not possible; expected gigabytes >= 0")


def _refuse_options(model, given: Mapping[str, object]) -> None:
    """Raise `InputError` for an option about events, if the model reads none."""
    for name, value in given.items():
        given_nothing = value is None or value is False or value in ((), [], {})  # 0 is something
        if model.data_kind != "events" and not given_nothing:
            raise InputError(
                f"{argument(name)} is for models of events: {model.zoo_name} is trained on spectra that it generates"
            )


def _peaks(best: Mapping[str, Mapping], last: Mapping) -> list[str]:
    """Say where the watched terms were largest, and which trainings ended before they were."""
    lines = []
    for phase, one in best.items():
        if one["best"] != "max":
            continue
        epochs = [epoch + 1 for epoch in one["epoch"] if epoch is not None]
        members, ended = len(one["epoch"]), last["epoch"] + 1
        if len(epochs) < members:
            lines.append(
                f"{phase}: {members - len(epochs)} of {members} never had a number as {one['quantity']}: diverged"
            )
        if not epochs:
            continue
        span = (
            f"epochs {min(epochs)} to {max(epochs)} of {len(epochs)} members" if members > 1 else f"epoch {epochs[0]}"
        )
        line = f"{phase}: {one['quantity']} was largest at {span}; those weights are kept"
        if first := epochs.count(1):
            whose = f"for {first} of them that is" if members > 1 else "that is"
            line += f"; {whose} the very first epoch, when nothing is learnt yet: train longer"
        if ended > 1 and (rising := epochs.count(ended)):
            line += f"; {rising} still rising at the last epoch: the peak was not reached, train longer"
        lines.append(line)
    return lines
