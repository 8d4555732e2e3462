"""Runs: one training on disk, whole or not at all; loading it runs no code from it.

RUN/config.json    model, hyperparameters, data with checksum, seed, versions: all that repeats it
RUN/model/state.h5 weights, input scaling, optimizer state
RUN/history.csv    one row per epoch of every phase
RUN/members.csv    the same for every member, if there are several
RUN/metrics.json   the last losses, each member's best epoch where one is sought, and the time it took
RUN/plots/*.png    the loss terms
"""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from typing_extensions import NotRequired, TypedDict

from pipelines import provenance
from pipelines.arguments import argument, check_path
from pipelines.checksums import digest, file_sha256
from pipelines.documents import DataDescription, check_document, check_row, read_json_document, shown
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.files import check_utf8
from pipelines.events.layout import check_names
from pipelines.outputs import as_json, check_new, clean, hold, new_directory, write_json
from zoo import registry, weights
from zoo.inputs import TAKES
from zoo.keras import keras
from zoo.state import check_state, load_state, read_state, save_state, state_of

__all__ = [
    "Checkpoint", "configuration", "history_rows", "load", "load_state", "read_config", "read_state", "save_run",
    "save_state", "state_of", "train", "write",
]  # fmt: skip

log = logging.getLogger(__name__)

CONFIG = "config.json"  # by which a run directory is known
KEPT = (
    "hyperparameters",
    "data",
    "epochs",
    "tuning",
    "mass_range",
    "conversion",
    "state_sha256",
    "yardstick",
)  # of the configuration, by `origin`


class RunConfig(TypedDict):
    """What a run's config.json holds; runs of older versions lack some of it."""

    model: str
    hyperparameters: dict[str, Any]
    takes: NotRequired[str]
    data: NotRequired[DataDescription]
    versions: NotRequired[dict[str, Any]]
    command: NotRequired[str | list[str] | None]
    epochs: NotRequired[int]
    validation: NotRequired[float | str | dict[str, Any] | None]
    mass_range: NotRequired[Annotated[list[float], Field(min_length=2, max_length=2)] | None]
    tuning: NotRequired[dict[str, Any] | None]
    yardstick: NotRequired[str | None]
    state_sha256: NotRequired[str]
    sha256: NotRequired[str]


Row = Annotated[dict[str, Any], AfterValidator(check_row)]


class Progress(TypedDict):
    """What a checkpoint's progress.json holds."""

    epochs: Annotated[int, Field(ge=1)]
    state: Annotated[str, Field(pattern=r"^state[01]\.h5$")]
    seconds: Annotated[float, Field(ge=0)]
    rows: list[Row]
    member_rows: list[dict[str, Any]]


class Metrics(TypedDict):
    """What a run's metrics.json holds."""

    last_epoch: dict[str, float | str | None]
    best_epoch: NotRequired[dict[str, dict[str, Any]]]


# -- run directories -------------------------------------------------------------------------------


def load(run: str | os.PathLike):
    """Return the trained model of a run directory, which knows what it was `loaded_from` (see `origin`).

    Args:
        run: the directory, or if there is none the name of weights that come with the package, as "vae/lhco_sim" (see
            `zoo.weights.names`).

    Raises `InputError` if it is not one, or if its model is not registered here.

    >>> load("pca/lhco_sim").zoo_name
    'pca'
    """
    check_path("run", run)
    name, run = run, weights.find(run)
    config = read_config(run)
    try:
        model = registry.get(config["model"], **config["hyperparameters"])
    except InputError as error:
        raise InputError(f"{run / 'config.json'}: {error}") from None
    found, expected = config.get("takes", model.takes), model.takes
    if found != expected:
        raise InputError(
            f"{run / 'config.json'}: takes is {found!r}, expected {expected!r} of {model.zoo_name}; train again"
        )
    model.build_from_config()
    load_state(model, run / "model" / "state.h5", sha256=config.get("state_sha256"), finite=True)
    model.loaded_from = origin(name)
    return model


def origin(run: str | os.PathLike) -> Mapping[str, object]:
    """Return the origin of a run: its `folder`, hyperparameters and training data.

    `tuning` is what `tune` wrote there: whether labels chose the hyperparameters (see
    `pipelines.bumphunt.search.truth_in_tuning`). Of the name of a model, which is no directory, nothing.
    A model that was loaded has it as `loaded_from`, where `pipelines.bumphunt.search` looks for it.

    >>> origin("gan_ae")
    mappingproxy({})
    """
    if not weights.find(run).is_dir():
        return MappingProxyType({})
    config = read_config(run)
    return MappingProxyType({"folder": str(run), **{name: config.get(name) for name in KEPT}})


def read_config(run: str | os.PathLike) -> dict[str, Any]:
    """Return the configuration of a run directory, or of trained weights; raises `InputError` if it is neither."""
    check_utf8(run)
    path = weights.find(run) / "config.json"
    if not path.is_file():
        found = "no such folder" if not Path(run).exists() else "no config.json in it"
        raise InputError(f"{run}: {found}, expected a run directory made by `zoo train` or `tune`{weights.advice(run)}")
    config: Any = read_json_document(path, RunConfig, advice="damaged; train again")
    kind, hyperparameters = config.get("takes", "features"), config["hyperparameters"]
    if kind not in TAKES:
        raise InputError(f"{path}: takes is {shown(kind)}, expected one of {', '.join(TAKES)}; damaged; train again")
    for name in TAKES[kind][:2]:
        check_document(hyperparameters.get(name, []), f"{path}: {name}", list[str], advice="damaged; train again")
        check_names(hyperparameters.get(name, []), f"{path}: {name}")
    if TAKES[kind] and not (hyperparameters.get("columns") or hyperparameters.get("object_columns")):
        raise InputError(f"{path}: damaged (model {config['model']!r}, columns []); train again")
    if "sha256" in config and digest({k: v for k, v in config.items() if k != "sha256"}) != config["sha256"]:
        raise InputError(f"{path}: not as it was written (its SHA-256 is another); train again")
    return config


def check_whole(run: str | os.PathLike) -> None:
    """Raise `InputError` unless a run directory is complete, and its state unchanged."""
    run, config = Path(run), read_config(run)
    parts = ("history.csv", "metrics.json", "plots/history.png")
    if missing := [name for name in parts if not (run / name).is_file()]:
        raise InputError(f"{run / missing[0]}: not there; the run is damaged")
    read_json_document(run / "metrics.json", Metrics, advice="damaged")
    check_state(run / "model" / "state.h5", config.get("state_sha256"))


def train(
    model,
    events: Events,
    out: str | os.PathLike,
    *,
    validation: Events | None = None,
    epochs: int | None = None,
    resume: bool = False,
    extra: Mapping[str, object] | None = None,
    verbose: int | str = "auto",
    jit_compile: bool = True,
    memory: int | None = None,
    tensorboard: str | os.PathLike | None = None,
) -> keras.callbacks.History:
    """Train a model and write its run directory; a checkpoint is kept beside it until it is whole.

    Interrupted by Ctrl-C or kill, the same call with `resume=True` goes on after the last finished epoch and gives
    what an uninterrupted training gives. Where nothing is there yet it begins, and if the run is there already, its
    weights are loaded into the model: a batch job can be started again by the same line whenever it dies. `extra` goes
    into config.json. `tensorboard` is a folder for TensorBoard's scalars (`zoo.tensorboard.Scalars`).

    Raises `InputError` if `out` exists (with `resume`, unless it is the run of this training) or cannot be written, if
    what there is to resume belongs to another training, and for all that `fit` raises.
    """
    check_new(out, unless=CONFIG if resume else None)
    with hold(
        out, new=not resume
    ) as path:  # another training with the same `out` would go on from this one's checkpoint
        return _train(model, events, path, validation, epochs, resume, extra, verbose=verbose, jit_compile=jit_compile,
                      memory=memory, tensorboard=tensorboard)  # fmt: skip


def _train(
    model, events, out: Path, validation, epochs, resume, extra, tensorboard=None, **options
) -> keras.callbacks.History:
    if not resume:
        Checkpoint.refuse(out)
    clean(Checkpoint.place(out))
    events = model.survey(events, checksum=True)
    model.check_enough(events)
    model.adapt(events)
    checkpoint = Checkpoint(out, model, events, {**(extra or {}), "epochs": epochs or model.epochs})
    if os.path.lexists(check_new(out, unless=CONFIG if resume else None)):
        return checkpoint.finished()
    scalars = _scalars(tensorboard, model, resume)
    done = checkpoint.restore() if resume else checkpoint.start()
    try:
        history = model.fit(
            events,
            validation,
            epochs=epochs,
            initial_epoch=done,
            callbacks=[checkpoint, *scalars],
            **options,
        )
        rows = checkpoint.with_later_phases()
        for one in scalars:
            one.finish(rows)
    except InputError:
        checkpoint.forget_if_empty()
        raise
    finally:
        for one in scalars:
            one.close()
    log.info("writing %s", out)
    with new_directory(out) as part:
        write(model, part, checkpoint.config, rows, seconds=checkpoint.seconds())
    shutil.rmtree(checkpoint.folder, ignore_errors=True)
    return history


def _scalars(folder: str | os.PathLike | None, model, resume: bool) -> list[Any]:
    """Return what writes the losses for TensorBoard, if there is a folder for it."""
    if folder is None:
        return []
    from zoo.tensorboard import Scalars

    return [Scalars(folder, model, resume)]


def save_run(model, out: str | os.PathLike) -> None:
    """Write the run directory of a model that was trained by `fit`, as `train` does; raises `InputError` if it was not."""
    out = check_new(out)
    if not model.histories:
        raise InputError(f"{out}: the model has not been trained by fit, so there is no run to save; call fit first")
    config = configuration(model, model.trainer.data, epochs=int(model.trainer.main_epochs))
    with new_directory(out) as part:
        write(model, part, config, history_rows(model.histories))


def write(model, folder: Path, config: Mapping[str, object], rows: Sequence[Mapping], **metrics: object) -> None:
    """Write a run's files into an existing folder."""
    from pipelines.plots import plot_history

    (folder / "model").mkdir()
    (folder / "plots").mkdir()
    save_state(model, folder / "model" / "state.h5")
    kept: Any = as_json({**config, "state_sha256": file_sha256(folder / "model" / "state.h5")})
    write_json(folder / "config.json", {**kept, "sha256": digest(kept)})
    main = [row for row in rows if row["phase"] == model.recipe()[model.main_phase].name]
    best = {"best_epoch": model.best_epochs()} if model.best else {}
    write_json(folder / "metrics.json", {"last_epoch": dict((main or rows)[-1]) if rows else {}, **best, **metrics})
    _write_table(folder / "history.csv", rows)
    if model.member_rows:
        _write_table(folder / "members.csv", model.member_rows)
    plot_history(rows, folder / "plots" / "history.png")


def _write_table(path: Path, rows: Sequence[Mapping]) -> None:
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        table.writeheader()
        table.writerows(rows)


def _read_history(path: Path, phase: str) -> tuple[list[int], dict[str, list[float]]]:
    """Return the epochs of a phase, and its terms by name, as Keras has them."""
    try:
        with open(path, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["phase"] == phase]
        names = [name for row in rows[:1] for name in row if name not in ("phase", "epoch") and row[name]]
        return (
            [int(row["epoch"]) for row in rows],
            {name: [float(row[name] or "nan") for row in rows] for name in names},
        )
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); train again") from None


def history_rows(histories: Mapping[str, keras.callbacks.History]) -> list[dict[str, object]]:
    """Return one row per epoch of every phase, ready for JSON; what is not a number is None."""
    return [
        {"phase": name, "epoch": epoch} | {key: _plain(values[i]) for key, values in history.history.items()}
        for name, history in histories.items()
        for i, epoch in enumerate(history.epoch)
    ]


def configuration(model, events: Events, **extra: object) -> dict[str, object]:
    """Return all that is needed to repeat a training: model, hyperparameters, data with checksum, versions."""
    return {
        "model": model.zoo_name,
        "takes": model.takes,
        "hyperparameters": json.loads(json.dumps(model.get_config())),
        "data": model.provenance(events),
        "versions": provenance.versions(),
        "command": provenance.command(),
        **({"yardstick": model.yardstick} if model.yardstick else {}),
        **extra,
    }


class Checkpoint(keras.callbacks.Callback):
    """Keeps state and history of a training in a folder after every epoch of its main phase."""

    def __init__(self, out: Path, model, events: Events, extra: Mapping[str, object]):
        super().__init__()
        self.out, self.folder, self._trained = out, self.place(out), model
        self.config = json.loads(json.dumps(configuration(model, events, **extra)))
        self.rows: list[dict[str, object]] = []
        self._seconds_before, self._started = 0.0, time.monotonic()

    @staticmethod
    def place(out: Path) -> Path:
        """Return the folder that keeps what is finished of the training to `out`."""
        return out.resolve().parent / f".{out.name}.checkpoint"

    @classmethod
    def refuse(cls, out: Path) -> None:
        """Raise `InputError` if an interrupted training waits to be resumed: beginning anew would lose it.

        Of one that another process is at it says so instead.
        """
        if (cls.place(out) / "progress.json").is_file():
            with hold(out, new=False):  # raises while another process has it
                pass
            raise InputError(
                f"{out}: an interrupted training is kept in {cls.place(out)}; add {argument('resume', True)}, or remove it"
            )

    def start(self) -> int:
        """Begin anew; returns 0 epochs done."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with new_directory(self.folder) as part:
            write_json(part / "config.json", self.config)
        return 0

    def finished(self) -> keras.callbacks.History:
        """Load the run of this training, which is there already, and return its history; remove the checkpoint.

        Raises `InputError` if it is the run of another training, or damaged.
        """
        kept = read_config(self.out)
        if different := self._different(kept):
            raise InputError(
                f"{self.out}: exists already, of another training: {'; '.join(different)}; choose another output"
            )
        load_state(self._trained, self.out / "model" / "state.h5", sha256=kept.get("state_sha256"))
        shutil.rmtree(self.folder, ignore_errors=True)
        history = keras.callbacks.History()
        history.epoch, history.history = _read_history(self.out / "history.csv", self._main)
        return history

    def restore(self) -> int:
        """Load what an interrupted training left, if there is anything; returns the number of epochs done."""
        if not (self.folder / CONFIG).is_file():
            return self.start()
        advice = f"damaged; remove {self.folder} to begin anew"
        kept: Any = read_json_document(self.folder / CONFIG, RunConfig, advice=advice)
        if different := self._different(kept):
            raise InputError(
                f"{self.folder} holds another training: {'; '.join(different)}; give the same, or start without {argument('resume')}"
            )
        self.config["command"] = kept.get("command")  # the one that repeats it all
        progress = self.folder / "progress.json"
        if not progress.exists():
            return 0
        kept = read_json_document(progress, Progress, advice=advice)
        load_state(self._trained, self.folder / kept["state"])
        self.rows, self._seconds_before = kept["rows"], kept["seconds"]
        self._trained.member_rows = kept["member_rows"]
        return kept["epochs"]

    def _different(self, kept: Mapping) -> list[str]:
        """Say in what the kept training differs from this one; where the data lie does not matter.

        Hyperparameters that an earlier version did not know had their default.
        """
        defaults = json.loads(json.dumps(self._trained.Hyperparameters.defaults()))
        past, present = (
            {
                "model": c["model"],
                "epochs": c.get("epochs"),
                "data": str((c.get("data") or {}).get("sha256", ""))[:12],
                **defaults,
                **c["hyperparameters"],
            }
            for c in (kept, self.config)
        )
        names = dict.fromkeys([*past, *present])
        return [f"{k} was {past.get(k)}, is {present.get(k)}" for k in names if past.get(k) != present.get(k)]

    def seconds(self) -> float:
        """Return how long the training has taken, interrupted or not."""
        return self._seconds_before + time.monotonic() - self._started

    def forget_if_empty(self) -> None:
        """Leave nothing behind of a training without a finished epoch."""
        if not (self.folder / "progress.json").exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    def on_epoch_end(self, epoch, logs=None):
        if not self.rows:
            self.rows += history_rows(self._trained.histories)  # of the phases before this one
        phase = self._main
        self.rows.append({"phase": phase, "epoch": epoch} | {k: _plain(v) for k, v in (logs or {}).items()})
        # two files in turn: progress.json, renamed into place last, always names one that is whole
        state = f"state{epoch % 2}.h5"
        save_state(self._trained, self.folder / state)
        members = self._trained.member_rows
        progress = {"epochs": epoch + 1, "state": state, "seconds": self.seconds(), "rows": self.rows}
        write_json(self.folder / "progress.json", {**progress, "member_rows": members})

    @property
    def _main(self) -> str:
        return self._trained.recipe()[self._trained.main_phase].name

    def with_later_phases(self) -> list[dict[str, object]]:
        """Return the rows of all phases: those kept, and what was trained after the main one."""
        recipe = self._trained.recipe()
        later = {phase.name for phase in recipe[self._trained.main_phase + 1 :]}
        return self.rows + history_rows({k: v for k, v in self._trained.histories.items() if k in later})


def _plain(value) -> float | None:
    value = float(value)
    return value if value == value and abs(value) != float("inf") else None
