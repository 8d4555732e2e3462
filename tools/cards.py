"""The parts of the models' pages that follow from the models: `python tools/cards.py` writes them into docs/models.

They stand between `<!-- hyperparameters -->`, `<!-- space -->`, `<!-- weights -->` or `<!-- cost -->` and `<!-- end -->`. `tests/test_site.py` asserts that they are not stale.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- hyperparameters[^>]*-->\n)(.*?)(<!-- end -->)", re.DOTALL)
EDGES = ("window", "sidebands")  # two masses in GeV, or none
DENSITY = ("cathode", "lacathode", "anode", "r_anode")  # whose density had one epoch when the cost was measured
COST_NOTES = {
    "ae": " With batches of 256 and all columns; its defaults are batches of 8192, and features of ATLAS Open Data."
}


def hyperparameters(name: str) -> str:
    """Return the table of a model's hyperparameters, and that of its presets.

    Args:
        name: of the model; it is imported, and TensorFlow with it.
    """
    from zoo import registry

    model = registry.model_class(name)
    declared, defaults = model.Hyperparameters.declarations(), model.Hyperparameters.defaults()
    lines = ["| hyperparameter | what | default | range |", "|---|---|---|---|"]
    for key, one in declared.items():
        mark = "*" if one.runtime else ""
        limit = _range(name, key, one.limit)
        lines.append(f"| {mark}`{key}`{mark} | {_plain(one.text)} | {_value(defaults[key])} | {limit} |")
    if any(one.runtime for one in declared.values()):
        lines += [
            "",
            "In italics: runtime hyperparameters, which change no shape, so another value compiles nothing anew.",
        ]
    if model.presets:
        lines += ["", "| preset | what it sets |", "|---|---|"]
        for preset, values in model.presets.items():
            lines.append(f"| `{preset}` | {', '.join(f'`{k}` {_value(v)}' for k, v in values.items()) or 'nothing'} |")
    return "\n".join(["", *lines, "", ""])


def _range(name: str, key: str, limit: object) -> str:
    """Return what values a hyperparameter of a model may take, for a cell of a table."""
    if key == "seed":
        return "0 to 2147483647"
    if key in EDGES:
        return "(), or (low, high) with 0 <= low < high" + (", or one width above 0" if key == "sidebands" else "")
    if name == "ddp" and (limit is None or key == "bins"):
        from pipelines.simulation import spectra

        known = {"families": spectra.FAMILIES, "binnings": spectra.BINNINGS, "signal_shapes": spectra.SIGNAL_SHAPES}
        if key in known:
            return f"some of {', '.join(f'`{one}`' for one in known[key])}"
        least, most = spectra.RANGES[key]
        above = ">" if key in ("yields", "signal_widths") else ">="  # as `Generator` has it
        upper = "" if most == float("inf") else f" and <= {most:g}"
        kind = "whole numbers" if key == "bins" else "numbers"
        return f"(low, high), low <= high, {kind} {above} {least:g}{upper}"
    return "" if limit is None else _plain(str(limit))


def space(name: str) -> str:
    """Return the table of what `tune` searches of a model."""
    from tuning.space import Space
    from tuning.space_text import range_text

    lines = ["| name | searched | makes | only if |", "|---|---|---|---|"]
    for row in Space(name).rows():
        when = "; ".join(
            f"`{key}` is {' or '.join(f'`{one}`' for one in values)}" for key, values in row["when"].items()
        )
        makes = ", ".join(f"`{one}`" for one in row["makes"])
        lines.append(f"| `{row['name']}` | {range_text(row)} | {makes} | {when} |")
    return "\n".join(["", *lines, "", ""])


def _plain(text: str) -> str:
    """Return a text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _value(value: object) -> str:
    if isinstance(value, (list, tuple)):
        shown = ", ".join(map(_one, value))
        if len(value) > 8:
            shown = f"{', '.join(map(_one, value[:3]))}, ... {_one(value[-1])} ({len(value)} in all)"
        return f"({shown})" if value else "()"
    return _one(value)


def _one(value: object) -> str:
    if isinstance(value, str):
        return _plain(f"`{value}`") if value else '""'
    return f"{value:g}" if isinstance(value, float) else str(value)


def costs(measured: Mapping[str, Any]) -> str:
    """Return the table of docs/models/index.md from what `tools/cost.py` measured."""
    lines = [
        "| model | events | parameters | first epoch, s | an epoch, s | a default training, s | to score 1,000, ms | run directory, MB |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, one in measured["models"].items():
        lines.append(
            f"| [`{name}`]({name}.md) | {one['events']} | {one['parameters']:,} | {one['first']:.1f} | {one['epoch']:.2f} | "
            f"{'-' if name in DENSITY else format(one['total'], '.0f')} | {one['score']:.0f} | {one['size']:.2g} |"
        )
    return "\n".join(["", *lines, "", ""])


def cost(measured: Mapping[str, Any], name: str) -> str:
    """Return the sentence of a model's page."""
    one = measured["models"][name]
    what = "spectra" if name == "ddp" else "events"
    trained = (
        f"{one['parameters']:,} trained numbers of one member. "
        if one["parameters"]
        else "Nothing is trained in steps. "
    )
    default = "" if name in DENSITY else f", {one['total']:.0f} s for {one['epochs']} epochs, its default"
    times = (
        f"{one['first']:.1f} s for the first epoch, compiling included, {one['epoch']:.2f} s for another{default}"
        if one["epochs"] > 1
        else f"{one['first']:.1f} s to train"
    )
    note = COST_NOTES.get(name, "")
    if name in DENSITY:
        note = " The density had one epoch, inside the first; the other 29 of its default were not run, so there is no time of a default training."
    return (
        f"\n{trained}On {one['events']}: {times}; {one['score']:.0f} ms to score 1,000 {what}; {one['size']:.2g} MB for a run directory.{note}\n"
        f"Two cores with no other work ([all models](index.md#what-they-cost)).\n\n"
    )


def trained(name: str) -> str:
    """Return what a model's page says of the weights that come with the package."""
    from zoo import weights

    (run,) = weights.names(f"{name}/*")
    found = weights.results(run)
    events = json.loads((weights.FOLDER / run / "config.json").read_text(encoding="utf-8"))["data"].get("events")
    within = re.search(r"--mass-range (\d+) (\d+)", found["command"])
    range_ = f", of which {events:,} from {within[1]} to {within[2]} GeV" if within else ""
    reached = "; ".join(f"{what} {value:.3f}" for what, value in found["auc"].items())
    if any(value < 0.5 for value in found["auc"].values()):
        reached += ". Below 0.5 ordinary events have the larger score: the signal is in the other tail"
    without = "" if name == "ddp" else ", and no label trained them"
    simple = run.endswith("/lhco_sim")
    load = f'model = zoo.load("{run}")' + ('\nscore = model.score(pipelines.open("lhco_sim_test"))' if simple else "")
    imports = "import pipelines\nimport zoo" if simple else "import zoo"
    return (
        f"\nTrained weights come with the package, `{run}`, small and shortly trained ([all of them, and their samples](../weights.md)).\n"
        f"They are of {found['data']}{range_}{without}. The command was\n"
        f"`{found['command']}`.\nAUC: {reached}.\n\n```python\n{imports}\n\n{load}\n```\n\n"
    )


def filled(text: str, name: str | None) -> str:
    """Return a page with its generated parts made anew; `name` is the model's, None for the page of all."""
    measured = json.loads((ROOT / "docs" / "models" / "cost.json").read_text(encoding="utf-8"))
    if name is not None:
        text = PART.sub(lambda found: found[1] + hyperparameters(name) + found[3], text)
        text = re.sub(
            r"(<!-- space[^>]*-->\n)(.*?)(<!-- end -->)", lambda f: f[1] + space(name) + f[3], text, flags=re.DOTALL
        )
        text = re.sub(
            r"(<!-- weights[^>]*-->\n)(.*?)(<!-- end -->)", lambda f: f[1] + trained(name) + f[3], text, flags=re.DOTALL
        )
    made = costs(measured) if name is None else cost(measured, name)
    return re.sub(r"(<!-- cost[^>]*-->\n)(.*?)(<!-- end -->)", lambda f: f[1] + made + f[3], text, flags=re.DOTALL)


def pages() -> dict[Path, str | None]:
    """Return the pages with generated parts, and whose they are."""
    from zoo import registry

    folder = ROOT / "docs" / "models"
    return {folder / "index.md": None, **{folder / f"{name}.md": name for name in registry.names()}}


def main() -> None:
    """Write the generated parts of all pages."""
    for path, name in pages().items():
        path.write_text(filled(path.read_text(encoding="utf-8"), name), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
