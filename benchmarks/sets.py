"""What training `gcn_vae` costs, against the same network written plainly in PyTorch; Chamfer distance and flows apart.

    python benchmarks/sets.py [--batches 32 256 2048] [--rounds 5] [--events 8192] [--threads 4] [--json FILE]

Training: events/s of whole steps (loss, gradients, Adam) on events that are in memory, with XLA and without, and of a
PyTorch network with a dense normalised adjacency for every event, plain and by `torch.compile`. That it is the same
network is checked: with the same weights it must have the same loss. All take turns in every round; the table has
medians. PyTorch is no requirement of the project: `pip install torch`, or its columns are left out.

Matrix products: those of a step, forwards and backwards, as bare compiled products: of the network as it is written in the
paper, with a P x P adjacency for every event, and without those of the adjacency, which on complete graphs are sums here.

Memory: the most that the Chamfer distance and its gradient take, at 2048 x 39 x 39, and what a (B, P, P, C) array would.

Particles are made up (see `tests/plain_sets.py`): on average ten of 39 slots are filled.
"""

from __future__ import annotations

import pipelines  # noqa: F401  it says how TensorFlow works, before that is imported

# isort: split

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import zoo
from zoo.layers.flows import FLOWS
from zoo.layers.latent import Latent
from zoo.losses import chamfer

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from plain_sets import particles

SECONDS = 0.3  # that a timing lasts, about
PEAK = (2048, 39, 4)


def main() -> None:
    """Read the command line, run everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256, 2048])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=8192, help="made up, at least one batch")
    parser.add_argument("--threads", type=int, help="of TensorFlow and of PyTorch; by default, all cores")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak(options.peak[0], int(options.peak[1])))
        return
    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    torch = _torch(options.threads)
    objects = particles(max(options.events, *options.batches)).read("objects")
    found = {
        "memory": chamfer_memory(),
        "batches": {batch: at_batch(objects, batch, options.rounds, torch) for batch in options.batches},
    }
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _torch(threads: int | None):
    try:
        import torch
    except ModuleNotFoundError:
        print("PyTorch is not installed, so nothing is compared with it: pip install torch", file=sys.stderr)
        return None
    if threads:
        torch.set_num_threads(threads)
    return torch


def at_batch(objects: np.ndarray, batch: int, rounds: int, torch) -> dict[str, dict[str, float]]:
    """Return seconds of a step of everything, at one size of batches."""
    steps = min(len(objects) // batch, 64)
    given = tf.constant(objects[: steps * batch].reshape(steps, batch, *objects.shape[1:]))
    training = {}
    for name, xla in (("TensorFlow", False), ("XLA", True)):
        training[name] = ours(given, xla)
    if torch is not None:
        training |= theirs(torch, given)
    parts = {"products, with adjacency": products(batch, True), "products, without": products(batch, False)}
    parts |= {"Chamfer": distance(batch), **{f"flow {name}": flow(name, batch) for name in FLOWS}}
    seconds = timed({**training, **parts}, rounds)
    return {
        "training": {name: seconds[name] / steps for name in training},
        "parts": {name: seconds[name] for name in parts},
    }


def timed(todo: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of a call of each, which take turns."""
    repeats = {}
    for name, call in todo.items():
        call()  # compiled
        start = time.perf_counter()
        call()
        repeats[name] = max(1, round(SECONDS / (time.perf_counter() - start)))
    seconds = {name: [] for name in todo}
    for _ in range(rounds):
        for name, call in todo.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(each) for name, each in seconds.items()}


# -- the two networks ----------------------------------------------------------------------------------


def model_for(batch: int):
    """Return an untrained `gcn_vae` that has met particles."""
    model = zoo.get("gcn_vae", batch_size=batch)
    model.adapt(particles(1000))
    return model


def ours(given: tf.Tensor, xla: bool) -> Callable[[], object]:
    """Return a call that trains on every batch of `given` (steps, B, P, C), in one program as `fit` does."""
    model = model_for(given.shape[1])
    step = tf.function(model.train_step, jit_compile=xla, autograph=False)
    weight = tf.ones(given.shape[1])

    @tf.function
    def steps():
        for place in tf.range(given.shape[0]):
            step({"objects": given[place], "weight": weight})
        return model.trainer.clock.read_value()

    return lambda: steps().numpy()


def theirs(torch, given: tf.Tensor) -> dict[str, Callable[[], object]]:
    """Return the same for PyTorch, plain, with its own distances of pairs, and compiled."""
    batches, weight = torch.from_numpy(given.numpy()), torch.ones(given.shape[1])
    calls = {}
    for name, pairs, compiled in (
        ("PyTorch", False, False),
        ("PyTorch, cdist", True, False),
        ("torch.compile", False, True),
    ):
        model = model_for(given.shape[1])
        network = plain_network(torch, model, pairs)
        check_same(torch, model, network, given[0], batches[0])
        adam = torch.optim.Adam(network.parameters(), 1e-3)

        def step(objects, network=network):
            distance, kl = network(objects, torch.randn(len(objects), 15))
            return (weight * (0.5 * distance + 0.5 * kl)).mean()

        loss_of = torch.compile(step) if compiled else step

        def steps(loss_of=loss_of, adam=adam):
            for objects in batches:
                adam.zero_grad()
                loss = loss_of(objects)
                loss.backward()
                adam.step()
            return loss.item()

        try:
            steps()
        except Exception as error:  # a compiler may be missing
            print(f"{name}: left out, {str(error).splitlines()[0]}", file=sys.stderr)
        else:
            calls[name] = steps
    return calls


def plain_network(torch, model, pairs: bool):
    """Return the network of `model`, weights included, as one would write it in PyTorch."""
    nn = torch.nn

    def linear(kernel, bias):
        layer = nn.Linear(*kernel.shape)
        layer.weight.data, layer.bias.data = (torch.from_numpy(w.numpy().T.copy()) for w in (kernel, bias))
        return layer

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            stacks = ([linear(g.kernel, g.bias) for g in part.layers] for part in (model.encoder, model.decoder))
            self.down, self.up = (nn.ModuleList(stack) for stack in stacks)
            self.to_latent = linear(model.to_latent.kernel, model.to_latent.bias)
            self.from_latent = linear(model.from_latent.kernel, model.from_latent.bias)
            for name in ("shift", "scale"):
                self.register_buffer(name, torch.from_numpy(getattr(model.particle_scaler, name).numpy()))

        def convolve(self, layers, x, adjacency, real):
            for place, layer in enumerate(layers):
                x = adjacency @ (x @ layer.weight.T) + layer.bias
                x = (torch.relu(x) if place < len(layers) - 1 else x) * real
            return x

        def forward(self, objects, noise):
            mask = (objects != 0).any(-1)
            real = mask.float()[..., None]
            x = (objects - self.shift) / self.scale * real
            adjacency = real * real.mT + torch.diag_embed(real[..., 0])
            root = adjacency.sum(-1).clamp(min=1).rsqrt()
            adjacency = adjacency * root[:, :, None] * root[:, None, :]
            h = self.convolve(self.down, x, adjacency, real)
            mean, log_var = self.to_latent(h.flatten(1)).chunk(2, -1)
            z = mean + torch.exp(log_var / 2) * noise
            y = self.convolve(self.up, self.from_latent(z).view(h.shape), adjacency, real)
            apart = torch.cdist(x, y, p=1) if pairs else (x[:, :, None] - y[:, None]).abs().sum(-1)
            apart = torch.where(mask[:, :, None] & mask[:, None, :], apart, 1e30)
            distance = (apart.amin(2) * real[..., 0] + apart.amin(1) * real[..., 0]).sum(-1)
            return distance, 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)

    return Network()


def check_same(torch, model, network, objects: tf.Tensor, same) -> None:
    """Raise unless both networks have the same Chamfer distance and KL, of z = mean."""
    event = model.event(objects, None)
    mean, log_var, h = model.encode(event)
    expected = (
        chamfer(event.particles, model.decode(mean, event)[0], event.mask, event.mask),
        model.latent.divergence(mean, log_var, h),
    )
    with torch.no_grad():
        found = network(same, torch.zeros(len(same), 15))
    for mine, other in zip(expected, found):
        np.testing.assert_allclose(other.numpy(), mine, rtol=1e-3, atol=1e-4)


# -- parts of a step -----------------------------------------------------------------------------------


def products(batch: int, adjacency: bool, slots: int = 39) -> Callable[[], object]:
    """Return a call that does the matrix products of a step of `gcn_vae`, forwards and backwards, and nothing else."""
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def layer(rows, features, width, first=False):
        shapes.append(((rows, features), (features, width)))
        shapes.append(((features, rows), (rows, width)))
        shapes.extend([] if first else [((rows, width), (width, features))])

    for stack in ((5, 32, 16, 2), (2, 16, 32, 5)):
        for place, (features, width) in enumerate(pairwise(stack)):
            layer(batch * slots, features, width, first=stack[0] == 5 and place == 0)
            if adjacency:
                shapes.extend([((batch, slots, slots), (batch, slots, width))] * 2)
    layer(batch, slots * 2, 30)
    layer(batch, 15, slots * 2)
    pairs = [tuple(tf.random.stateless_normal(shape, (place, side)) for side, shape in enumerate(both))
             for place, both in enumerate(shapes)]  # fmt: skip
    multiply = tf.function(lambda pairs: [a @ b for a, b in pairs], jit_compile=True, autograph=False)
    return lambda: multiply(pairs)[-1].numpy()


def distance(batch: int) -> Callable[[], object]:
    """Return a call of the Chamfer distance and its gradient."""
    objects = tf.constant(particles(batch).read("objects"))
    mask, x = tf.reduce_any(objects != 0, -1), tf.math.asinh(objects)
    compiled = tf.function(_slope_of(chamfer), jit_compile=True, autograph=False)
    return lambda: compiled(x, x[:, ::-1] + 0.1, mask, mask).numpy()


def _slope_of(function):
    def slope(x, y, x_mask, y_mask):
        with tf.GradientTape() as tape:
            tape.watch(y)
            total = tf.reduce_sum(function(x, y, x_mask, y_mask))
        return tape.gradient(total, y)

    return slope


def flow(name: str, batch: int) -> Callable[[], object]:
    """Return a call of a flow behind the 78 hidden numbers of `gcn_vae`, its KL and all gradients."""
    latent = Latent(15, name, 4 if name in ("iaf", "convolutional") else 6)
    latent.build((None, 78))
    h, mean, log_var = (tf.random.stateless_normal((batch, n), (0, n)) for n in (78, 15, 16))

    @tf.function(jit_compile=True, autograph=False)
    def slopes(h, mean, log_var):
        weights = latent.trainable_variables
        with tf.GradientTape() as tape:
            tape.watch([h, mean, log_var])
            z, kl = latent.draw(mean, log_var, h, tf.constant(1))
            loss = tf.reduce_mean(kl) + tf.reduce_mean(z)
        return tape.gradient(loss, [h, mean, log_var, *weights])

    return lambda: slopes(h, mean, log_var[:, :15])[1].numpy()  # not of h, which one flow does not use


FORMS = {"compiled": (chamfer, True), "plain form, not compiled": (None, False)}


def chamfer_memory() -> dict[str, float]:
    """Return MB that the Chamfer distance and its gradient take beside their arguments, and a plain form of them.

    Every one in a process of its own, less what the same takes at two events: that is compiling.
    """
    size, slots, width = PEAK
    found = {"(B, P, P)": size * slots**2 * 4 / 1e6, "(B, P, P, C)": size * slots**2 * width * 4 / 1e6}
    for name in FORMS:
        much, little = (
            subprocess.run([sys.executable, __file__, "--peak", name, str(n)], check=True, stdout=subprocess.PIPE)
            for n in (size, 2)
        )
        found[name] = float(much.stdout) - float(little.stdout)
    return found


def peak(name: str, size: int) -> float:
    """Return by how many MB the memory of this process rises while a form is called for the first time."""
    function, xla = FORMS[name]
    _, slots, width = PEAK
    x, y = (tf.random.stateless_normal((size, slots, width), (0, n)) for n in (1, 2))
    mask = tf.fill((size, slots), True)
    compiled = tf.function(_slope_of(function or _plain), jit_compile=xla, autograph=False)
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = _status("VmRSS")
    compiled(x, y, mask, mask).numpy()
    return (_status("VmHWM") - before) / 1e3


def _plain(x, y, x_mask, y_mask):
    apart = tf.reduce_sum(tf.abs(x[:, :, None] - y[:, None]), -1)
    return tf.reduce_sum(tf.reduce_min(apart, 1), -1) + tf.reduce_sum(tf.reduce_min(apart, 2), -1)


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name))


def show(found: dict) -> None:
    """Print the tables."""
    console = Console()
    names = list(dict.fromkeys(name for at in found["batches"].values() for name in at["training"]))
    table = Table("batch", *(f"{name}, events/s" for name in names), "best of ours / best of PyTorch")
    for batch, at in found["batches"].items():
        seconds = at["training"]
        best = [min((v for k, v in seconds.items() if ("orch" in k) == other), default=None) for other in (False, True)]
        ratio = "" if best[1] is None else f"{best[1] / best[0]:.2f}"
        table.add_row(str(batch), *(f"{batch / seconds[n]:.0f}" if n in seconds else "" for n in names), ratio)
    console.print(table)
    names = list(next(iter(found["batches"].values()))["parts"])
    table = Table("batch", "step with XLA, us/event", *names, "step / products", "step / products, without")
    for batch, at in found["batches"].items():
        step, parts = at["training"]["XLA"], at["parts"]
        ratios = [step / parts[f"products, {which}"] for which in ("with adjacency", "without")]
        row = [f"{1e6 * seconds / batch:.1f}" for seconds in (step, *parts.values())]
        table.add_row(str(batch), *row, *(f"{ratio:.2f}" for ratio in ratios))
    console.print(table)
    text = ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in found["memory"].items())
    console.print(f"Chamfer distance and gradient at {PEAK[0]} x {PEAK[1]} x {PEAK[1]}: {text}")


if __name__ == "__main__":
    main()
