"""What each normalizing flow costs, and what it gains where a Gaussian cannot fit.

    python benchmarks/flows.py [--batch 2048] [--steps 600] [--seeds 3] [--json FILE]

Cost: parameters, and microseconds per event of the forward pass with its log-determinant, and of that with all
gradients, compiled by XLA, at the paper's settings: 15 latent dimensions, from 64 outputs of an encoder.

Gain: every flow, on a Gaussian with trainable mean and width, is fitted to the four energies U of Rezende & Mohamed
(2015, table 1) by least free energy F = E_q[log q + U], for which it needs no samples of the target. -F bounds log Z from
below, as a VAE's loss bounds the log-likelihood. Table: F + log Z = KL(q || p) in nats, 0 for a perfect fit, Z from a
grid; and the gain in the bound over the best Gaussian: of any mean and covariance, found by quadrature from many starts.
The energies 2 to 4 run on for ever along z_1; as the paper's figures end at 4, all get a wall (|z| / 4)^8 on both axes.
The seeds and the four targets of a flow are trained together, as members of one group. TFP's masked autoregressive flow
(two hidden layers of 64, 4 flows) is the reference.
"""

from __future__ import annotations

import pipelines  # noqa: F401  it says how TensorFlow works, before that is imported

# isort: split

import argparse
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from zoo.keras import keras
from zoo.layers import flows
from zoo.layers.dense import glorot_uniform

import tensorflow_probability as tfp  # isort: skip

LATENT, ENCODER = 15, 64
PAPER = {
    "planar": {"num_flows": 6},
    "orthogonal": {"num_flows": 6, "num_vectors": 8},
    "orthogonal (polar)": {"num_flows": 6, "num_vectors": 8, "basis": "polar"},
    "householder": {"num_flows": 6, "num_vectors": 8},
    "triangular": {"num_flows": 6},
    "iaf": {"num_flows": 4, "width": 330},
    "convolutional": {"num_flows": 4, "kernel_size": 7},
}
PLANE = {"num_vectors": 2, "width": 64}  # what two dimensions ask for instead
ENERGIES = 4
FIT_BATCH, JUDGED = 128, 50_000
GAUSSIAN = "best Gaussian"


def main() -> None:
    """Read the command line, run everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=2048, help="events per step of the cost")
    parser.add_argument("--steps", type=int, default=600, help="steps of every fit")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write every number to this file")
    given = parser.parse_args()
    console = Console(width=120, highlight=False)
    started = time.perf_counter()
    costs = {name: cost(name, given.batch) for name in PAPER}
    show_costs(console, costs, given.batch)
    gaps = fit_all(given.steps, given.seeds)
    show_gaps(console, gaps, given)
    console.print(f"{time.perf_counter() - started:.0f} s in all")
    if given.json:
        listed = {name: gap.tolist() for name, gap in gaps.items()}
        given.json.write_text(json.dumps({"costs": costs, "kl_to_target": listed}, indent=1) + "\n")


# -- cost --------------------------------------------------------------------------------------------


def cost(name: str, batch: int) -> dict[str, float]:
    """Parameters, seconds to compile and microseconds per event of a flow at the paper's size."""
    flow = flows.make(name.partition(" ")[0], latent_dim=LATENT, **PAPER[name])
    h, z0 = tf.random.stateless_normal((batch, ENCODER), (0, 0)), tf.random.stateless_normal((batch, LATENT), (0, 1))
    flow.build(h.shape)

    forward = tf.function(flow.call, jit_compile=True)

    @tf.function(jit_compile=True)
    def step(h, z0):
        with tf.GradientTape() as tape:
            tape.watch([h, z0])
            z, log_det = flow(h, z0)
            loss = tf.reduce_mean(tf.reduce_sum(z * z, -1) / 2 - log_det)
        return tape.gradient(loss, [h, z0, *flow.trainable_variables])

    found = {"parameters": parameters(flow)}
    for what, work in {"forward": lambda: forward(h, z0)[1], "gradients": lambda: step(h, z0)[1]}.items():
        found[f"{what}_compile_s"] = seconds(lambda work=work: work().numpy())
        fastest = min(seconds(lambda work=work: work().numpy()) for _ in range(7))
        found[f"{what}_us_per_event"] = fastest / batch * 1e6
    return found


def parameters(flow) -> int:
    """Trainable numbers, without those that a MADE masks."""
    masked = 0
    if isinstance(flow, flows.AutoregressiveFlows):
        masks = flows.made_masks(flow.latent_dim, [flow.width] * flow.depth)
        masked = flow.num_flows * sum(int((mask == 0).sum()) for mask in masks)
    return sum(math.prod(w.shape) for w in flow.trainable_variables) - masked


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# -- gain --------------------------------------------------------------------------------------------


def energies(z: tf.Tensor) -> tf.Tensor:
    """U_1 ... U_4 (4, ...) of z (..., 2): Rezende & Mohamed (2015), table 1, and a wall at 4."""
    x, y = z[..., 0], z[..., 1]
    w1 = tf.sin(math.pi * x / 2)
    w2, w3 = 3 * tf.exp(-(((x - 1) / 0.6) ** 2) / 2), 3 * tf.sigmoid((x - 1) / 0.3)

    def either(a, b):
        return -tf.reduce_logsumexp([-a * a / 2, -b * b / 2], 0)

    ring = ((tf.sqrt(x * x + y * y + 1e-12) - 2) / 0.4) ** 2 / 2
    u = [
        ring + either((x - 2) / 0.6, (x + 2) / 0.6),
        ((y - w1) / 0.4) ** 2 / 2,
        either((y - w1) / 0.35, (y - w1 + w2) / 0.35),
        either((y - w1) / 0.4, (y - w1 + w3) / 0.35),
    ]
    return tf.stack(u) + (x / 4) ** 8 + (y / 4) ** 8


def log_normalisers() -> np.ndarray:
    """log of the integral of exp(-U), (4,), from a grid so fine that halving it changes nothing at 1e-6."""
    axis = np.linspace(-8, 8, 1601)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    return np.log(np.exp(-energies(tf.constant(grid)).numpy()).sum((1, 2)) * (axis[1] - axis[0]) ** 2)


class Start:
    """K Gaussians in the plane with trainable means and widths: where every flow begins."""

    def __init__(self, members: int):
        self.shift = tf.Variable(tf.zeros((members, 1, 2)))
        self.log_scale = tf.Variable(tf.zeros((members, 1, 2)))
        self.trainable_variables = [self.shift, self.log_scale]

    def __call__(self, noise):
        """z0 (K, B, 2) of standard normal noise, and log q(z0) (K, B)."""
        log_q = -tf.reduce_sum(noise * noise / 2 + self.log_scale, -1) - math.log(2 * math.pi)
        return self.shift + tf.exp(self.log_scale) * noise, log_q


def fit_all(steps: int, seeds: int) -> dict[str, np.ndarray]:
    """KL(q || p) in nats, (4, seeds), of the Gaussian, of every flow, and of TFP's."""
    members = ENERGIES * seeds
    together = np.repeat(np.eye(ENERGIES), seeds, axis=1)  # which energy (4) each member (K) has
    gaps = {"diagonal Gaussian, fitted": Fit(None, (), members)(together, 0, steps)}
    for name, options in PAPER.items():
        options = {option: PLANE.get(option, value) for option, value in options.items()}
        flow = flows.make(name.partition(" ")[0], latent_dim=2, members=members, **options)
        flow.build((members, None, 1))
        # no encoder here: h = 1 makes the amortised parameters ordinary ones
        fit = Fit(lambda z, flow=flow: flow(tf.ones_like(z[..., :1]), z), flow.trainable_variables, members)
        gaps[name] = fit(together, 0, steps)
    one_by_one = Fit(*maf(), 1)
    gaps["TFP's MAF"] = np.concatenate([one_by_one(own[:, None], k, steps) for k, own in enumerate(together.T)])
    energies_and_seeds = {name: gap.reshape(ENERGIES, seeds) for name, gap in gaps.items()}
    found = {GAUSSIAN: np.tile(best_gaussians()[:, None], (1, seeds)), **energies_and_seeds}
    return {name: gap + log_normalisers()[:, None] for name, gap in found.items()}


def best_gaussians(starts: int = 8) -> np.ndarray:
    """Least free energy (4,) that a Gaussian of any mean and covariance has, by quadrature: no random numbers in it."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(48)
    noise = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    weights = np.outer(weights, weights).ravel() / (2 * math.pi)

    def free_energy(numbers, which):
        x, y, log_width, log_height, tilt = numbers
        root = np.array([[math.exp(log_width), 0.0], [tilt, math.exp(log_height)]])
        u = energies(tf.constant([x, y] + noise @ root.T)).numpy()[which]
        return weights @ u - 1 - math.log(2 * math.pi) - log_width - log_height

    rng = np.random.default_rng(0)
    low, high = [-3, -2, -1.5, -1.5, -0.5], [3, 2, 0.5, 0.5, 0.5]
    return np.array(
        [
            min(minimize(free_energy, rng.uniform(low, high), args=(which,)).fun for _ in range(starts))
            for which in range(ENERGIES)
        ]
    )


def maf():
    """TFP's masked autoregressive flow, and its variables, which have to be collected by hand."""
    networks = [
        tfp.bijectors.AutoregressiveNetwork(params=2, hidden_units=[64, 64], activation="relu", event_shape=[2])
        for _ in range(4)
    ]
    for network in networks:
        network.build((None, 2))

    def limited(network, z):  # unlimited, some of these fits end in NaN
        shift, log_scale = tf.unstack(network(z), axis=-1)
        return shift, 3 * tf.tanh(log_scale / 3)

    def transform(z):
        parts = []
        for network in networks:
            shift_and_log_scale = functools.partial(limited, network)
            parts += [
                tfp.bijectors.MaskedAutoregressiveFlow(shift_and_log_scale, unroll_loop=True),
                tfp.bijectors.Permute([1, 0]),
            ]
        chain = tfp.bijectors.Chain(parts)
        return chain.forward(z), chain.forward_log_det_jacobian(z, 1)

    return transform, [v for network in networks for v in network.trainable_variables]


class Fit:
    """Least free energy of K members at once: Adam from 1e-2 down, the energies switched on over the first half."""

    def __init__(self, transform, variables, members: int):
        self.transform, self.start, self.members = transform, Start(members), members
        self.flow_variables = list(variables)
        self.step = tf.function(self._step, jit_compile=True, autograph=False)

    def free_energy(self, noise, heat, own):
        """log q + heat U (K, B)."""
        z, log_q = self.start(noise)
        if self.transform is not None:
            z, log_det = self.transform(z)
            log_q -= log_det
        return log_q + heat * tf.reduce_sum(own[..., None] * energies(z), 0)

    def _step(self, k, seed, steps, own):
        noise = tf.random.stateless_normal((self.members, FIT_BATCH, 2), tf.stack([k, seed]))
        heat = tf.cast(tf.minimum(0.01 + 2 * k / steps, 1.0), tf.float32)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.reduce_mean(self.free_energy(noise, heat, own), -1))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.variables), self.variables))

    def __call__(self, own: np.ndarray, seed: int, steps: int) -> np.ndarray:
        """Train anew and return the free energy (K,) of events that training has not seen."""
        self.restart(seed, steps)
        own = tf.constant(own, tf.float32)
        for k in range(steps):
            self.step(*(tf.constant(number) for number in (k, seed, steps)), own)
        parts = []
        for part in range(10):
            noise = tf.random.stateless_normal((self.members, JUDGED // 10, 2), (part, -1 - seed))
            parts.append(tf.reduce_mean(self.free_energy(noise, 1.0, own), -1).numpy())
        return np.mean(parts, 0)

    def restart(self, seed: int, steps: int) -> None:
        """Fresh weights and optimizer; the first time they are fresh."""
        if not hasattr(self, "optimizer"):
            self.variables = [*self.start.trainable_variables, *self.flow_variables]
            self.optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, steps))
            self.optimizer.build(self.variables)
            return
        for variable in [*self.start.trainable_variables, *self.optimizer.variables]:
            variable.assign(tf.zeros_like(variable))
        for i, variable in enumerate(self.flow_variables):
            kernel = variable.shape.rank > 1
            variable.assign(glorot_uniform(variable.shape, (seed, i)) if kernel else tf.zeros_like(variable))


# -- tables ------------------------------------------------------------------------------------------


def show_costs(console, costs, batch):
    """One row a flow."""
    table = Table(title=f"cost at {LATENT} dimensions, batch {batch}: microseconds per event")
    for column in ("flow", "settings", "parameters", "forward", "and gradients", "compile, s"):
        table.add_column(column, justify="left" if column in ("flow", "settings") else "right")
    for name, row in costs.items():
        settings = ", ".join(f"{k}={v}" for k, v in PAPER[name].items())
        times = f"{row['forward_us_per_event']:.2f}", f"{row['gradients_us_per_event']:.2f}"
        table.add_row(name, settings, f"{row['parameters']:,}", *times, f"{row['gradients_compile_s']:.1f}")
    console.print(table)


def show_gaps(console, gaps, given):
    """KL to the four targets, mean and standard deviation over seeds, and the mean gain over the best Gaussian."""
    console.print(
        f"{given.steps} steps of {FIT_BATCH} events, {given.seeds} seeds: mean +- standard deviation", style="dim"
    )
    table = Table(title="KL(q || p) to the energies of Rezende & Mohamed, nats; gain in log Z over the best Gaussian")
    for column in ("q", *(f"U{i + 1}" for i in range(ENERGIES)), "mean gain"):
        table.add_column(column, justify="left" if column == "q" else "right")
    for name, gap in gaps.items():
        rows = [*gap, (gaps[GAUSSIAN] - gap).mean(0)]
        spread = [row.std(ddof=1) if len(row) > 1 else 0.0 for row in rows]
        cells = [f"{row.mean():.3f} +- {std:.3f}" for row, std in zip(rows, spread)]
        table.add_row(name, *([f"{row.mean():.3f}" for row in rows] if name == GAUSSIAN else cells))
    console.print(table)


if __name__ == "__main__":
    main()
