"""The tuner against stock KerasTuner Hyperband and Optuna's: time, memory, and quality; and what a program costs.

    python benchmarks/tuning.py                           # 200 trials of ours, 24 of stock KerasTuner; vae, gan_ae
    python benchmarks/tuning.py --model gcn_vae --objects chan2b.h5
    python benchmarks/tuning.py --model vae --trials 20 --stock 6 --workers 1 --workers 2
    python benchmarks/tuning.py --model vae --set units=64,64,64 --set latent_dim=1 --set scaling=maxabs   # one network
    python benchmarks/tuning.py --model vae --objective reconstruction+10*sculpting --seeds 5 --stock 23
    python benchmarks/tuning.py --model vae --set flow=none --objective reconstruction --minutes 2 --minutes 5 --minutes 10 --seeds 5
    python benchmarks/tuning.py --model vae --programs "" --programs optimizer=adam --programs "flow=planar num_flows=2"

Ours is `tuning.search`. Stock is `keras_tuner.oracles.HyperbandOracle` in KerasTuner's own loop, over the same space, on the
same events, with the same model and objective, with XLA and without; it builds and traces every trial anew, as it always does. Its
plan is a whole search of as many cycles as it likes, of which it runs the first `--stock` trials. Both plan brackets of
their own, and draw configurations of their own from one distribution, so what is compared is the time of an epoch and of a trial:
the ratios are those of the best of the others over ours. With `--architectures` ours alone is limited; `--set` fixes a hyperparameter for both.

With `--apart` there is a row of ours in which every size of a network, scaling and batch size has a program of its own.

`outside` is 1 - (seconds in training steps) / (wall seconds x workers), from the call of the search to its result: all
that is not training counts, also between trials and before the first. `compiling` is the part of it that traces and
compiles, and `but for compiling` what is outside without that. `waiting` is a worker's mean time from the end of a trial to
the next one's beginning, as the main process learns of them. Memory, resident, is of the process that trains, after trial
20 and 100 (or the last, if there are fewer) and at the end; where workers train it is not measured.

Optuna's row is its Hyperband over the same space, with the network written plainly in Keras (`optuna_hyperband.py`); it needs
`pip install optuna`, and where it is not installed, or the network is not written, a line says so and the row is left out. Optuna
counts a configuration that goes on to more epochs as one trial, KerasTuner and we as several: compare epochs.

With `--minutes` searches of equal time are compared, by the best objective that each had found after so many minutes, from the call
of the search on, over `--seeds` seeds. Ours is planned for `--trials`, which should be more than the time allows.

With `--seeds N` and no minutes N searches of `--stock` trials each, by ours and by stock, are compared by the best objective that
they found; only an objective that does not depend on what is searched, as `val_loss` does, compares anything.
With `--programs` nothing is compared: it prints the CPU seconds, with XLA, all threads together, that the first trial of an
architecture costs more than the second, and those of an epoch with its validation.
"""

from __future__ import annotations

import json
import math
import os
import statistics
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
}
FACTOR = 3
OURS, STOCK, OPTUNA = "ours", "stock KerasTuner", "Optuna, plain Keras"
FUNCTIONS = {OURS: "ours", STOCK: "stock", OPTUNA: "optuna"}
EPOCHS = 4  # of the trials that measure a program


def resident() -> float:
    """Return the resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def opened(data: str, events: int):
    """Return the events that all searches are on."""
    import pipelines

    found = pipelines.open(data)
    return found.sample(events) if events and events < len(found) else found


def new_folder() -> Path:
    """Return where a search may be written, which nobody needs afterwards."""
    return Path(tempfile.mkdtemp()) / "search"


def ours(
    model,
    data,
    events,
    trials,
    max_epochs,
    objective,
    fixed,
    seed,
    workers=1,
    architectures=0,
    apart=False,
    seconds=None,
):
    """Run our search; returns its times."""
    import tuning
    from tuning.listener import SearchListener

    class Clock(SearchListener):
        def __init__(self):
            self.free, self.at, self.gaps, self.memory, self.found = {}, {}, [], [], []

        def begun(self, trial, epochs, worker, bracket):
            self.at[trial] = worker
            if worker in self.free:
                self.gaps.append(time.perf_counter() - self.free[worker])

        def ended(self, record, finished):
            self.free[self.at[record["trial"]]] = time.perf_counter()
            self.memory.append(resident())
            self.found.append([time.perf_counter() - started, record["objective"]])

    if apart:
        tuning.session.sizes = lambda model, points: {}
    clock, events = Clock(), opened(data, events)
    started = time.perf_counter()
    results = tuning.search(
        model, events, trials=trials, out=new_folder(), objective=objective, max_epochs=max_epochs, factor=FACTOR,
        architectures=architectures, fixed=fixed, workers=workers, seed=seed, listener=clock, time_limit=seconds,
    )  # fmt: skip
    seconds, done = time.perf_counter() - started, results.trials
    names = ("training", "validating", "compiling", "building")
    parts = {name: sum(trial.get(f"{name}_seconds", 0.0) for trial in done) for name in names}
    return {
        **_times(seconds, len(done), sum(t["epochs"] - t["initial_epoch"] for t in done)),
        "failed": sum(trial["status"] != "COMPLETED" for trial in done),
        "programs": sum(trial.get("compiling_seconds", 0.0) > 0 for trial in done),
        "waiting": statistics.fmean(clock.gaps or [0.0]),
        "outside": 1.0 - parts["training"] / (seconds * workers),
        "compiling": parts["compiling"] / (seconds * workers),
        "outside_but_compiling": 1.0 - parts["training"] / (seconds * workers - parts["compiling"]),
        "worker_seconds": parts,
        **({"memory": _memory(clock.memory)} if workers == 1 else {}),
        "best": results.best["objective"] if results.best else None,
        "found": clock.found,
    }


def stock(model, data, events, trials, max_epochs, objective, fixed, seed, xla=True, seconds=None) -> dict[str, object]:
    """Run stock KerasTuner; returns its times."""
    import zoo
    from tuning.kerastuner import keras_tuner
    from tuning.objectives import Objective
    from tuning.session import VALIDATION_SHARE
    from tuning.space import Space

    memory, epochs, found, judge, events = [], [], [], Objective.parse(objective), opened(data, events)

    class Stock(keras_tuner.Tuner):
        """A tuner as KerasTuner's guide says: build, fit, report; promoted trials load their weights and go on."""

        def run_trial(self, trial, **_):
            values = trial.hyperparameters.values
            first, last = values["tuner/initial_epoch"], values["tuner/epochs"]
            built = self._try_build(trial.hyperparameters)
            if first:
                zoo.run.load_state(built, self._state(values["tuner/trial_id"]))
            history = built.fit(training, watched, epochs=last, initial_epoch=first, verbose=0, finish=False,
                                jit_compile=xla)  # fmt: skip
            self._state(trial.trial_id).parent.mkdir(parents=True, exist_ok=True)
            zoo.run.save_state(built, self._state(trial.trial_id))
            epochs.append(last - first)
            memory.append(resident())
            value = judge(built, validation, history.history)["objective"]
            found.append([time.perf_counter() - started, value])
            if seconds is not None and found[-1][0] >= seconds:
                oracle.max_trials = len(oracle.trials)
            return {"objective": value}

        def _state(self, trial: str) -> Path:
            return Path(self.get_trial_dir(trial)) / "state.h5"

    def build(hyperparameters):
        built = zoo.get(model, **space.draw(hyperparameters))
        built.adapt(training)
        return built

    started = time.perf_counter()
    training, validation = events.split(1.0 - VALIDATION_SHARE, seed)
    training, watched = training.without_labels(), validation.without_labels()
    space = Space(model, {"seed": seed, **fixed})
    oracle = keras_tuner.oracles.HyperbandOracle(
        keras_tuner.Objective("objective", "min"),
        max_epochs=max_epochs,
        factor=FACTOR,
        hyperband_iterations=None,
        seed=seed + 1,  # KerasTuner takes 0 for none
        hyperparameters=space.hyperparameters(),
        max_consecutive_failed_trials=trials + 1,
    )
    oracle.max_trials = trials  # where it stops; what it plans does not depend on it
    folder = new_folder()
    Stock(oracle=oracle, hypermodel=build, directory=folder.parent, project_name=folder.name).search(verbose=0)
    taken, best = time.perf_counter() - started, oracle.get_best_trials(1)
    return {
        **_times(taken, len(oracle.trials), sum(epochs)),
        "failed": sum(trial.status != "COMPLETED" for trial in oracle.trials.values()),
        "memory": _memory(memory),
        "best": best[0].score if best else None,
        "found": found,
    }


def optuna(model, data, events, trials, max_epochs, objective, fixed, seed, seconds=None) -> dict[str, object]:
    """Run Optuna's Hyperband with a network written plainly; returns its times."""
    from benchmarks.optuna_hyperband import search
    from tuning.session import VALIDATION_SHARE
    from tuning.space import Space

    memory, epochs, found = [], [], []

    def ended(value: float, done: int) -> None:
        memory.append(resident())
        epochs.append(done)
        found.append([time.perf_counter() - started, value])

    events, started = opened(data, events), time.perf_counter()
    training, validation = (part.without_labels() for part in events.split(1.0 - VALIDATION_SHARE, seed))
    space = Space(model, {"seed": seed, **fixed})
    search(model, training, validation, space, trials, max_epochs, FACTOR, objective, seed, seconds, ended)
    taken, finite = time.perf_counter() - started, [value for _, value in found if math.isfinite(value)]
    return {
        **_times(taken, len(found), sum(epochs)),
        "memory": _memory(memory),
        "best": min(finite, default=None),
        "found": found,
    }


def program(model, data, events, settings, seed) -> dict[str, object]:
    """Return the CPU seconds that a compiled program costs, and an epoch of it: of two trials that share it."""
    import tuning
    from tuning.listener import SearchListener
    from zoo import registry
    from zoo.cli.terminal import setting

    class Clock(SearchListener):
        begins, epochs, ends = [], [], []

        def begun(self, trial, epochs, worker, bracket):
            self.begins.append(time.process_time())

        def epoch(self, trial, epoch, worker, logs):
            self.epochs.append(time.process_time())

        def ended(self, record, finished):
            self.ends.append(time.process_time())

    kind = registry.model_class(model)
    usual = {name: value for name, value in registry.defaults(kind).items() if name not in kind.runtime_hyperparameters}
    fixed = {**usual, **SMALL.get(model, {}), **dict(map(setting, settings)), "seed": seed}  # but for the runtime ones
    tuning.search(
        model, opened(data, events), trials=2, out=new_folder(), algorithm="random", objective="val_loss",
        max_epochs=EPOCHS, fixed=fixed, seed=seed, listener=Clock(), jit_compile=True,
    )  # fmt: skip
    first, second = (end - begin for begin, end in zip(Clock.begins, Clock.ends))
    return {"program": first - second, "epoch": (Clock.epochs[-1] - Clock.epochs[EPOCHS]) / (EPOCHS - 1)}


def _times(seconds: float, trials: int, epochs: int) -> dict[str, float]:
    per = {"seconds_per_trial": seconds / trials, "seconds_per_epoch": seconds / epochs}
    return {"trials": trials, "epochs": epochs, "seconds": seconds, "trials_per_hour": 3600.0 * trials / seconds, **per}


def _memory(after: list[float]) -> list[float]:
    return [after[min(place, len(after)) - 1] for place in (20, 100, len(after))] if after else []


def measured(what: str, **options) -> dict[str, object]:
    """Measure in a process of its own, so that no run finds what another has compiled or allocated."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import zoo.cli.terminal; zoo.cli.terminal.quiet_zoo(); import zoo.run\n"
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
@click.option("--optuna", "optuna_trials", default=24, show_default=True, help="Trials of Optuna; 0 for none.")
@click.option("--max-epochs", default=9, show_default=True)
@click.option("--objective", default="val_loss", show_default=True, help="What both minimise; its cost counts.")
@click.option("--architectures", default=0, show_default=True, help="Ours draws no more than so many; 0: no limit.")
@click.option("--set", "settings", multiple=True, help="NAME=VALUE, fixed for both; may be repeated.")
@click.option("--workers", multiple=True, type=int, default=(1, 2, 4), show_default=True)
@click.option("--seeds", default=0, help="Compare the best of so many searches of --stock trials, ours and stock.")
@click.option("--minutes", multiple=True, type=float, help="Compare after so many minutes; may be repeated.")
@click.option("--apart", is_flag=True, help="A row of ours with a program for every size.")
@click.option("--programs", multiple=True, help="Measure a program: NAME=VALUE in words, or none; may be repeated.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Write all numbers there.")
def main(
    models, data, objects, events, trials, stock_trials, optuna_trials, max_epochs, objective, architectures, settings, workers,
    seeds, minutes, apart, programs, seed, as_json,
):  # fmt: skip
    """Print tables for each model."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks.optuna_hyperband import why_not
    from zoo.cli.terminal import setting

    everything = {}
    if objects is None and {"gcn_vae", "conv_vae"} & set(models):
        raise click.UsageError("gcn_vae and conv_vae take particles: give --objects, an events file that has them")
    if seeds and stock_trials < 1:
        raise click.UsageError("--seeds compares searches of --stock trials: give 1 or more")
    for model in models:
        source = objects if model in ("gcn_vae", "conv_vae") else data
        on = {"model": model, "data": source, "events": events}
        fixed = {**SMALL.get(model, {}), **dict(map(setting, settings))}
        common = {**on, "max_epochs": max_epochs, "objective": objective, "fixed": fixed}
        reason = why_not(model, objective, fixed) if optuna_trials and not programs else None
        has_optuna = bool(optuna_trials) and reason is None
        if reason:
            click.echo(f"No row of Optuna: {reason}", err=True)
        if programs:
            found = {line: measured("program", settings=line.split(), seed=seed, **on) for line in programs}
            title, text = "CPU seconds", costs(found)
        elif minutes:
            each = {"trials": trials, "seconds": 60.0 * max(minutes), **common}
            names = [OURS, *([STOCK] if stock_trials else []), *([OPTUNA] if has_optuna else [])]
            found = [
                {name: measured(FUNCTIONS[name], seed=seed + n, **each) for name in names} for n in range(max(1, seeds))
            ]
            title, text = f"best {objective} after so many minutes", at_equal_time(found, sorted(minutes), seed)
        elif seeds:
            each = {"trials": stock_trials, **common}
            found = [{what: measured(what, seed=seed + n, **each) for what in ("ours", "stock")} for n in range(seeds)]
            title, text = f"best {objective}", quality(found, seed)
        else:
            found = {}
            for name, xla in ((STOCK, True), (f"{STOCK}, no XLA", False)) if stock_trials else ():
                found[name] = measured("stock", trials=stock_trials, seed=seed, xla=xla, **common)
            if has_optuna:
                found[OPTUNA] = measured("optuna", trials=optuna_trials, seed=seed, **common)
            if apart:
                name = "ours, a program for every size"
                found[name] = measured("ours", trials=stock_trials or trials, seed=seed, apart=True, **common)
            for count in workers:
                limits = {"workers": count, "architectures": architectures}
                name = f"ours, {count} worker{'s' * (count > 1)}"
                found[name] = measured("ours", trials=trials, seed=seed, **limits, **common)
            title, text = f"{objective}, at most {max_epochs} epochs", times(found)
        everything[model] = found
        print(f"\n{model}, {source}: {title}\n\n{text}")
    if as_json:
        as_json.write_text(json.dumps(everything, indent=2))


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a markdown table; all columns but the first are numbers."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def times(found: dict[str, dict]) -> str:
    """Return the time that searches took, and what it was spent on."""
    heads = ["", "trials", "epochs", "s/trial", "ratio", "s/epoch", "ratio", "trials/h", "waiting (s)", "outside",
             "compiling", "but for compiling", "memory (MB)"]  # fmt: skip
    bases, rows = [found[name] for name in found if name.startswith((STOCK, OPTUNA))], []
    for name, row in found.items():
        cells = [name, str(row["trials"]), str(row["epochs"])]
        for pace in ("seconds_per_trial", "seconds_per_epoch"):
            best = min((base[pace] for base in bases), default=None)
            cells += [f"{row[pace]:.2f}", f"{best / row[pace]:.1f}" if best else ""]
        cells += [f"{row['trials_per_hour']:.0f}", f"{row['waiting']:.2f}" if "waiting" in row else ""]
        cells += [f"{row[n]:.0%}" if n in row else "" for n in ("outside", "compiling", "outside_but_compiling")]
        rows.append([*cells, ", ".join(f"{one:.0f}" for one in row["memory"]) if row.get("memory") else ""])
    return table(heads, rows)


def quality(found: list[dict[str, dict]], seed: int) -> str:
    """Return the best objective of every seed, and their mean with its spread over seeds."""
    best = {what: [row[what]["best"] for row in found] for what in ("ours", "stock")}
    rows = [[f"seed {seed + n}", *(f"{values[n]:.4f}" for values in best.values())] for n in range(len(found))]
    spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in best.values()]
    means = [f"{statistics.fmean(values):.4f} +- {width:.4f}" for values, width in zip(best.values(), spread)]
    return table([f"best of {found[0]['ours']['trials']} trials", "ours", STOCK], [*rows, ["mean, spread", *means]])


def at_equal_time(found: list[dict[str, dict]], minutes: list[float], seed: int) -> str:
    """Return the best objective that searches had found after so many minutes: mean and spread over seeds, and trials."""
    heads = ["", *(f"{one:g} min" for one in minutes), *(f"epochs, {one:g} min" for one in minutes[-1:]), "every seed"]
    rows = []
    for name in found[0]:
        cells = [name]
        for one in minutes:
            best = [best_until(row[name]["found"], 60.0 * one) for row in found]
            spread = statistics.stdev(best) if len(best) > 1 and all(map(math.isfinite, best)) else 0.0
            cells.append(f"{statistics.fmean(best):.4f} +- {spread:.4f}")
        each = ", ".join(f"{best_until(row[name]['found'], 60.0 * minutes[-1]):.4f}" for row in found)
        rows.append([*cells, f"{statistics.fmean(row[name]['epochs'] for row in found):.0f}", each])
    return table(heads, rows)


def best_until(found: list[list[float | None]], seconds: float) -> float:
    """Return the best objective of trials that had ended by then; infinite if none had."""
    return min(
        (value for at, value in found if at <= seconds and value is not None and value == value), default=math.inf
    )


def costs(found: dict[str, dict[str, float]]) -> str:
    """Return the CPU seconds of programs, and of an epoch of each."""
    rows = [
        [name or "as it is by default", f"{row['program']:.0f}", f"{row['epoch']:.1f}"] for name, row in found.items()
    ]
    return table(["", "program", "epoch"], rows)


if __name__ == "__main__":
    main()
