"""What a benchmark is: models, data, S/B and seeds, read from a YAML file.

data:
  rnd:
    background: qcd.h5            # events; of labelled files the background. A name, or a list
    signal: zprime.h5             # of labelled files the signal
    mass_range: [2700, 5000]      # optional, GeV
    test_share: 0.5               # of background and signal, kept out of every mixture (default 0.5)
    channel: "1"                  # optional: rows of this channel in challenge.csv
models:
  pca: {}                         # a registered model with its defaults
  small_vae:                      # any name
    model: vae                    # if the name is none of a model
    preset: lhco2020              # optional
    set: {members: 4}             # hyperparameters
    epochs: 10                    # of the main phase
    score_kind: kl                # optional
s_over_b: [0, 0.001, 0.006]       # of the mixtures that are trained on, within the mass range
seeds: 5                          # or a list of numbers
hunt: {percentiles: [99]}         # optional: a hunt in every mixture; options as of `zoo.hunt`, by default 1000
                                  # pseudo-experiments. Without it, none
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from typing_extensions import NotRequired, TypedDict

from pipelines.documents import check_document, read_yaml_document
from pipelines.errors import InputError

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w .+-]+$")]
Number = float | int
Share = Annotated[float, Field(gt=0, lt=1)]
Ratio = Annotated[Number, Field(ge=0, le=10)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
CLOSED = ConfigDict(extra="forbid")  # a name that is none is an error
FILES = ("background",)  # hyperparameters that name a file of events: true background, of `idealised`
TEST_SHARE, PSEUDO_EXPERIMENTS, MOST_SEEDS = 0.5, 1000, 1000


@with_config(CLOSED)
class Data(TypedDict):
    """Where the events of a data set are."""

    background: str | list[str]
    signal: str | list[str]
    mass_range: NotRequired[Annotated[list[Number], Field(min_length=2, max_length=2)] | None]
    test_share: NotRequired[Share]
    channel: NotRequired[Name | None]


@with_config(CLOSED)
class Model(TypedDict):
    """What is trained."""

    model: NotRequired[Name]
    preset: NotRequired[Name | None]
    set: NotRequired[dict[str, Any]]
    epochs: NotRequired[Annotated[int, Field(ge=1)] | None]
    score_kind: NotRequired[Name | None]


@with_config(CLOSED)
class Document(TypedDict):
    """The YAML file."""

    data: Annotated[dict[Name, Data], Field(min_length=1)]
    models: Annotated[dict[Name, Model | None], Field(min_length=1)]
    s_over_b: Annotated[list[Ratio], Field(min_length=1)]
    seeds: NotRequired[int | list[Seed]]
    hunt: NotRequired[dict[str, Any] | None]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training of a benchmark: a model, a data set, an S/B and a seed, all that its result depends on.

    Attributes:
        model, data: names in the table. training, events: as in the file (`Model`, `Data`). ratio: S/B. seed. hunt: options, or
            None.
    """

    model: str
    data: str
    training: Mapping[str, Any]
    events: Mapping[str, Any]
    ratio: float
    seed: int
    hunt: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Specification:
    """A benchmark: `document` as it was read, and where it was read from."""

    document: Mapping[str, Any]
    source: str

    @property
    def seeds(self) -> list[int]:
        """The seeds of every cell."""
        given = self.document.get("seeds", 1)
        return list(range(given)) if isinstance(given, int) else list(given)

    @property
    def cells(self) -> list[Cell]:
        """Every training: data by data, then S/B, seed and model, so that all models of a mixture are done together."""
        return [
            Cell(name, data, dict(model or {}), dict(events), float(ratio), seed, self.document.get("hunt"))
            for data, events in self.document["data"].items()
            for ratio in self.document["s_over_b"]
            for seed in self.seeds
            for name, model in self.document["models"].items()
        ]


def read(given: str | os.PathLike[str] | Mapping[str, Any]) -> Specification:
    """Return the benchmark of a YAML file, or of the same as a dict; files in it are relative to the YAML file.

    Raises `InputError` for what the file must not have or lacks, and for the same S/B, seed or file twice.

    >>> data = {"toy": {"background": "lhco_sim_train", "signal": "lhco_sim_test"}}
    >>> len(read({"data": data, "models": {"pca": {}, "knn": None}, "s_over_b": [0, 0.01], "seeds": 3}).cells)
    12
    """
    if isinstance(given, Mapping):
        source, document = "benchmark", check_document(dict(given), "benchmark", Document)
        folder = Path()
    else:
        source, document, folder = str(given), read_yaml_document(given, Document), Path(given).parent
    assert isinstance(document, Mapping)
    data, models = _placed(document["data"], folder), _models_placed(document["models"], folder)
    found = Specification({**document, "data": data, "models": models}, source)
    if not found.seeds or len(found.seeds) > MOST_SEEDS:
        raise InputError(
            f"{source}: seeds is {document['seeds']}, expected a number from 1 to {MOST_SEEDS}, or a list of seeds"
        )
    for name, values in (("s_over_b", document["s_over_b"]), ("seeds", found.seeds)):
        if len(set(values)) < len(values):
            raise InputError(f"{source}: {name} has a number twice, expected each once")
    for name, one in data.items():
        for part in ("background", "signal"):
            places = [str(Path(file).resolve()) if Path(file).exists() else file for file in one[part]]
            if len(set(places)) < len(places):
                raise InputError(f"{source}: {part} of {name} has a file twice, expected each once")
    return found


def _place(file: str, folder: Path) -> str:
    return str(folder / file) if (folder / file).exists() else file


def _placed(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The data sets with their files where they are: beside the YAML file, or as the name of a sample."""

    def place(files: str | list[str]) -> list[str]:
        return [_place(file, folder) for file in ([files] if isinstance(files, str) else files)]

    return {
        name: {**one, "background": place(one["background"]), "signal": place(one["signal"])}
        for name, one in data.items()
    }


def _models_placed(models: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The models with the files that their hyperparameters name where they are, as those of the data."""

    def place(values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: _place(value, folder) if name in FILES and value and isinstance(value, str) else value
            for name, value in values.items()
        }

    return {name: {**one, "set": place(one["set"])} if one and one.get("set") else one for name, one in models.items()}
