"""The tuner against stock KerasTuner and Optuna's Hyperband: time, memory, and quality; and what its parts gain.

    python benchmarks/tuning.py --model vae --json vae.json               # the default space, `tune --model vae` as typed
    python benchmarks/tuning.py --model gcn_vae --objects chan2b.h5 --trials 60 --stock 13 --optuna 9 --limit 15
    python benchmarks/tuning.py --model vae --trials 100 --parts          # what masks, kept programs and XLA gain
    python benchmarks/tuning.py --model vae --objective reconstruction --minutes 2 --minutes 5 --minutes 10 --seeds 5
    python benchmarks/tuning.py --model vae --programs "" --programs optimizer=adam --programs "flow=planar num_flows=2"
    python benchmarks/tuning.py --model vae --set units=64,64,64 --set latent_dim=1 --set scaling=maxabs --set flow=none  # one network

Ours is `tuning.search`, first. The others then do its **first `--stock` trials, by number**: the same hyperparameters, the same
epochs and promotions, on the same events, with the same objective. Whole brackets come first, so 13 or 26 trials of the default plan
have the epochs a trial of all. Rows of the others:

- `KerasTuner, Keras` and `..., XLA`: KerasTuner's loop, which builds and traces every trial, and networks written plainly in Keras
  (`plain_keras.py`): `compile` and `fit`, with and without `jit_compile`;
- `KerasTuner, zoo` and `..., XLA`, with `--zoo`: the same loop around the zoo's models and their `fit`;
- `Optuna, Keras`: its `HyperbandPruner` over ours' first `--optuna` configurations, with the plain networks, without XLA. It decides
  itself how many epochs each gets, and counts a configuration as one trial where we count each promotion: compare epochs. It
  needs `pip install optuna`; without, a line says so.

Ratios are those of a row over ours. `best ratio` is ours against the fastest of the others. Each row is measured in a process of
its own, printed when it is there, and with `--json` kept: the same command with the same file goes on behind the rows that it has. `--limit`
ends a row of the others after so many minutes, at the end of a trial; `s/trial` is then of those that it did.

`training`, `validation` and `compiling` are shares of the seconds from the call of the search to its result, that is with its start and
the best run at its end; `rest` is all else. `waiting` is a worker's mean time from the end of a trial to the next one's beginning.
Memory, resident, is of the process that trains, after trials 20, 100 and 200 or the last; where workers train it is not measured.

With `--parts` there are rows of ours alone, in turn without one part: no larger networks (a program for every size, scaling and
batch size), no program kept for the next trial, XLA always, XLA never.

With `--minutes` searches of equal time are compared, by the best objective that each had found after so many minutes, from the call
of the search on, over `--seeds` seeds: each plans and draws itself. Ours is planned for `--trials`, more than the time allows.

With `--seeds N` and no minutes N searches of `--stock` trials each, by ours and by KerasTuner, are compared by the best objective that
they found; only an objective that does not depend on what is searched compares anything, as `reconstruction`.
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
from importlib.util import find_spec
from pathlib import Path

import click

PLAIN = ("vae", "ae", "gan_ae", "gcn_vae")  # of `plain_keras.py`
DEFAULT_MODELS = ("vae", "gan_ae")
SMALL = {  # what is not searched: as few epochs of other phases as the recipe allows
    "vae": {"decoder_epochs": 0},
    "gan_ae": {"pretraining_epochs": 1},
}
FACTOR = 3
OURS, STOCK, OPTUNA = "ours", "KerasTuner, Keras", "Optuna, Keras"
FUNCTIONS = {OURS: "ours", STOCK: "stock", OPTUNA: "optuna"}
PARTS = {  # by row, what `ours` is told
    "all parts": {},
    "a program for every size": {"apart": True},
    "no program kept": {"kept": False},
    "XLA always": {"xla": True},
    "XLA never": {"xla": False},
}
OBJECTIVE = "reconstruction+10*sculpting"  # what `tune` minimises, with nothing else said
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
    kept=True,
    xla=None,
    seconds=None,
):
    """Run our search; returns its times and its trials."""
    import tuning.session  # what is imported counts for nobody
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
    if not kept:
        forget_every_program()
    clock, events = Clock(), opened(data, events)
    started = time.perf_counter()
    results = tuning.search(
        model, events, trials=trials, out=new_folder(), objective=objective, max_epochs=max_epochs, factor=FACTOR,
        architectures=architectures, fixed=fixed, workers=workers, seed=seed, listener=clock, time_limit=seconds,
        jit_compile=xla,
    )  # fmt: skip
    taken, done = time.perf_counter() - started, results.trials
    names = ("training", "validating", "compiling")
    shares = {name: sum(trial.get(f"{name}_seconds", 0.0) for trial in done) / (taken * workers) for name in names}
    told = ("trial", "hyperparameters", "initial_epoch", "epochs", "promoted_from")
    return {
        **_times(taken, len(done), sum(t["epochs"] - t["initial_epoch"] for t in done)),
        "failed": sum(trial["status"] != "COMPLETED" for trial in done),
        "programs": sum(trial.get("compiling_seconds", 0.0) > 0 for trial in done),
        "waiting": statistics.fmean(clock.gaps or [0.0]),
        **shares,
        "rest": 1.0 - sum(shares.values()),
        **({"memory": _memory(clock.memory)} if workers == 1 else {}),
        "best": results.best["objective"] if results.best else None,
        "found": clock.found,
        "done": sorted(({name: trial[name] for name in told} for trial in done), key=lambda one: int(one["trial"])),
    }


def forget_every_program() -> None:
    """Have every trial of this process trace its own program."""
    from tuning import programs

    find = programs.Programs.model

    def find_anew(self, *args, **options):
        self.forget(0)
        return find(self, *args, **options)

    programs.Programs.model = find_anew


class Watch:
    """Times, epochs and objectives of the trials of another tuner."""

    def __init__(self):
        self.started, self.memory, self.epochs, self.found = time.perf_counter(), [], [], []

    def ended(self, value: float, epochs: int) -> None:
        """Take a trial that has ended."""
        self.memory.append(resident())
        self.epochs.append(epochs)
        self.found.append([time.perf_counter() - self.started, value])

    def result(self) -> dict[str, object]:
        """Return what a row shows."""
        finite = [value for _, value in self.found if math.isfinite(value)]
        return {
            **_times(time.perf_counter() - self.started, len(self.found), sum(self.epochs)),
            "memory": _memory(self.memory),
            "best": min(finite, default=None),
            "found": [[at, value if math.isfinite(value) else None] for at, value in self.found],
        }


def _parts(data, events, seed):
    """Events without labels that train and that judge, as those of our search."""
    from tuning.session import VALIDATION_SHARE

    return [part.without_labels() for part in opened(data, events).split(1.0 - VALIDATION_SHARE, seed)]


def stock(
    model, data, events, trials, max_epochs, objective, fixed, seed, xla=False, zoos=False, seconds=None, given=()
):
    """Run stock KerasTuner, with networks in plain Keras or the zoo's; returns its times."""
    from benchmarks import stock_kerastuner
    from tuning.space import Space

    watch = Watch()
    training, validation = _parts(data, events, seed)
    if zoos:
        train = stock_kerastuner.zoo_trainer(model, objective, training, validation, xla)
    else:
        train = stock_kerastuner.plain_trainer(model, objective, training, validation, fixed, xla, seed)
    space = Space(model, {"seed": seed, **fixed})
    stock_kerastuner.search(train, space, new_folder(), trials, max_epochs, FACTOR, seed, seconds, watch.ended, given)
    return watch.result()


def optuna(
    model, data, events, trials, max_epochs, objective, fixed, seed, seconds=None, given=()
) -> dict[str, object]:
    """Run Optuna's Hyperband with a network written plainly; returns its times."""
    from benchmarks.optuna_hyperband import search
    from tuning.space import Space

    watch = Watch()
    training, validation = _parts(data, events, seed)
    space = Space(model, {"seed": seed, **fixed})
    search(model, training, validation, space, trials, max_epochs, FACTOR, objective, seed, seconds, watch.ended, given)
    return watch.result()


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
    return [after[min(place, len(after)) - 1] for place in (20, 100, 200)] if after else []


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
    # networks in plain Keras run as TensorFlow runs by itself, with oneDNN on, which the zoo turns off
    plain = what == "optuna" or (what == "stock" and not options.get("zoos"))
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1"} if plain else None
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))[6:])


class Rows:
    """What was measured, by what was asked for; in a file, if there is one, from which the same command goes on."""

    def __init__(self, path: Path | None):
        self.path = path
        self.kept = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def measured(self, row: str, what: str, **options) -> dict[str, object]:
        """Return a row, measured now unless it is there."""
        asked = {name: value for name, value in options.items() if name != "given"}
        key = json.dumps([row, what, asked], sort_keys=True)
        if key not in self.kept:
            self.kept[key] = measured(what, **options)
            if self.path is not None:
                self.path.write_text(json.dumps(self.kept))
        found = self.kept[key]
        if "trials" in found:
            text = f"{options['model']}: {row}: {found['trials']} trials, {found['epochs']} epochs, {found['seconds']:.0f} s"
            click.echo(
                f"{text}; {found['seconds_per_trial']:.2f} s a trial, {found['seconds_per_epoch']:.2f} an epoch",
                err=True,
            )
        return found


@click.command()
@click.option("--model", "models", multiple=True, default=DEFAULT_MODELS, show_default=True)
@click.option("--data", default="lhco_sim_train", show_default=True, help="Events file or embedded sample.")
@click.option("--objects", help="Events file with particles, for the models that take them.")
@click.option("--events", default=0, help="Use so many; all otherwise.")
@click.option("--trials", default=200, show_default=True)
@click.option(
    "--stock", "stock_trials", default=26, show_default=True, help="Of these, done by stock KerasTuner; 0 for none."
)
@click.option("--optuna", "optuna_trials", default=9, show_default=True, help="Configurations for Optuna; 0 for none.")
@click.option("--zoo", "zoos", is_flag=True, help="Rows of the zoo's models in KerasTuner's loop too.")
@click.option("--limit", type=float, help="Minutes after which a row of the others ends.")
@click.option("--max-epochs", default=9, show_default=True)
@click.option("--objective", default=OBJECTIVE, show_default=True, help="What all minimise; its cost counts.")
@click.option("--architectures", default=0, show_default=True, help="Ours draws no more than so many; 0: no limit.")
@click.option("--set", "settings", multiple=True, help="NAME=VALUE, fixed for all; may be repeated.")
@click.option("--workers", multiple=True, type=int, default=(1,), show_default=True)
@click.option("--seeds", default=0, help="Compare the best of so many searches of --stock trials, ours and stock.")
@click.option("--minutes", multiple=True, type=float, help="Compare after so many minutes; may be repeated.")
@click.option("--parts", is_flag=True, help="Rows of ours alone, each without one part.")
@click.option("--programs", multiple=True, help="Measure a program: NAME=VALUE in words, or none; may be repeated.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep all numbers there, and go on from them.")
def main(models, objects, data, file, **options):
    """Print tables for each model."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    rows = Rows(file)
    if objects is None and {"gcn_vae", "conv_vae"} & set(models):
        raise click.UsageError("gcn_vae and conv_vae take particles: give --objects, an events file that has them")
    if options["seeds"] and options["stock_trials"] < 1:
        raise click.UsageError("--seeds compares searches of --stock trials: give 1 or more")
    for model in models:
        source = objects if model in ("gcn_vae", "conv_vae") else data
        title, text = one_model(rows, model, source, **options)
        print(f"\n{model}, {source}: {title}\n\n{text}", flush=True)


def one_model(
    rows, model, data, events, trials, stock_trials, optuna_trials, zoos, limit, max_epochs, objective, architectures, settings,
    workers, seeds, minutes, parts, programs, seed,
):  # fmt: skip
    """Measure what is asked for of one model; returns a title and a table."""
    from zoo.cli.terminal import setting

    on = {"model": model, "data": data, "events": events}
    fixed = dict(map(setting, settings))
    common = {**on, "max_epochs": max_epochs, "objective": objective, "fixed": {**SMALL.get(model, {}), **fixed}}
    reason = why_not(model, objective)
    other = reason
    if optuna_trials and find_spec("optuna") is None:
        other = "Optuna is not installed: pip install optuna"
    for one in dict.fromkeys([reason if stock_trials else None, other if optuna_trials else None]):
        if one and not (programs or parts):
            click.echo(f"Rows are missing: {one}", err=True)
    has_stock, has_optuna = bool(stock_trials) and reason is None, bool(optuna_trials) and other is None
    if programs:
        found = {line: rows.measured(line, "program", settings=line.split(), seed=seed, **on) for line in programs}
        return "CPU seconds", costs(found)
    if parts:
        found = {
            name: rows.measured(name, "ours", trials=trials, seed=seed, **how, **common) for name, how in PARTS.items()
        }
        return "ours, each row without one part", times(found, next(iter(PARTS)))
    if minutes:
        each = {"trials": trials, "seconds": 60.0 * max(minutes), **common}
        names = [OURS, *([STOCK] if has_stock else []), *([OPTUNA] if has_optuna else [])]
        found = [
            {name: rows.measured(name, FUNCTIONS[name], seed=seed + n, **each) for name in names}
            for n in range(max(1, seeds))
        ]
        return f"best {objective} after so many minutes", at_equal_time(found, sorted(minutes), seed)
    if seeds:
        each = {"trials": stock_trials, **common}
        found = [
            {what: rows.measured(what, what, seed=seed + n, **each) for what in ("ours", "stock")} for n in range(seeds)
        ]
        return f"best {objective}", quality(found, seed)
    found = {}
    for count in workers:
        name = f"ours, {count} worker{'s' * (count > 1)}"
        how = {"workers": count, "architectures": architectures}
        found[name] = rows.measured(name, "ours", trials=trials, seed=seed, **how, **common)
    ours_row = next(iter(found))
    given = found[ours_row]["done"]
    bound = {"seed": seed, "seconds": 60.0 * limit if limit else None}
    kinds = [(STOCK, False, has_stock), ("KerasTuner, zoo", True, bool(stock_trials) and zoos)]
    for name, of_zoo, wanted in kinds:
        for xla in (False, True) if wanted else ():
            name = f"{name}, XLA" if xla else name
            how = {"trials": min(stock_trials, len(given)), "given": given[:stock_trials], "zoos": of_zoo, "xla": xla}
            found[name] = rows.measured(name, "stock", **how, **bound, **common)
    if has_optuna:
        first = [one["hyperparameters"] for one in given if one["promoted_from"] is None][:optuna_trials]
        found[OPTUNA] = rows.measured(OPTUNA, "optuna", trials=len(first), given=first, **bound, **common)
    return f"{objective}, at most {max_epochs} epochs", times(found, ours_row)


def why_not(model: str, objective: str) -> str | None:
    """Return why there are no rows of networks in plain Keras for this, or None."""
    if model not in PLAIN:
        return f"{model} is not written plainly in Keras; {', '.join(PLAIN)} are"
    if model == "gan_ae" and "val_loss" in objective:
        return "GAN-AE written plainly has no loss that is one number: give --objective reconstruction"
    return None


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a markdown table; all columns but the first are numbers."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def times(found: dict[str, dict], first: str) -> str:
    """Return the time that searches took, and what it was spent on; ratios are over the first row."""
    heads = ["", "trials", "epochs", "s/trial", "ratio", "s/epoch", "ratio", "training", "validation", "compiling", "rest",
             "programs", "memory at 20, 100, 200 (MB)"]  # fmt: skip
    lines = []
    for name, row in found.items():
        cells = [name, str(row["trials"]), str(row["epochs"])]
        for pace in ("seconds_per_trial", "seconds_per_epoch"):
            cells += [f"{row[pace]:.2f}", f"{row[pace] / found[first][pace]:.1f}"]
        cells += [f"{row[n]:.0%}" if n in row else "" for n in ("training", "validating", "compiling", "rest")]
        memory = ", ".join(f"{one:.0f}" for one in row["memory"]) if row.get("memory") else ""
        lines.append([*cells, str(row.get("programs", "")), memory])
    others = [row for name, row in found.items() if not name.startswith("ours") and name not in PARTS]
    if not others:
        return table(heads, lines)
    paces = ("seconds_per_trial", "seconds_per_epoch")
    per_trial, per_epoch = (min(row[pace] for row in others) / found[first][pace] for pace in paces)
    return f"{table(heads, lines)}\n\nBest ratio: {per_trial:.1f} a trial, {per_epoch:.1f} an epoch."


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
