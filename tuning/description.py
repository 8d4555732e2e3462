"""The description of a search, `search.json`: what was asked, by which another process knows whether it is the same search."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines import provenance
from pipelines.arguments import argument
from pipelines.documents import read_json_document
from pipelines.errors import InputError
from pipelines.events.events import Events
from tuning.schemas import WIDTH, Asked, Table

NAMES = {"width": WIDTH, "in_order": 0}  # how trials are named (see `growth`)


def described(events: Events, truth: bool) -> dict[str, object]:
    """Return which events these are; their labels too, which are in no checksum of events, where they matter."""
    files = [str(file.absolute()) for file in events.files]
    found = {"source": events.name, "files": files, "events": len(events), "sha256": provenance.checksum(events)}
    return found | ({"label_sha256": hashlib.sha256(events.label.tobytes()).hexdigest()} if truth else {})


def check_same(out: Path, kept: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `InputError` unless what is asked for goes on with the search that is kept in a folder.

    It may ask for more trials than the search was begun with, never for fewer.
    """
    before, now = _comparable(kept), _comparable(asked)
    for key, value in now.items():
        if before.get(key) != value:
            raise InputError(
                f"{out}: begun with {key}={before.get(key)}, cannot go on with {value}; give the same, or another {argument('out')}"
            )
    if asked["trials"] < kept["trials"]:
        raise InputError(
            f"{out}: begun with {kept['trials']} trials, cannot go on with {asked['trials']}; give {kept['trials']} or more: "
            f"`tune results` shows what is there, and {argument('time_limit')} ends a search earlier"
        )


def _comparable(description: Mapping) -> dict[str, object]:
    """What makes it the same search: the same events may lie elsewhere now."""
    data = {name: description.get(name) for name in ("data", "validation", "template")}
    for name, value in data.items():
        if isinstance(value, Mapping):
            data[name] = {k: v for k, v in value.items() if k not in ("source", "files")}
    free = ("extra", "trials", "budgets", "names", "command", "versions", "plan")
    return {name: value for name, value in description.items() if name not in free} | data


def growth(out: Path, kept: Mapping[str, Any] | None, trials: int) -> dict[str, object]:
    """Return `budgets`, the numbers of trials that a search was asked for one after the other, and how its trials are named.

    `names` says by how many digits at least, and how many trials are named in the order in which they were started, as all
    were in searches of earlier versions; the others are named by their place in the plan.

    Args:
        out: folder of the search. kept: its description; None if that is damaged: then what results.json says counts.
        trials: what it is asked for now.
    """
    if kept is None:
        kept = _read(out / "results.json", Table) or {}
    before: Sequence[int] = kept.get("budgets") or [kept.get("trials", trials)]
    names = kept.get("names")
    if names is None:
        found = {len(path.name.split(".")[0]) for path in (out / "trials").glob("*.*")}
        width = min(found, default=WIDTH)
        is_old = "trials" in kept or width < WIDTH
        names = {"width": width, "in_order": before[0] if is_old else 0}
    return {"budgets": [*(count for count in before if count < trials), trials], "names": names}


def read_asked(out: Path) -> Mapping[str, Any] | None:
    """Return what search.json holds, or None if it is not there or damaged."""
    return _read(out / "search.json", Asked)


def _read(path: Path, schema: object) -> Mapping[str, Any] | None:
    try:
        found: Any = read_json_document(path, schema)
    except InputError:
        return None
    return found
