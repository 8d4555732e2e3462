"""What an exported model says of itself, read without TensorFlow: `zoo show ARTEFACT`.

A SavedModel and a Keras folder have it as JSON in `assets.extra/zoo.json`, a place that TensorFlow leaves to others; an ONNX
file as the property `hep_anomaly_zoo` of the model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Annotated, Any

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from pipelines.documents import MAX_JSON_BYTES, parse_json_document, read_json_document
from pipelines.errors import InputError

PLACE = "assets.extra/zoo.json"  # in the folder of a SavedModel
PROPERTY = "hep_anomaly_zoo"  # of an ONNX model
KINDS = {"savedmodel": "SavedModel", "keras": "SavedModel in Keras' format", "onnx": "ONNX model"}
METADATA_PROPS = 14  # the field of an ONNX ModelProto that has properties


class Array(TypedDict):
    """An input or an output; None in its shape is the number of events."""

    shape: list[int | None]
    dtype: str
    columns: NotRequired[list[str]]
    units: NotRequired[dict[str, str]]


class Data(TypedDict):
    """What identifies data."""

    source: str
    events: int
    sha256: NotRequired[str]


class CutValue(TypedDict):
    """A threshold; of a cut that follows the mass that at the median mass, and t at all masses."""

    percentile: float
    tail: str
    threshold: float
    curve: NotRequired[list[float]]


class Cuts(TypedDict):
    """The cut values inside an export."""

    score_kind: str
    follows_mass: bool
    mass: list[float]
    values: list[CutValue]
    data: Data


class Folds(TypedDict):
    """How many models of folds are inside, and the checksums of their states."""

    number: int
    state_sha256: list[str | None]


class Scaling(TypedDict):
    """The input scaling, with the numbers of an affine one."""

    name: str
    shift: NotRequired[list[float]]
    scale: NotRequired[list[float]]


class About(TypedDict):
    """What an export says of itself."""

    format: int
    kind: str
    model: str
    takes: str
    version: str
    truth_used: bool
    state_sha256: str | None
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    signatures: NotRequired[dict[str, list[str]]]
    members: int
    score_kinds: list[str]
    scaling: Scaling | None
    hyperparameters: dict[str, Any]
    data: dict[str, Any] | None
    mass_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    cuts: NotRequired[Cuts]
    folds: NotRequired[Folds]
    graph: NotRequired[dict[str, dict[str, dict[str, str]]]]
    opset: NotRequired[int]
    versions: dict[str, str]
    licence: str


def is_export(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path looks like an exported model: a folder with a SavedModel in it, or a file `*.onnx`.

    >>> is_export("gan_ae")
    False
    """
    path = Path(path)
    return (path / "saved_model.pb").is_file() or (path.is_file() and path.suffix == ".onnx")


def read_about(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return what an exported model says of itself, without running any of it.

    Args:
        path: folder of a SavedModel or of the Keras format, or an ONNX file.

    Raises `InputError` if it is no export, says nothing of itself, or is damaged.

    Example:
        `read_about("served")["inputs"]["features"]["columns"]`
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise InputError(f"{path}: no exported model, expected a folder with saved_model.pb")
        if not (path / PLACE).is_file():
            raise InputError(f"{path}: a SavedModel without {PLACE}: of another program, or of an older release")
        about: Any = read_json_document(path / PLACE, About, advice="damaged; export again")
        return about
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder, expected an exported model")
    try:
        with open(path, "rb") as file:
            found = _properties(file, path.stat().st_size)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: no ONNX model ({' '.join(str(error).split())})") from None
    if PROPERTY not in found:
        raise InputError(f"{path}: an ONNX model without the property {PROPERTY}: of another program")
    exported: Any = parse_json_document(found[PROPERTY], str(path), About, advice="damaged; export again")
    return {**exported}


def about_text(about: Mapping[str, Any]) -> str:
    """Return what an export says of itself, for people."""
    several = f", {about['members']} members" if about["members"] > 1 else ""
    several += f", {about['folds']['number']} folds" if "folds" in about else ""
    lines = [
        f"{KINDS.get(about['kind'], about['kind'])} of {about['model']}{several}, hep-anomaly-zoo {about['version']}"
    ]
    lines += ["", "Inputs:"]
    for name, one in about["inputs"].items():
        lines.append(f"  {name} {_shape(one)} {one['dtype']}")
        units = one.get("units") or {}
        lines += [
            f"    {column}{f' [{units[column]}]' if units.get(column) else ''}" for column in one.get("columns", [])
        ]
    lines += ["", "Outputs:"] + [f"  {name} {_shape(one)} {one['dtype']}" for name, one in about["outputs"].items()]
    if about.get("signatures"):
        lines += ["", f"Signatures: {', '.join(about['signatures'])}"]
    lines += ["", f"Scores: {', '.join(about['score_kinds'])}; the first is `score`"] if about["score_kinds"] else []
    if scaling := about.get("scaling"):
        lines += [f"Scaling: {scaling['name']}, inside the model"]
    lines += [*_cuts(about.get("cuts")), *_training(about), f"Licence: {about['licence']}"]
    return "\n".join(lines)


def _shape(one: Mapping[str, Any]) -> str:
    return (
        f"({', '.join(['N' if size is None else str(size) for size in one['shape']])}{',' * (len(one['shape']) == 1)})"
    )


def _cuts(cuts: Mapping[str, Any] | None) -> list[str]:
    if not cuts:
        return []
    follows = ", a threshold that follows the mass; here that at the median mass" if cuts.get("mass") else ""
    lines = [
        f"Cuts on {cuts['score_kind']}, from {cuts['data']['events']:,} events of {cuts['data']['source']}{follows}:"
    ]
    lines += [
        f"  percentile {one['percentile']:g}, {one['tail']} tail: {one['threshold']:.6g}" for one in cuts["values"]
    ]
    return lines


def _training(about: Mapping[str, Any]) -> list[str]:
    lines, data = [], about.get("data")
    if data:
        events = f"{data['events']:,} events of " if isinstance(data.get("events"), int) else ""
        checksum = f", SHA-256 {data['sha256']}" if data.get("sha256") else ""
        lines.append(f"Trained on: {events}{data.get('source', 'generated spectra')}{checksum}")
    if about.get("mass_range"):
        lines.append("Masses: {:g} to {:g} GeV".format(*about["mass_range"]))
    if about["truth_used"]:
        lines.append("Truth: labels had a part in this model, or in the choice of its hyperparameters")
    lines.append(f"State: {about['state_sha256'] or 'of no run'}")
    return lines


# -- ONNX without onnx: the fields of a protobuf message ------------------------------------------------------


def _properties(file: IO[bytes], size: int) -> dict[str, str]:
    """Return the properties of an ONNX model by name: entries of two texts, all other fields are stepped over."""
    found = {}
    for field, length in _fields(file, size):
        if field == METADATA_PROPS and length <= MAX_JSON_BYTES:
            entry = dict(_texts(file.read(length)))
            found[entry.get(1, b"").decode()] = entry.get(2, b"").decode()
        else:
            file.seek(length, os.SEEK_CUR)
    return found


def _fields(file: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """Yield number and length of every field; whoever takes one moves the file to its end."""
    while file.tell() < size:
        key = _varint(file)
        kind = key & 7
        if kind == 0:
            _varint(file)
            continue
        length = _varint(file) if kind == 2 else {1: 8, 5: 4}.get(kind, -1)
        if length < 0 or file.tell() + length > size:
            raise ValueError(f"byte {file.tell()} is not what it should be")
        yield key >> 3, length


def _texts(message: bytes) -> Iterator[tuple[int, bytes]]:
    import io

    file = io.BytesIO(message)
    for field, length in _fields(file, len(message)):
        yield field, file.read(length)


def _varint(file: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends in the middle")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number of more than 64 bits")
