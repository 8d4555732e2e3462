"""DDP: a network that reads a whole mass spectrum and says how significant a bump is, bin by bin.

After the Data Directed Paradigm: S. Volkovich, F. De Vito Halevy, S. Bressler, "The Data-Directed Paradigm for BSM
searches" (2021), arXiv:2107.11573, and its successor BumpNet, arXiv:2501.05603. Both train a convolutional network on
generated spectra, whose background is known, to give the significance of the likelihood ratio. The architecture and the
generator here are this project's own.

What the network sees of a spectrum, and how it is built, is in `zoo.models.ddp.network`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.errors import InputError
from pipelines.histograms import Histograms
from pipelines.simulation.spectra import BINNINGS, FAMILIES, SIGNAL_SHAPES, Generator, Spectra
from zoo.detector import Detector
from zoo.hyperparameters import COUNT, POSITIVE, UNITS, Hyperparameters, Limit, hyperparameter
from zoo.keras import keras
from zoo.keras.refusals import check_epochs, refuse_unknown
from zoo.layers.dense import glorot_uniform
from zoo.models.ddp.batches import SpectrumBatches
from zoo.models.ddp.network import SIGNATURE, Network
from zoo.models.ddp.reader import Reader, resolution_of
from zoo.models.ddp.scan import Scanned, Table, make_table, scan
from zoo.registry import register
from zoo.training import Task

SHARE, BINS = Limit(0, 1), Limit(1, 100_000, whole=True)
VALIDATION = 8  # batches that watch the training
DRAWN = "spectra are drawn by a Generator, the first argument"
INSTEAD = {  # arguments of Keras' `fit`
    **dict.fromkeys(("x", "y", "events", "sample_weight", "class_weight", "shuffle"), DRAWN),
    **dict.fromkeys(
        ("batch_size", "steps_per_epoch"), "batch_size and steps are hyperparameters, as in zoo.get('ddp', steps=100)"
    ),
    **dict.fromkeys(
        ("validation_data", "validation_split", "validation_steps"), "validation= is a Generator of other spectra"
    ),
}
GENERATOR = tuple(field.name for field in dataclasses.fields(Generator))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPHyperparameters(Hyperparameters):
    """What `ddp` is made of, and what the spectra are that it is trained on (see `pipelines.simulation.spectra`)."""

    channels: int = hyperparameter(32, "of every convolution", UNITS)
    dilations: Sequence[int] = hyperparameter(
        (1, 2, 4, 8, 16, 1), "of the convolutions over three bins, one a block, in order", BINS
    )
    half_widths: Sequence[int] = hyperparameter(
        (7, 14, 28, 56), "of the local curves that the network sees deviations from, in bins, rising", BINS
    )
    degrees: Sequence[int] = hyperparameter(
        (3, 5), "of the polynomials, each in the mass and in its logarithm", Limit(1, 64, whole=True)
    )
    families: Sequence[str] = hyperparameter(tuple(FAMILIES), "of the backgrounds that it is trained on")
    bins: Sequence[int] = hyperparameter((30, 120), "fewest and most bins of a spectrum", BINS)
    binnings: Sequence[str] = hyperparameter(BINNINGS, "of the spectra")
    yields: Sequence[float] = hyperparameter((30.0, 1e6), "fewest and most events in the fullest bin")
    decades: Sequence[float] = hyperparameter((0.5, 6.0), "powers of ten over which a background falls")
    turn_on: float = hyperparameter(0.0, "share of spectra that rise first", SHARE)
    widths: Sequence[float] = hyperparameter((0.8, 4.0), "of the resolution, in bins")
    signal_share: float = hyperparameter(0.7, "share of spectra with a signal", SHARE)
    signal_shapes: Sequence[str] = hyperparameter(("gaussian",), "of the signals")
    signal_widths: Sequence[float] = hyperparameter((0.9, 1.1), "of the signals, in units of the resolution")
    strengths: Sequence[float] = hyperparameter((1.0, 12.0), "of the signals, in standard deviations")
    learning_rate: float = hyperparameter(0.002, "of Adam, at the start; it falls to zero as half a cosine", POSITIVE)
    epochs: int = hyperparameter(20, "of training", COUNT)
    steps: int = hyperparameter(50, "batches in an epoch", COUNT)
    batch_size: int = hyperparameter(128, "spectra in a batch, all new", Limit(1, 2**20, whole=True))

    def check(self) -> None:
        super().check()
        if min(self.half_widths) < 2 or list(self.half_widths) != sorted(set(self.half_widths)):
            raise InputError(
                f"half_widths={self.half_widths!r} is not possible; expected rising numbers of bins, 2 or more"
            )
        self.generator()

    def generator(self) -> Generator:
        """Return what draws the spectra."""
        chosen = {name: getattr(self, name) for name in GENERATOR}
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in chosen.items()}
        return Generator(**given)


@register("ddp")
class DDP(Detector):
    """Network of the Data Directed Paradigm: a mass spectrum in, the significance of a bump at every bin out.

    It is trained on generated spectra (see `pipelines.simulation.spectra`), and needs no data. The loss is, over the own
    bins of all spectra of a batch, the mean of Huber's function of (output - Z) with a threshold of 2, where

        Z_i = sign(s) sqrt(2 ln L(s) / L(0)),    L(s) = prod_j Poisson(n_j | b_j + s g_j),

    is the significance of a Gaussian g of the resolution's width at bin i if the background b is known, s its best
    number of events. Of real spectra nobody knows b: the network has learnt what can be said without.

    Raises `InputError` naming a hyperparameter out of range.

    Example:
        >>> import numpy as np, zoo
        >>> model = zoo.get("ddp", channels=8, dilations=(1,), half_widths=(7, 28), steps=2, batch_size=16)
        >>> history = model.fit(epochs=1, verbose=0, jit_compile=False)  # XLA pays in longer trainings
        >>> model.significance(np.full((3, 40), 100), np.linspace(1000, 3000, 41), width=1.5).shape
        (3, 40)
    """

    Hyperparameters = DDPHyperparameters
    hp: DDPHyperparameters

    data_kind = "spectra"
    takes = "spectrum"
    presets = {
        "turn_on": {"turn_on": 0.3, "signal_shapes": SIGNAL_SHAPES},
        "small": {"channels": 16, "dilations": (1, 2, 4, 8)},
    }
    score_kinds = ("max_significance",)
    longest_execution = 10

    def __init__(self, given=None, /, **hyperparameters):
        super().__init__(given, **hyperparameters)
        self.network = None

    @classmethod
    def search_space(cls, hp) -> dict[str, object]:
        """Return hyperparameters drawn from the KerasTuner object `hp`."""
        blocks = hp.Int("blocks", 3, 7, default=6)
        scales = hp.Choice("scales", ["7 14 28 56", "5 10 20 40", "7 28", "10 40"])
        return {
            "channels": hp.Choice("channels", [16, 32, 48, 64], default=32),
            "dilations": tuple(2 ** (i % 5) for i in range(blocks)),
            "half_widths": tuple(map(int, scales.split())),
            "learning_rate": hp.Float("learning_rate", 3e-4, 1e-2, sampling="log", default=2e-3),
        }

    @property
    def generator(self) -> Generator:
        """What draws the spectra of the training."""
        return self.hp.generator()

    # -- the kind of data, as in `AnomalyModel` ------------------------------------------------------

    @classmethod
    def require(cls, data_kind: str, where: object) -> None:
        """Raise `InputError` naming `where`, a run or a model, unless this model scores "events", or "spectra"."""
        if data_kind != cls.data_kind:
            raise InputError(f"{where}: {cls.zoo_name} reads spectra, not events; use `zoo scan`")

    def training_data(self, events=None, validation: float = 0.0, seed: int = 0) -> tuple[Generator, Generator]:
        """Return the generator of spectra, to train on and, by other spectra, to validate with.

        Raises `InputError` for events.
        """
        spectra = self._spectra(events)
        if validation:
            raise InputError(
                f"validation={validation:g} is for models of events: {self.zoo_name} is trained on spectra that it generates"
            )
        return spectra, spectra

    def check_enough(self, spectra: Generator) -> None:
        """Do nothing: there are as many spectra as are asked for."""

    def provenance(self, spectra: Generator) -> dict[str, object]:
        """Return what identifies the generated spectra in the configuration of a run."""
        return spectra.provenance()

    def amount_trained(self, spectra: Generator | None = None) -> tuple[int, str]:
        """Return how many, and what, the model was trained on, as (6400, "generated spectra")."""
        return self.spectra_seen, "generated spectra"

    def build_from_config(self) -> None:
        """Create all variables."""
        self.build_for()

    def serving_text(self) -> str:
        """Return what the exported `serving_default` takes and gives, for people."""
        return "takes counts, edges, resolution and mask (N, ...) in physical units and gives significance"

    # -- training ------------------------------------------------------------------------------------

    @property
    def has_met_data(self) -> bool:
        """Whether all variables are there."""
        return self.network is not None

    @property
    def spectra_seen(self) -> int:
        """How many spectra the latest training has seen."""
        return int(self.trainer.clock) * self.hp.batch_size

    def adapt(self, spectra: Generator | None = None) -> None:
        """Create the weights; there is nothing to adapt to. Raises `InputError` for events."""
        self._spectra(spectra)
        self.build_for()

    def build_for(self) -> None:
        """Create all variables."""
        if self.network is not None:
            return
        network = Network(self.hp.channels, self.hp.dilations, self.hp.half_widths, self.hp.degrees)
        network.build(None)
        self.network = network
        self.create_metrics("loss", "error", "peak_bias", "peak_error")
        self.reader = Reader(network)
        self.trainer.build()
        self.reset()
        self.built = True

    def own_state(self):
        return {"trainable": self.network.trainable_variables}

    def tasks(self):
        weights = self.network.trainable_variables
        return {"training": Task(self.losses, self.make_optimizer(keras.optimizers.Adam, weights), weights)}

    def reset(self, seed: int | None = None, **runtime) -> None:
        """Start over with fresh weights from `seed`. Compiles nothing anew."""
        if self.network is None:
            self.build_for()
        super().reset(seed, **runtime)

    def reinitialize(self, weights, optimizers):
        """As `Detector.reinitialize`; the output starts as the mean of the first-order ones."""
        super().reinitialize(weights, optimizers)
        for place, weight in enumerate(self.network.trainable_variables):
            if "exit" in weight.name or weight.shape.rank < 2:
                weight.assign(tf.zeros_like(weight))
            else:
                weight.assign(glorot_uniform(tuple(weight.shape), (self.hp.seed, place)))

    def fit(
        self,
        spectra: Generator | None = None,
        validation: Generator | None = None,
        *,
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = "auto",
        jit_compile: bool = True,
        memory: int | None = None,
        **others: object,
    ) -> keras.callbacks.History:
        """Train on generated spectra, which come from threads while the steps run.

        Args:
            spectra: what draws them, by default the model's own `generator`.
            validation: watch the training by 8 batches of other spectra that this one draws, as `val_...`.
            epochs: by default the model's own number; the learning rate falls to zero at their end.
            initial_epoch: go on from here with the present weights: that gives what one training would give.
            callbacks, verbose: Keras' own.
            jit_compile: compile the training step with XLA.
            memory: nothing to be kept.

        Raises `InputError` for events: these are for other models; TypeError for other arguments.
        """
        refuse_unknown(self.fit, others, INSTEAD)
        check_epochs(epochs, initial_epoch)
        spectra = self._spectra(spectra)
        self.adapt(spectra)
        self.trainer.clock.assign(initial_epoch * self.hp.steps)  # the learning rate starts anew where training does
        return self.trainer.fit(spectra, validation, epochs=epochs, initial_epoch=initial_epoch, callbacks=callbacks,
                                verbose=verbose, jit_compile=jit_compile, memory=memory)  # fmt: skip

    def batches(self, data: Generator, weighting=None, smaller: bool = False, **room) -> SpectrumBatches:
        """Return batches of spectra that a generator draws; with `smaller`, a few others, for validation."""
        return SpectrumBatches(self._spectra(data), self.hp.batch_size, VALIDATION if smaller else self.hp.steps)

    def _spectra(self, spectra) -> Generator:
        if not isinstance(spectra, Generator | None):
            raise InputError(
                "ddp is trained on spectra that it generates, not on events: leave the data out, and scan histograms "
                "with `zoo scan`"
            )
        return self.generator if spectra is None else spectra

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch):
        """As `Detector.train_step`, with a learning rate that falls as half a cosine."""
        total = tf.cast(self.trainer.main_epochs * self.hp.steps, tf.float32)
        done = tf.minimum(tf.cast(self.trainer.clock, tf.float32) / total, 1.0)
        self.optimizers[0].learning_rate = 0.5 * self.hp.learning_rate * (1.0 + tf.cos(np.pi * done))
        return super().train_step(batch)

    def losses(self, batch, seed, training):
        """The loss; the root of the mean squared error; bias and error at the bin where the ideal is largest."""
        mask, ideal = batch["mask"], batch["ideal"]
        off = (self.network(batch["counts"], batch["edges"], batch["resolution"], mask)[0] - ideal) * mask
        size = tf.abs(off)
        huber = tf.where(size < 2.0, 0.5 * tf.square(size), 2.0 * size - 2.0)
        at_peak = tf.gather(off, tf.argmax(tf.where(mask > 0, ideal, -1e9), 1), batch_dims=1)
        bins = tf.reduce_sum(mask)
        return {
            "loss": tf.reduce_sum(huber) / bins,
            "error": tf.sqrt(tf.reduce_sum(tf.square(off)) / bins),
            "peak_bias": tf.reduce_mean(at_peak),
            "peak_error": tf.sqrt(tf.reduce_mean(tf.square(at_peak))),
        }

    # -- use -----------------------------------------------------------------------------------------

    def infer(self, counts, edges, resolution, mask):
        """Return `significance` (N, B), and `background` (N, B), the widest curve, of arrays as `Network.call` takes."""
        significance, curve = self.network(counts, edges, resolution, mask)
        return {"significance": significance, "background": curve}

    def significance(
        self, spectra: Histograms | Spectra | np.ndarray, edges=None, *, width=None, jit_compile: bool | None = None
    ) -> np.ndarray:
        """Return the significance of a Gaussian at every bin (N, B), NaN beyond a spectrum's own bins.

        Args:
            spectra: histograms; or counts (N, B) or (B,), with edges (B + 1,) or (N, B + 1) of any unit; or generated
                spectra, whose resolution is the width then.
            width: standard deviation of the Gaussian: in bins, a number; or in the unit of the edges at every bin, (B,)
                or (N, B). 1.5 bins by default.
            jit_compile: whether XLA compiles a program for each length of spectra first; by default where there are so
                many spectra that this saves time. Both agree within the rounding of float32.

        Raises `InputError` for an untrained model, a width outside those of the training, events, a spectrum that no
        smooth curve goes through, and for all that `pipelines.histograms.Histograms.from_arrays` raises.
        """
        histograms, width = self._histograms(spectra, edges, width)
        reader = self._reader()
        return reader.read(histograms, self._resolution(histograms, width)[None], jit_compile)[0][0]

    def significances(
        self, histograms: Histograms, widths: Sequence[float], *, jit_compile: bool | None = None, planned: int = 0
    ) -> np.ndarray:
        """Return the significances (W, N, B) of W widths, in bins: as `significance` of each, in less time.

        Of `planned` spectra, if these are part of so many, it is decided whether compiling pays.
        """
        resolutions = np.stack([self._resolution(histograms, width) for width in widths])
        return self._reader().read(histograms, resolutions, jit_compile, planned)[0]

    def score(
        self, spectra: Histograms | Spectra | np.ndarray, kind: str | None = None, per_member: bool = False, *, edges=None,
        width=None,
    ) -> np.ndarray:  # fmt: skip
        """Return the largest significance of every spectrum (N,), or with `per_member` (1, N); else as `significance`."""
        if kind not in (None, *self.score_kinds):
            raise InputError(f"score kind {kind!r} is not known; DDP has {', '.join(self.score_kinds)}")
        found = np.nanmax(self.significance(spectra, edges, width=width), axis=1)
        return found[None] if per_member else found

    def scan(self, histograms: Histograms, widths: Sequence[float] = (1.0, 2.0, 3.0), **options) -> Scanned:
        """Return the most significant bump of every spectrum, see `zoo.models.ddp.scan.scan`."""
        return scan(self, histograms, widths, **options)

    def table(self, widths: Sequence[float] = (1.0, 2.0, 3.0), n: int = 10_000, **options) -> Table:
        """Return the largest significances of n background-only spectra, for `scan`, see `zoo.models.ddp.scan.make_table`."""
        return make_table(self, widths, n, **options)

    def background(self, histograms: Histograms) -> np.ndarray:
        """Return the widest curve that the network sees of every spectrum, (N, B): a smooth estimate, bumps spread."""
        return self._reader().read(histograms, np.empty((0, *histograms.counts.shape)), False)[1]

    def _histograms(self, spectra, edges, width):
        if isinstance(spectra, Spectra):
            return spectra.histograms, spectra.resolution if width is None else width
        if not isinstance(spectra, Histograms):
            if edges is None:
                raise InputError(
                    "ddp takes histograms, not events: scan spectra with `zoo scan`, or give counts (N, B) and edges"
                )
            spectra = Histograms.from_arrays(spectra, edges)
        return spectra, 1.5 if width is None else width

    def _resolution(self, histograms: Histograms, width) -> np.ndarray:
        low, high = self.hp.widths
        return resolution_of(histograms, width, (low, high))

    def _reader(self) -> Reader:
        if self.network is None:
            raise InputError("DDP has not been trained; call fit, or load a trained run with zoo.load")
        return self.reader

    def call(self, inputs):
        """Return significances (N, B) of a tuple of counts, edges, resolution and mask, as `Network.call` takes them."""
        return self.network(*inputs)[0]

    def serving(self, cuts=None):
        """Return what is exported.

        Its signature `serving_default(counts=(N, B), edges=(N, B + 1), resolution=(N, B), mask=(N, B))`, float32 but for
        the edges, which are float64, gives `significance` and `background` (N, B); all may be padded beyond the bins where the mask is 1, with rising
        edges and a resolution above 0. Raises `InputError` if untrained.
        """
        if self.network is None:
            raise InputError("the model has not been trained; fit it, or load a trained run with zoo.load")
        from zoo.serving.contents import Serving, described

        edges = np.tile(np.linspace(1000.0, 3000.0, 41), (4, 1))
        counts = 1e4 * np.exp(-np.arange(40) / 8) * (1 + np.arange(4)[:, None])
        example = {"counts": counts.astype("float32"), "edges": edges, "resolution": np.full(counts.shape, 100, "float32"),
                   "mask": np.ones(counts.shape, "float32")}  # fmt: skip
        return Serving(
            SIGNATURE, self.infer, ("significance",), list(self.network.variables), described(self), {}, example
        )
