"""Train the weights that come with the package, in `zoo/weights`, and write their results to docs/weights.md.

    python benchmarks/weights.py [--only vae/lhco_sim] [--scratch FOLDER]

Every run is trained by a `zoo` command, which is printed, kept in the run and in the table, and works in a folder in which the
samples were made by the commands that are printed first. Nothing that trains has labels. What is packed has no state of the
optimizer. Scores of a few events are kept in tests/data/weights.json: later versions have to give them too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # beside this file are modules of the names of packages

import zoo
from pipelines.checksums import digest, file_sha256
from pipelines.datasets.opening import open_events
from pipelines.outputs import as_json, new_directory, write_json
from zoo import weights
from zoo.cli.terminal import quiet_zoo
from zoo.run import read_config
from zoo.serving.contents import without_places
from zoo.state import save_state

ROOT = Path(__file__).resolve().parent.parent
PAGE, SCORES = ROOT / "docs" / "weights.md", ROOT / "tests" / "data" / "weights.json"
KEPT = 5  # events whose scores are kept
RANGE = "--mass-range 2700 5000"
WINDOW = "--data mixed.h5 --mass-range 2500 5000 --window 3300 3700"
SIX = "--data lhco_sim_train --mass-range 2700 5000 --set columns=mass_heavy,tau21_heavy,tau32_heavy,mass_light,tau21_light,tau32_light"
LHCO = "20,000 simulated QCD dijets (lhco_sim_train)"
MIXED = "24,000 simulated QCD dijets and 240 two-prong events, without labels (mixed.h5)"
TOPS = "4,000 simulated top pairs in channel 2b of Dark Machines (tops_train.h5)"

SAMPLES = (
    "zoo data split lhco_sim_test background.h5 signals.h5 --events 4000 --label 0",
    "zoo data split signals.h5 twoprong.h5 threeprong.h5 --events 1000 --label 1",
    "zoo data mix mixed.h5 --background lhco_sim_train --background background.h5 --signal twoprong.h5 --s-over-b 0.01",
    "zoo data simulate darkmachines_background tops.csv --events 5000 --set process=ttbar --set channel=2b",
    "zoo data simulate darkmachines_signal zprime.csv --events 500 --set process=zprime_ll --set channel=2b",
    "zoo data convert tops.csv tops.h5 --channel 2b",
    "zoo data convert zprime.csv zprime.h5 --channel 2b --signal Zp2000_ll",
    "zoo data split tops.h5 tops_train.h5 tops_test.h5 --events 4000",
    "zoo data mix tops_and_zprime.h5 --background tops_test.h5 --signal zprime.h5 --s-over-b 0.5",
)


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights that are shipped: the options of `zoo train`, what they are, on what, and the labelled events that judge them."""

    name: str
    options: str
    about: str
    data: str = LHCO
    judge: str = "lhco_sim_test"
    window: tuple[float, float] | None = None

    @property
    def command(self) -> str:
        """The command that trains them."""
        return f"zoo train {self.name.partition('/')[0]} {self.options} --out {self.name.replace('/', '-')}"


def _window(model: str, options: str, about: str) -> Weights:
    return Weights(f"{model}/lhco_sim", f"{WINDOW} {options}", about, MIXED, window=(3300.0, 3700.0))


DENSITY = "--set num_flows=3 --set flow_width=32 --set density_epochs=20 --set epochs=15"
ALL = (
    Weights("ae/lhco_sim", f"{SIX} --set encoder_units=5,3 --set batch_size=500", "six jet variables"),
    Weights("gan_ae/lhco_sim", f"--preset lhco2020 --data lhco_sim_train {RANGE} --epochs 10", "the paper's 42 jet variables"),
    Weights(
        "vae/lhco_sim",
        f"--preset adam --data lhco_sim_train {RANGE} --set members=4 --set batch_size=500 --set decoder_epochs=10 --epochs 20",
        "the paper's six jet variables, four members",
    ),
    Weights("deep_svdd/lhco_sim", SIX, "six jet variables"),
    Weights("pca/lhco_sim", f"{SIX} --set latent_dim=2", "six jet variables, two components"),
    Weights("knn/lhco_sim", f"{SIX} --set sample=2000", "six jet variables, 2,000 reference events"),
    Weights("isolation_forest/lhco_sim", f"{SIX} --set trees=40 --set subsample=128", "six jet variables, 40 trees"),
    _window("cwola", "--set units=32,32", "the window 3300 to 3700 GeV against its side bands, four jet variables"),
    _window("cathode", f"{DENSITY} --set units=32,32", "the same window against samples of a density"),
    _window("lacathode", f"{DENSITY} --set units=32,32", "the same in the latent space of the density"),
    _window("anode", f"{DENSITY} --set folds=2", "the ratio of two densities in the same window"),
    _window("r_anode", f"{DENSITY} --set folds=2", "the density of the signal in the same window, to that of background"),
    Weights("conv_vae/tops_sim", "--data tops_train.h5 --epochs 15", "particles of channel 2b", TOPS, "tops_and_zprime.h5"),
    Weights("gcn_vae/tops_sim", "--data tops_train.h5 --epochs 15", "particles of channel 2b", TOPS, "tops_and_zprime.h5"),
    Weights(
        "ddp/spectra", "--set channels=16 --set steps=40 --epochs 15", "mass spectra of 30 to 120 bins",
        "77,000 generated spectra", "",
    ),
)  # fmt: skip


def run(command: str, folder: Path) -> float:
    """Run a `zoo` command in a folder and return the seconds that it took."""
    click.echo(command)
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "zoo", *shlex.split(command)[1:]]
    subprocess.run(words, cwd=folder, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def judged_events(one: Weights, folder: Path):
    """The labelled events that judge weights."""
    return one.judge if one.judge.startswith("lhco_") else folder / one.judge


def results(model, one: Weights, folder: Path) -> dict[str, dict[str, float]]:
    """AUC by truth; of `ddp` that of spectra with a bump of 5 expected sigma against those with none, and of the ideal test."""
    if one.judge:
        found = zoo.evaluate(model, judged_events(one, folder), mass_range=one.window)
        names = found.get("label_names", {})
        return {"auc": {f"{names.get(label, label)}, by {found['kind']}": area for label, area in found["auc"].items()}}
    from pipelines import metrics

    generator = dataclasses.replace(model.generator, seed=1_000_000, signal_share=0.5, strengths=(5.0, 5.0))
    spectra = generator.draw(1000)
    there = spectra.signal > 0
    ways = {
        "the network": model.score(spectra),
        "the likelihood ratio with the true background": np.nanmax(spectra.ideal(), 1),
    }
    return {"auc": {f"bumps of 5 sigma, by {way}": float(metrics.auc(z[~there], z[there])) for way, z in ways.items()}}


def pack(trained: Path, one: Weights, folder: Path) -> None:
    """Write trained weights into the package, with their results and without what is of this machine."""
    model, config = zoo.load(trained), read_config(trained)
    data = without_places(config["data"])
    data |= {"files": ["lhco_sim_train"] if "lhco_sim_train" in one.options else []}
    if "units" in config["data"]:
        data["units"] = config["data"]["units"]
    shutil.rmtree(weights.FOLDER / one.name, ignore_errors=True)
    (weights.FOLDER / one.name).parent.mkdir(exist_ok=True)
    with new_directory(weights.FOLDER / one.name) as part:
        (part / "model").mkdir()
        save_state(model, part / "model" / "state.h5", whole=False)
        own = {name: value for name, value in config.items() if name != "sha256"}
        own |= {"data": data, "command": one.command, "state_sha256": file_sha256(part / "model" / "state.h5")}
        kept = as_json(own)
        write_json(part / "config.json", {**kept, "sha256": digest(kept)})
        for name in ("history.csv", "members.csv", "metrics.json"):
            if (trained / name).is_file():
                shutil.copy(trained / name, part / name)
        about = {"about": one.about, "data": one.data, "command": one.command}
        write_json(part / weights.RESULTS, as_json({**about, **results(model, one, folder)}))


def few_scores(one: Weights, folder: Path) -> dict[str, object]:
    """What the packed weights say of a few events, with what they take of these."""
    from zoo.conformance.subject import arrays

    model = zoo.load(one.name)
    if not one.judge:
        counts = np.round(1000 * np.exp(-np.arange(40) / 8.0)) + np.where(np.arange(40) == 20, 60, 0)
        edges = np.linspace(1000.0, 3000.0, 41)
        return {"counts": counts.tolist(), "edges": edges.tolist(), "score": model.score(counts, edges=edges).tolist()}
    events = open_events(judged_events(one, folder), one.window).take(np.arange(KEPT))
    given = arrays(model, events)
    return {**{name: array.tolist() for name, array in given.items()}, "score": model.score(given).tolist()}


def size(name: str) -> int:
    """Bytes of weights in the package."""
    return sum(path.stat().st_size for path in (weights.FOLDER / name).rglob("*") if path.is_file())


def page() -> str:
    """The page of all weights."""
    lines = [
        "# Trained weights", "",
        "The package brings a small trained run of every model but `idealised`, which is told the true background. Their names stand",
        "wherever a run directory does; a folder of that name comes first. `zoo list` lists them, `zoo show NAME` says what they are.", "",
        "    zoo score vae/lhco_sim --data lhco_sim_test --out scores.h5", "    zoo evaluate gan_ae/lhco_sim --data lhco_sim_test", "",
        "```python", "import pipelines", "import zoo", "", 'model = zoo.load("vae/lhco_sim")', 'score = model.score(pipelines.open("lhco_sim_test"))', "```", "",
        "They are small and shortly trained, for first steps and for tests: results to quote are in [results](results.md). They have no",
        "state of the optimizer. All are trained on simulation of this project, without labels, by", "",
        "    python benchmarks/weights.py", "",
        "which writes this page too. Its samples are made by", "", *(f"    {command}" for command in SAMPLES), "",
        "AUC is by labels, on `lhco_sim_test` within the masses of the training (of models of a window within that), of `tops_and_zprime.h5`, or of",
        "1,000 generated spectra. Below 0.5 ordinary events have the larger score. The classifiers of a window have seen other events of the",
        "judging sample, but never those that they score.", "",
        "| name | kB | trained on | of | AUC |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for one in ALL:
        if one.name not in weights.names():
            continue
        found = weights.results(one.name)
        areas = "; ".join(f"{what}: {value:.3f}" for what, value in found["auc"].items())
        lines.append(f"| `{one.name}` | {size(one.name) / 1000:.0f} | {found['data']} | {found['about']} | {areas} |")
    lines += ["", "The commands:", "", *(f"    {one.command}" for one in ALL if one.name in weights.names()), ""]
    return "\n".join(lines)


@click.command()
@click.option("--only", multiple=True, help="Only these; may be repeated.")
@click.option(
    "--scratch", type=click.Path(path_type=Path), help="Folder that keeps samples and runs; a temporary one otherwise."
)
def main(only, scratch):
    """Train all weights and pack them."""
    quiet_zoo()
    chosen = [one for one in ALL if not only or one.name in only]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(scratch or temporary)
        folder.mkdir(exist_ok=True)
        for command in SAMPLES if any(".h5" in f"{one.options} {one.judge}" for one in chosen) else ():
            made = [word for word in shlex.split(command)[3:] if word.endswith((".h5", ".csv"))]
            if not all((folder / name).exists() for name in made):
                run(command, folder)
        kept = json.loads(SCORES.read_text()) if SCORES.exists() else {}
        for one in chosen:
            trained = folder / one.name.replace("/", "-")
            if not trained.exists():
                run(one.command, folder)
            pack(trained, one, folder)
            kept[one.name] = few_scores(one, folder)
            click.echo(f"{one.name}: {size(one.name) / 1000:.0f} kB; {weights.text(one.name).splitlines()[3:]}")
            SCORES.write_text(json.dumps(kept) + "\n")
            PAGE.write_text(page())


if __name__ == "__main__":
    main()
