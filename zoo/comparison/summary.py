"""The table of a benchmark, its figures, and the challenge's CSV, from the results of its cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.outputs import new_file, write_json
from pipelines.printed import plain_table, with_interval
from pipelines.significance_improvement import FLOORS
from zoo.comparison.specification import Cell

Result = Mapping[str, Any]
QUANTILES = (0.16, 0.5, 0.84)
FIGURES = ("auc", "sic_0.01", "sic_0.001", *(f"sic_largest_{least}" for least in FLOORS))


def rows(cells: Sequence[tuple[Cell, Result]]) -> list[dict[str, Any]]:
    """Return the rows of the table: one for each data set, S/B, model, score and signal.

    Each has `seeds`, how many; by `FIGURES` the `mean` and `std` over seeds, None where no seed has it; `seconds`, the mean of a
    training; and with hunts `global` significance and `efficiency`, what is believed, as [16 %, median, 84 %], a hunt of which
    nothing is believed counting as 0 sigma. Of the share `extrapolated` of the hunts no pseudo-experiment was as extreme: their
    significance is extrapolated, and all that is known is that it is above `bound` (None where none is).
    """
    groups: dict[tuple[Any, ...], list[tuple[Cell, Result]]] = {}
    for cell, result in cells:
        for score, by_signal in result["judged"].items():
            for signal in by_signal:
                groups.setdefault((cell.data, cell.ratio, cell.model, score, signal), []).append((cell, result))
    return [_row(key, group) for key, group in groups.items()]


def _row(key: tuple[Any, ...], group: Sequence[tuple[Cell, Result]]) -> dict[str, Any]:
    data, ratio, model, score, signal = key
    each = [result["judged"][score][signal] for _, result in group]
    values: dict[str, list[float | None]] = {"auc": [one["auc"] for one in each]}
    values |= {f"sic_{share}": [one["at"][share] for one in each] for share in ("0.01", "0.001")}
    values |= {f"sic_largest_{least}": [one["largest"][str(least)] for one in each] for least in FLOORS}
    found: dict[str, Any] = {
        "data": data, "s_over_b": ratio, "model": model, "score": score, "signal": signal, "seeds": len(group),
        **{name: _spread(values[name]) for name in FIGURES},
        "background_tested": each[0]["background"], "signal_tested": each[0]["signal"],
        "seconds": float(np.mean([result["seconds"] for _, result in group])),
        "yardstick": group[0][1].get("yardstick"),
    }  # fmt: skip
    if "hunt" in group[0][1]:
        hunts = [result["hunt"] for _, result in group]
        z = [0.0 if one is None else one["global_extrapolated"] for one in hunts]
        shares = [one["efficiency"] for one in hunts if one is not None and one["efficiency"] is not None]
        bounds = [one["global"] for one in hunts if one is not None and one["global_is_bound"]]
        found["global"] = np.quantile(z, QUANTILES).tolist()
        found["extrapolated"], found["bound"] = len(bounds) / len(hunts), min(bounds, default=None)
        found["efficiency"] = np.quantile(shares, QUANTILES).tolist() if shares else None
    return found


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "std": None}
    return {"mean": float(np.mean(known)), "std": float(np.std(known, ddof=1)) if len(known) > 1 else None}


def _largest(least: int, row: Mapping[str, Any]) -> str:
    return _shown(row[f"sic_largest_{least}"], 2)


def _shown(value: Mapping[str, float | None], places: int) -> str:
    if value["mean"] is None:
        return "-"
    spread = "" if value["std"] is None else f" +- {value['std']:.{places}f}"
    return f"{value['mean']:.{places}f}{spread}"


HEADS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "data": lambda row: str(row["data"]),
    "S/B": lambda row: f"{100 * row['s_over_b']:.3g} %",
    "model": lambda row: f"{row['model']}{' (yardstick)' if row['yardstick'] else ''}",
    "score": lambda row: str(row["score"]),
    "signal": lambda row: str(row["signal"]),
    "seeds": lambda row: str(row["seeds"]),
    "AUC": lambda row: _shown(row["auc"], 3),
    "SIC at 1e-2": lambda row: _shown(row["sic_0.01"], 2),
    "SIC at 1e-3": lambda row: _shown(row["sic_0.001"], 2),
    **{f"largest SIC, >= {least}": partial(_largest, least) for least in FLOORS},
    "global Z (68 %)": lambda row: "" if "global" not in row else _band(row),
    "s": lambda row: f"{row['seconds']:.1f}",
}


def _band(row: Mapping[str, Any]) -> str:
    """Median and 68 %, and of extrapolated ones what is known.

    >>> _band({"global": [6.9, 7.4, 8.0], "extrapolated": 0.8, "bound": 3.09})
    '7.4 (6.9 to 8.0); > 3.1 in 80 %'
    """
    known = f"; > {row['bound']:.1f} in {100 * row['extrapolated']:.0f} %" if row["extrapolated"] else ""
    return f"{with_interval(row['global'])}{known}"


def _cells_of(table: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    heads = [name for name in HEADS if name != "global Z (68 %)" or any("global" in row for row in table)]
    return heads, [[HEADS[name](row) for name in heads] for row in table]


def text(table: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as lines for a terminal."""
    return plain_table(*_cells_of(table)) if table else "No cell is finished."


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown, as docs/results/detectors.md has it."""
    heads, lines = _cells_of(table)
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *lines]) + "\n"


def _as_csv(table: Sequence[Mapping[str, Any]]) -> str:
    """The table as CSV, every number with all its digits; a mean and a standard deviation are two columns."""
    flat = []
    for row in table:
        one: dict[str, Any] = {}
        for name, value in row.items():
            if isinstance(value, Mapping):
                one |= {f"{name}_{part}": number for part, number in value.items()}
            elif isinstance(value, list):
                one |= {f"{name}_{100 * q:.0f}": number for q, number in zip(QUANTILES, value)}
            else:
                one[name] = value
        flat.append(one)
    buffer = io.StringIO()
    names = list(dict.fromkeys(name for one in flat for name in one))
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def write(
    table: Sequence[Mapping[str, Any]], cells: Sequence[tuple[Cell, Result]], out: Path, numbers: Mapping[str, object]
) -> None:
    """Write table, figures and the challenge's CSV into the folder of a benchmark, over those of before."""
    for name, content in (("table.csv", _as_csv(table)), ("table.md", markdown(table) if table else "")):
        with new_file(out / name, replace=True) as part:
            part.write_text(content, encoding="utf-8")
    write_json(out / "results.json", numbers)
    if not cells:
        return
    from pipelines.plots.benchmark import plot_sic, plot_significances

    for data, ratio in dict.fromkeys((cell.data, cell.ratio) for cell, _ in cells):
        curves = _curves([pair for pair in cells if (pair[0].data, pair[0].ratio) == (data, ratio)])
        for signal, each in curves.items():
            _drawn(plot_sic, each, out / f"sic_{_file_name(f'{data}_{ratio:g}_{signal}')}.png")
    if any("global" in row for row in table):
        for data in dict.fromkeys(row["data"] for row in table):
            mine = _significances([row for row in table if row["data"] == data])
            _drawn(plot_significances, mine, out / f"significance_{_file_name(data)}.png")
    _write_challenge(cells, out / "challenge.csv")


def _drawn(draw: Callable[..., object], values: object, path: Path) -> None:
    for old in (path, path.with_suffix(".json")):
        old.unlink(missing_ok=True)
    draw(values, path)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def _curves(cells: Sequence[tuple[Cell, Result]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By signal and by model with its score: the SIC curves of all seeds, and the number of background events."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for cell, result in cells:
        for score, by_signal in result["judged"].items():
            name = cell.model if len(result["judged"]) == 1 else f"{cell.model}, {score}"
            for signal, one in by_signal.items():
                mine = found.setdefault(signal, {}).setdefault(name, {"curves": [], "background": one["background"]})
                mine["curves"].append(one["curve"])
    return found


def _significances(table: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    found: dict[str, dict[str, list[Any]]] = {}
    for row in table:
        mine = found.setdefault(row["model"], {"s_over_b": [], "global": [], "extrapolated": [], "bound": []})
        if row["s_over_b"] not in mine["s_over_b"]:  # the same for every signal and score
            mine["s_over_b"].append(row["s_over_b"])
            for name in ("global", "extrapolated", "bound"):
                mine[name].append(row[name])
    return found


def _write_challenge(cells: Sequence[tuple[Cell, Result]], path: Path) -> None:
    """Write the means over seeds of the challenge's figures of merit.

    A model of several S/B is named with each, and with its data where several data sets have the same channel.
    """
    from pipelines.leaderboard.files import write as write_table
    from pipelines.leaderboard.table import FIGURES as CHALLENGE
    from pipelines.leaderboard.table import Table

    groups: dict[tuple[str, str, str, str], list[list[float]]] = {}
    several = len({cell.ratio for cell, _ in cells}) > 1
    of_channel: dict[str, set[str]] = {}
    for cell, _ in cells:
        of_channel.setdefault(cell.events.get("channel") or "", set()).add(cell.data)
    for cell, result in cells:
        for score, by_signal in (result.get("challenge") or {}).items():
            name = cell.model if len(result["judged"]) == 1 else f"{cell.model} {score}"
            name = f"{name} S/B {cell.ratio:g}" if several else name
            name = f"{name} {cell.data}" if len(of_channel[cell.events["channel"]]) > 1 else name
            for signal, figures in by_signal.items():
                values = [np.nan if figures[figure] is None else figures[figure] for figure in CHALLENGE]
                groups.setdefault((signal, name, cell.events["channel"], cell.data), []).append(values)
    if not groups:
        return
    signal, model, channel, _ = (np.array(column) for column in zip(*groups))
    means = np.array([np.mean(each, axis=0) for each in groups.values()])
    path.unlink(missing_ok=True)
    write_table(Table(signal, model, channel, means, np.full(means.shape, np.nan)), path)
