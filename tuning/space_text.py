"""A search space as rows for JSON, as a table, and as YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tuning.ranges import Step
from tuning.space_points import plain_name

USUAL = {"min": None, "max": None, "step": 1, "sampling": "linear"}  # of a range, what need not be said


def row_of(one, makes: Sequence[str]) -> dict[str, Any]:
    """Return a hyperparameter of KerasTuner as a row of `Space.rows`; `makes` are the hyperparameters it makes."""
    kind = type(one).__name__.lower()
    when = {condition.name: list(condition.values) for condition in one.conditions}
    row = {"name": one.name, "kind": kind, "default": one.default, "when": when, "makes": makes}
    if kind in ("int", "float"):
        return row | {"min": one.min_value, "max": one.max_value, "step": one.step, "sampling": one.sampling}
    return row | {"values": list(one.values)}


def searched_text(space: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return what is searched, from the `space` of a search.json: name, values, and when it is drawn.

    >>> rate = {"name": "rate", "min_value": 1e-4, "max_value": 1e-2, "sampling": "log", "conditions": []}
    >>> searched_text([{"class_name": "Float", "config": rate}])
    [('rate', '0.0001 to 0.01, log', '')]
    """
    found = []
    for one in space:
        config = one.get("config") or {}
        row = {"kind": str(one.get("class_name", "")).lower()}
        if "min_value" in config and "max_value" in config:
            row |= {
                "min": config["min_value"],
                "max": config["max_value"],
                "sampling": config.get("sampling") or "linear",
            }
        else:
            row["values"] = config.get("values", [config.get("value", "true or false")])
        conditions = [each.get("config") or {} for each in config.get("conditions") or ()]
        when = ", ".join(f"{each['name']} is {' or '.join(map(str, each['values']))}" for each in conditions)
        found.append((plain_name(str(config.get("name"))), range_text(row), when))
    return found


def range_text(row: Mapping[str, Any]) -> str:
    """Return what is searched of a row, in words."""
    if "min" not in row:
        return ", ".join(map(str, row["values"])) + (" (fixed)" if row["kind"] == "fixed" else "")
    step = f", step {_step(row)}" if "multiplies" in row else ""
    log = "" if row["sampling"] == "linear" else f", {row['sampling']}"
    whole = " whole" if row["kind"] == "int" else ""
    return f"{row['min']:g} to {row['max']:g}{whole}{log}{step}"


def yaml_line(row: Mapping[str, Any], extra: bool, sampling: str) -> str:
    """Return a row as YAML; `extra`: the model's own space does not have it. `sampling`: of the model's own space."""
    if row["kind"] == "fixed":
        return json.dumps(row["values"][0])
    if "min" not in row:
        options = {"values": row["values"], "default": row["default"]}
        if not extra and row["default"] == row["values"][0]:
            return json.dumps(row["values"])
    else:
        options = {key: row[key] for key, usual in USUAL.items() if row[key] not in (None, usual)}
        options |= {"step": _step(row)} if "multiplies" in row else {}
        options |= {"sampling": row["sampling"]} if row["sampling"] != sampling else {}
        options |= {"default": row["default"]} if row["default"] != row["min"] else {}
        options |= {"type": row["kind"]} if extra else {}
    options |= {"when": row["when"]} if extra and row["when"] else {}
    return "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in options.items()) + "}"


def fixed_line(value: object) -> str:
    """Return a fixed value as YAML.

    >>> fixed_line((64, 32)), fixed_line(None)
    ('{fix: [64, 32]}', 'null')
    """
    text = json.dumps(value)
    return f"{{fix: {text}}}" if isinstance(value, (list, tuple)) else text


def _step(row: Mapping[str, Any]) -> str:
    return str(Step(row["step"], row["multiplies"]))
