"""A scan of windows on disk: its numbers, scores, and its report."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipelines.checksums import create, store
from pipelines.outputs import new_directory, new_disk, new_file, write_json
from pipelines.window_scan.report import tell, warnings
from pipelines.window_scan.result import WindowScan


def write(found: WindowScan, out: str | os.PathLike[str], runs: Path | None = None) -> Path:
    """Write a scan to a new folder, whole or not at all.

    search.json   every number but those of single events; what was done
    scores.h5     mass of every event, and a group for every window: scores, and by percentile which events are selected
    runs/         what was trained for it, copied from the folder `runs`
    report.html   all of it to read, with the figure in plots/; report.json, the numbers of both

    Raises `InputError` if `out` exists or cannot be written.
    """
    with new_directory(out) as part:
        write_json(part / "search.json", {**found.to_dict(), "warnings": warnings(found)})
        _write_scores(found, part / "scores.h5")
        if runs is not None:
            shutil.copytree(runs, part / "runs", ignore=shutil.ignore_patterns(".*"))
        (part / "plots").mkdir()
        page, numbers = tell(found, part / "plots")
        write_json(part / "report.json", numbers)
        with new_file(part / "report.html", replace=True) as html:
            html.write_text(page.to_html(), encoding="utf-8")
    return Path(out)


def _write_scores(found: WindowScan, path: Path) -> None:
    with new_disk(path) as disk, create(disk, track_order=True) as file:
        store(file, "mass", found.events.mass)
        store(file, "smallest_local_p_values", found.minima)
        file.attrs["model"] = str(found.configuration.get("model"))
        each = len(found.options.several_percentiles)
        for number, scored in enumerate(found.scored):
            chosen = found.selections[number * each : (number + 1) * each]
            group = file.create_group(f"window-{number}")
            group.attrs["window"] = (chosen[0].window.low, chosen[0].window.high)
            store(group, "score", scored.score)
            if scored.template is not None:
                store(group, "template", scored.template)
            for one in chosen:
                store(group, f"selected {one.percentile:g}", one.chosen)
