"""The tuner against stock KerasTuner Hyperband: seconds per trial, memory, and what workers bring; in one run.

    python benchmarks/tuning.py                           # 200 trials of ours, 24 of stock KerasTuner; vae, gan_ae
    python benchmarks/tuning.py --model gcn_vae --objects chan2b.h5
    python benchmarks/tuning.py --model vae --trials 20 --stock 6 --workers 1 --workers 2

Both search the same space, with the same numbers of epochs, on the same events, the model's training step compiled by
XLA. Ours is `tuning.search`. Stock is `keras_tuner.Tuner` with the same oracle, plan and seed, so that it tries the same
configurations; it builds, traces and compiles every trial anew, as it always does, and judges by the same objective. It runs
the first `--stock` trials of a plan of that size, and its time per epoch trained is what is compared: `ratio` is
(stock seconds / stock epochs) / (our seconds / our epochs). Memory is resident memory of the process that trains, after trial 20
(or the last, if there are fewer) and at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

DEFAULT_MODELS = ("vae", "gan_ae")
SMALL = {  # what is not searched: as few epochs of other phases as the recipe allows
    "vae": {"decoder_epochs": 0},
    "gan_ae": {"pretraining_epochs": 1},
    "gcn_vae": {},
}


def resident() -> float:
    """Return the resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def opened(data: str, events: int):
    """Return the events that both search on."""
    import pipelines

    found = pipelines.open(data)
    return found.sample(events) if events and events < len(found) else found


def ours(model, data, events, trials, max_epochs, architectures, workers, seed) -> dict[str, object]:
    """Run our search; returns its times."""
    import tuning
    from tuning.session import Watcher

    class Clock(Watcher):
        def __init__(self):
            self.ended_at, self.gaps, self.memory = {}, [], []

        def begun(self, trial, epochs, worker):
            if worker in self.ended_at:
                self.gaps.append(time.perf_counter() - self.ended_at[worker])
            self.at = {**getattr(self, "at", {}), trial: worker}

        def ended(self, record, finished):
            self.ended_at[self.at[record["trial"]]] = time.perf_counter()
            self.memory.append(resident())

    clock, out = Clock(), Path(tempfile.mkdtemp()) / "search"
    options = {
        "max_epochs": max_epochs,
        "architectures": architectures,
        "fixed": SMALL[model],
        "workers": workers,
        "seed": seed,
        "watcher": clock,
    }
    started = time.perf_counter()
    results = tuning.search(model, opened(data, events), trials=trials, out=out, objective="val_loss", **options)
    seconds = time.perf_counter() - started
    done = results.trials
    parts = {name: sum(t.get(f"{name}_seconds", 0.0) for t in done) for name in ("training", "validating", "compiling")}
    inside = sum(t["seconds"] for t in done)
    at = min(20, len(clock.memory)) - 1
    return {
        "trials": len(done),
        "failed": sum(t["status"] != "COMPLETED" for t in done),
        "seconds": seconds,
        "epochs": sum(t["epochs"] - t["initial_epoch"] for t in done),
        "trials_per_hour": 3600.0 * len(done) / seconds,
        "waiting": sum(clock.gaps) / max(1, len(clock.gaps)),
        "programs": sum(t.get("compiling_seconds", 0.0) > 0 for t in done),
        "outside_training": 1.0 - parts["training"] / inside,
        **{name: value / inside for name, value in parts.items() if name != "training"},
        **({"memory": [clock.memory[at], clock.memory[-1]]} if workers == 1 else {}),
        "best": results.best["objective"] if results.best else None,
    }


def stock(model, data, events, trials, max_epochs, architectures, seed) -> dict[str, object]:
    """Run stock KerasTuner with the same oracle; returns its times."""
    import zoo
    from tuning import algorithms
    from tuning.kerastuner import keras_tuner
    from tuning.objectives import Objective
    from tuning.session import VALIDATION_SHARE
    from tuning.space import Space

    space = Space(model, {"seed": seed, **SMALL[model]})
    oracle = algorithms.make(
        "hyperband", space.hyperparameters(), trials, max_epochs, 3, seed, architectures, space.shapes()
    )
    training, validation = opened(data, events).without_labels().split(1.0 - VALIDATION_SHARE, seed)
    judge, memory, epochs = Objective.parse("val_loss"), [], []

    class Stock(keras_tuner.Tuner):
        """A tuner as KerasTuner's guide says: build, fit, report; promoted trials load their weights and go on."""

        def run_trial(self, trial, **_):
            values = trial.hyperparameters.values
            first, last = values["tuner/initial_epoch"], values["tuner/epochs"]
            built = zoo.get(model, **space.draw(trial.hyperparameters))
            built.adapt(training)
            if first:
                zoo.run.load_state(built, Path(self.get_trial_dir(values["tuner/trial_id"])) / "state.h5")
            history = built.fit(training, validation, epochs=last, initial_epoch=first, verbose=0, finish=False)
            Path(self.get_trial_dir(trial.trial_id)).mkdir(parents=True, exist_ok=True)
            zoo.run.save_state(built, Path(self.get_trial_dir(trial.trial_id)) / "state.h5")
            epochs.append(last - first)
            memory.append(resident())
            return {"objective": judge(built, validation, history.history)["objective"]}

    tuner = Stock(oracle=oracle, hypermodel=lambda hp: None, directory=tempfile.mkdtemp(), project_name="stock")
    started = time.perf_counter()
    tuner.search(verbose=0)
    seconds = time.perf_counter() - started
    best = oracle.get_best_trials(1)
    return {
        "trials": len(memory),
        "seconds": seconds,
        "epochs": sum(epochs),
        "memory": [memory[min(20, len(memory)) - 1], memory[-1]],
        "best": best[0].score if best else None,
    }


def measured(what: str, **options) -> dict[str, object]:
    """Measure in a process of its own, so that no run finds what another has compiled or allocated."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import zoo.terminal; zoo.terminal.quiet_zoo(); import zoo.run\n"
        "import importlib.util as u; s = u.spec_from_file_location('bench', sys.argv[2]); m = u.module_from_spec(s)\n"
        "s.loader.exec_module(m)\n"
        "if __name__ == '__main__': print('RESULT' + json.dumps(getattr(m, sys.argv[3])(**json.loads(sys.argv[4]))))"
    )
    script = Path(__file__).resolve()
    command = [sys.executable, "-c", code, str(script.parent.parent), str(script), what, json.dumps(options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))[6:])


@click.command()
@click.option("--model", "models", multiple=True, default=DEFAULT_MODELS, show_default=True)
@click.option("--data", default="lhco_sim_train", show_default=True, help="Events file or embedded sample.")
@click.option("--objects", help="Events file with particles, for the models that take them.")
@click.option("--events", default=0, help="Use so many; all otherwise.")
@click.option("--trials", default=200, show_default=True)
@click.option("--stock", "stock_trials", default=24, show_default=True, help="Trials of stock KerasTuner; 0 for none.")
@click.option("--max-epochs", default=9, show_default=True)
@click.option("--architectures", default=0, show_default=True, help="Draw no more than so many, by both; 0: no limit.")
@click.option("--workers", multiple=True, type=int, default=(1, 2, 4), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write all numbers there.")
def main(models, data, objects, events, trials, stock_trials, max_epochs, architectures, workers, seed, as_json):
    """Print one table for each model."""
    everything = {}
    if objects is None and {"gcn_vae", "conv_vae"} & set(models):
        raise click.UsageError("gcn_vae and conv_vae take particles: give --objects, an events file that has them")
    for model in models:
        source = objects if model in ("gcn_vae", "conv_vae") else data
        common = {"model": model, "data": source, "events": events, "max_epochs": max_epochs, "seed": seed}
        common |= {"architectures": architectures}
        found = everything[model] = {}
        if stock_trials:
            found["stock KerasTuner"] = measured("stock", trials=stock_trials, **common)
        for count in workers:
            name = f"ours, {count} worker{'s' * (count > 1)}"
            found[name] = measured("ours", trials=trials, workers=count, **common)
        print(
            f"\n{model}: {trials} trials ({stock_trials} of stock KerasTuner), at most {max_epochs} epochs, {source}\n"
        )
        print("|  | s/trial | s/epoch | ratio | trials/h | waiting (s) | outside training | compiling | memory (MB) |")
        print("| --- " + "| ---: " * 8 + "|")
        base = found.get("stock KerasTuner")
        for name, row in found.items():
            print(_line(name, row, base))
    if as_json:
        as_json.write_text(json.dumps(everything, indent=2))


def _line(name: str, row: dict, base: dict | None) -> str:
    pace = row["seconds"] / row["epochs"]
    ratio = "" if base is None else f"{base['seconds'] / base['epochs'] / pace:.1f}"
    memory = "{:.0f} to {:.0f}".format(*row["memory"]) if "memory" in row else ""
    share = [f"{row[key]:.0%}" if key in row else "" for key in ("outside_training", "compiling")]
    waiting = f"{row['waiting']:.2f}" if "waiting" in row else ""
    cells = [
        f"{row['seconds'] / row['trials']:.2f}",
        f"{pace:.2f}",
        ratio,
        f"{3600 * row['trials'] / row['seconds']:.0f}",
    ]
    return "| " + " | ".join([name, *cells, waiting, *share, memory]) + " |"


if __name__ == "__main__":
    main()
