"""CATHODE here and CATHODE written plainly in PyTorch, on the same events with the same settings: seconds of every stage.

    pip install torch      # of this benchmark alone
    python benchmarks/cathode_torch.py --data rnd.h5 --window 3300 3700 --s-over-b 0.006 --out cathode_torch.json

The plain one is what a user of PyTorch writes: a conditional masked autoregressive flow (Papamakarios et al. 2017) of
`--flows` blocks with two hidden layers, Adam, sampled once; then one classifier for each of five folds, one after the
other, which never scores an event of its training. Its folds are scikit-learn's; all else is as
the zoo's defaults. What no network has seen is scored by one of the five, drawn at random, as by the zoo's hash. A stage's seconds are the median over its epochs, without the first, times their number; what the
first epoch takes longer (tracing) is a row of its own, but of the zoo's density, which has it inside. AUC and SIC are of the background and signal in the window;
`nll_side` and `nll_window` are the mean of -ln p(v | m) of the flow over the side bands and over the true background of the window,
which no flow has seen: the zoo's v and the plain ones are the same. `template_auc` is that of boosted trees that tell the latter
from samples, 0.5 for perfect ones.
"""

from __future__ import annotations

import pipelines  # it says how TensorFlow works, before that is imported

# isort: split

import time
import warnings
from pathlib import Path

import click
import numpy as np
import tensorflow as tf
import torch
from sklearn.model_selection import KFold
from weak_supervision import COLUMNS, apart, chosen_of, judged, told_apart

import zoo
from pipelines.outputs import write_json
from zoo.cli.terminal import setting
from zoo.keras import keras
from zoo.windows import Regions

EDGE = 1e-4  # as in zoo.models.sideband_density
FOLDS, WIDTH = 5, 64


class Masked(torch.nn.Linear):
    """A linear layer some of whose weights are zero for good."""

    def __init__(self, mask):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask)

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight * self.mask, self.bias)


class Block(torch.nn.Module):
    """Shift and log-scale of each dimension from those before it, and from the mass."""

    def __init__(self, dimensions, width, reverse):
        super().__init__()
        order = torch.arange(1, dimensions + 1)
        self.order = order.flip(0) if reverse else order
        hidden = torch.arange(width) % max(1, dimensions - 1) + 1
        self.mass = torch.nn.Linear(1, width)
        self.first = Masked((hidden[:, None] >= self.order[None]).float())
        self.second = Masked((hidden[:, None] >= hidden[None]).float())
        self.last = Masked((self.order.repeat(2)[:, None] > hidden[None]).float())

    def parameters_of(self, x, mass):
        h = torch.relu(self.first(x) + self.mass(mass))
        shift, log_scale = self.last(torch.relu(self.second(h))).chunk(2, -1)
        return shift, torch.tanh(log_scale)

    def forward(self, x, mass):
        shift, log_scale = self.parameters_of(x, mass)
        return (x - shift) * torch.exp(-log_scale), -log_scale.sum(-1)

    def inverse(self, z, mass):
        x = torch.zeros_like(z)
        for place in torch.argsort(self.order):
            shift, log_scale = self.parameters_of(x, mass)
            x[:, place] = z[:, place] * torch.exp(log_scale[:, place]) + shift[:, place]
        return x


class Flow(torch.nn.Module):
    """Blocks in a row, every second one reversed."""

    def __init__(self, flows, dimensions, width):
        super().__init__()
        self.blocks = torch.nn.ModuleList(Block(dimensions, width, k % 2 == 1) for k in range(flows))

    def log_prob(self, x, mass):
        total = 0.0
        for block in self.blocks:
            x, log_det = block(x, mass)
            total = total + log_det
        return total - 0.5 * (x**2 + np.log(2 * np.pi)).sum(-1)

    def sample(self, mass):
        x = torch.randn(len(mass), self.blocks[0].order.numel())
        for block in reversed(self.blocks):
            x = block.inverse(x, mass)
        return x


def logit(x):
    share = EDGE + (1 - 2 * EDGE) * np.clip(x, 0, 1)
    return np.log(share) - np.log1p(-share)


def trained(parameters, loss, size, batch, epochs, rate, falling=False):
    """Train by Adam on rows 0 to `size`, at a rate that may fall as half a cosine; return the seconds of every epoch."""
    optimizer, seconds = torch.optim.Adam(parameters, rate), []
    steps = epochs * -(-size // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + np.cos(np.pi * step / steps)) if falling else 1.0
    )
    for _ in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(size).split(batch):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
            schedule.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def plainly(x, mass, chosen, regions, hp, seed, others_of):
    """Train on the events `chosen`.

    Return the scores of all in the window, NaN elsewhere, by stage the seconds of its epochs, and how good the flow is: the mean of
    -ln p over the events of every mask of `others_of`, and `template_auc`.
    """
    torch.manual_seed(seed)
    window = regions.inside(mass)
    inside, beside = window & chosen, regions.beside(mass) & chosen
    low, high = x[chosen].min(0), x[chosen].max(0)
    v = logit((x - low) / (high - low))
    v = torch.tensor((v - v[beside].mean(0)) / v[beside].std(0), dtype=torch.float32)
    centre = 0.5 * (regions.low + regions.high)
    m = torch.tensor((mass[:, None] - centre) / (0.3 * centre), dtype=torch.float32)
    judges = {name: torch.tensor(mask) for name, mask in others_of.items()}
    flow, seconds = Flow(hp.num_flows, x.shape[1], hp.flow_width), {}
    side, side_mass = v[torch.tensor(beside)], m[torch.tensor(beside)]
    seconds["density"] = trained(
        flow.parameters(), lambda rows: -flow.log_prob(side[rows], side_mass[rows]).mean(), len(side), hp.batch_size,
        hp.density_epochs, hp.density_learning_rate,
    )  # fmt: skip
    start = time.perf_counter()
    data, data_mass = v[torch.tensor(inside)], m[torch.tensor(inside)]
    with torch.no_grad():
        samples = flow.sample(data_mass[torch.randint(len(data), (len(side),))])
        seconds["samples"] = [time.perf_counter() - start]
        nll = {name: -float(flow.log_prob(v[rows], m[rows]).mean()) for name, rows in judges.items()}
    true = v[judges["nll_window"]].numpy()
    good = {**nll, "template_auc": apart(true, samples[: len(true)].numpy())}
    found, seconds["classifier"] = np.full(len(x), np.nan), np.zeros(hp.epochs)
    others = np.flatnonzero(window & ~chosen)
    trained_on, fold = np.flatnonzero(inside), np.random.default_rng(seed).integers(FOLDS, size=len(others))
    for k, (seen, own) in enumerate(KFold(FOLDS, shuffle=True, random_state=seed).split(data)):
        layers, size = [], x.shape[1]
        for width in hp.units:
            layers += [torch.nn.Linear(size, width), torch.nn.ReLU(), torch.nn.Dropout(hp.dropout_rate)]
            size = width
        network = torch.nn.Sequential(*layers, torch.nn.Linear(size, 1))
        both = torch.cat([data[seen], samples])
        first = torch.cat([torch.ones(len(seen)), torch.zeros(len(samples))])
        weight = torch.where(first > 0, len(both) / 2 / len(seen), len(both) / 2 / len(samples))

        def loss(rows, network=network, both=both, first=first, weight=weight):
            return torch.nn.functional.binary_cross_entropy_with_logits(
                network(both[rows])[:, 0], first[rows], weight[rows]
            )

        rate = hp.learning_rate
        seconds["classifier"] += trained(
            network.parameters(), loss, len(both), hp.batch_size, hp.epochs, rate, falling=True
        )
        network.eval()
        with torch.no_grad():
            found[trained_on[own]] = network(data[own])[:, 0].numpy()
            found[others[fold == k]] = network(v[others[fold == k]])[:, 0].numpy()
    return found, seconds, good


def nll_of(model, x, mass, masks, rows=8192):
    """The mean of -ln p by the zoo's flow over the events of every mask."""

    def mean(of):
        places = np.array_split(np.flatnonzero(of), -(-of.sum() // rows))
        parts = [model.log_prob(tf.constant(x[each]), tf.constant(mass[each], tf.float32)) for each in places]
        return -float(np.concatenate(parts).mean())

    return {name: mean(of) for name, of in masks.items()}


class Clock(keras.callbacks.Callback):
    """Seconds of the phase before the main one, its tracing included, of which Keras tells nothing, and of every epoch of that."""

    def __init__(self):
        super().__init__()
        self.begun, self.seconds = time.perf_counter(), {}

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()
        self.seconds.setdefault("density", [self.start - self.begun])

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.setdefault("classifier", []).append(time.perf_counter() - self.start)


def stages(seconds):
    """Seconds of every stage without what its first epoch takes longer, and these together."""
    steady = {name: float(np.median(each[1:] if len(each) > 1 else each)) for name, each in seconds.items()}
    found = {name: steady[name] * len(each) for name, each in seconds.items()}
    first = sum(max(0.0, each[0] - steady[name]) for name, each in seconds.items())
    return {**found, "first epochs": float(first), "all": float(sum(found.values()) + first)}


@click.command()
@click.option("--data", multiple=True, required=True, help="Labelled events; may be repeated.")
@click.option("--window", type=float, nargs=2, required=True, help="GeV.")
@click.option("--mass-range", type=float, nargs=2, help="GeV; all masses otherwise.")
@click.option("--s-over-b", type=float, default=0.006, show_default=True, help="In the window.")
@click.option("--threads", default=2, show_default=True)
@click.option("--seeds", default=2, show_default=True)
@click.option("--set", "settings", multiple=True, help="NAME=VALUE of the zoo's model.")
@click.option("--xla/--no-xla", default=True, show_default=True, help="Of the zoo's.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(data, window, mass_range, s_over_b, threads, seeds, settings, xla, out):
    """Train CATHODE both ways and print a table of seconds and of how well both find the signal."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    given = dict(map(setting, settings))
    events, regions, rows = pipelines.open(list(data), mass_range or None), Regions(*window), []
    for seed in range(seeds):
        model = zoo.get("cathode", columns=COLUMNS, window=window, folds=FOLDS, seed=100 * seed, **given)
        chosen = chosen_of(events, 1, regions, s_over_b, seed)
        train, clock = events.take(chosen).without_labels(), Clock()
        model.fit(train, verbose=0, callbacks=[clock], jit_compile=xla)
        of = [np.flatnonzero((events.label == label) & regions.inside(events.mass)) for label in (0, 1)]
        score = [model.score(events.take(each)) for each in of]
        x, mass = events.read("features", COLUMNS), events.mass
        background = (events.label == 0) & regions.inside(mass)
        masks = {"nll_side": regions.beside(mass) & chosen, "nll_window": background}
        good = {**nll_of(model, x, mass, masks), "template_auc": told_apart(model, events.take(background))}
        rows.append({"by": "zoo", "seed": seed, **stages(clock.seconds), **judged(*score), **good})
        found, seconds, good = plainly(x, mass, chosen, regions, model.hp, seed, masks)
        rows.append({"by": "PyTorch", "seed": seed, **stages(seconds), **judged(*(found[each] for each in of)), **good})
        for row in rows[-2:]:
            click.echo(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
        about = {"threads": threads, "events": len(train), "xla": xla, "s_over_b": s_over_b, "set": list(settings)}
        write_json(out, {**about, "rows": rows})
    for name in ("density", "classifier", "first epochs", "all"):
        mean = {by: np.mean([row[name] for row in rows if row["by"] == by]) for by in ("zoo", "PyTorch")}
        ratio = mean["PyTorch"] / mean["zoo"] if mean["zoo"] else float("nan")
        click.echo(f"{name:14} zoo {mean['zoo']:7.1f} s, PyTorch {mean['PyTorch']:7.1f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
