"""The network of `ddp`: counts, edges and a width in, the significance of a bump at every bin out.

**How the counts enter.** A spectrum falls by up to six decades. What matters are deviations of a thousandth where there
are 10^6 events in a bin, and of 100 % where there is one. So the network does not see counts, but deviations in units
of their statistical error, r = 2 sqrt(n + 3/8) - 2 sqrt(m + 3/8) (Anscombe 1948), from smooth curves m through the
spectrum (`zoo.models.ddp.curves`): parabolas around every bin on several scales, and polynomials in the mass and in its
logarithm for the whole spectrum. Narrow scales follow a bump, wide ones and polynomials do not follow every background:
what is right where, is for the network to learn. The scale of the counts enters as ln(1 + m), since the significance of
few events is another function; the width that is looked for as ln(resolution / bin width).

For every curve there is also sum_j t_j r_j / sqrt(sum_j t_j^2) with t_j = g_j / sqrt(m_j + 3/8), the significance of a
Gaussian g on m to first order. For every polynomial there is the share of a signal that its fit takes for background.
The output is a weighted sum of these significances plus a term, weights and term from the network: so that it goes on
growing for bumps larger than any in training. All inputs are ratios: the unit of the mass does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pipelines.histograms import Histograms
from zoo.keras import keras
from zoo.models.ddp.curves import Fit, absorbed, fit, highest, lowest, smooth

ANSCOMBE = 0.375
SIGNATURE = [
    tf.TensorSpec((None, None), tf.float64 if name == "edges" else tf.float32, name=name)
    for name in ("counts", "edges", "resolution", "mask")
]
LEAST_LEFT = 0.1  # of a signal that a fit leaves: it is not scaled up by more than the inverse


def gaussians(edges: tf.Tensor, resolution: tf.Tensor) -> tf.Tensor:
    """Return (N, B, B): a Gaussian in the middle of the first bin, of its resolution, 1 there, at the second's middle."""
    centres = 0.5 * (edges[:, 1:] + edges[:, :-1])
    u = (centres[:, None, :] - centres[:, :, None]) * (0.5**0.5 / resolution)[:, :, None]
    return tf.exp(-tf.square(u))


def arrays_of(histograms: Histograms, resolutions: np.ndarray, rows: np.ndarray, length: int) -> list[tf.Tensor]:
    """Return counts, edges, resolutions and mask of some histograms in `length` bins, as the network takes them.

    Args:
        resolutions: (W, N, B), for W widths. rows: (n,) which of the N. length: as many bins as the longest at least.
    """
    h = histograms
    edges = h.edges[rows, : length + 1]
    more = length + 1 - edges.shape[1]
    last = (edges[:, -1] - edges[:, -2])[:, None]
    edges = np.concatenate([edges, edges[:, -1:] + last * np.arange(1, more + 1)], 1)
    counts, mask = (_filled(a[rows, :length], length, 0.0) for a in (h.counts, h.mask))
    widths = _filled(resolutions[:, rows, :length], length, 1.0)
    return [tf.constant(a, spec.dtype) for a, spec in zip((counts, edges, widths, mask), SIGNATURE)]


def _filled(values: np.ndarray, length: int, beyond: float) -> np.ndarray:
    """Values (..., B) as (..., length)."""
    before = [(0, 0)] * (values.ndim - 1)
    return np.pad(values, [*before, (0, length - values.shape[-1])], constant_values=beyond)


class Seen(NamedTuple):
    """What the network sees of N spectra whatever the width: the same for all widths of a scan.

    Attributes:
        counts, mask: (N, B). edges: (N, B + 1), from 0 on, in `unit`s (N, 1), the mean bin width.
        curves: local ones, (N, B) each, narrow to wide. fits: what `zoo.models.ddp.curves.fit` returns of polynomials in the mass,
            and in its logarithm.
    """

    counts: tf.Tensor
    mask: tf.Tensor
    edges: tf.Tensor
    unit: tf.Tensor
    curves: list[tf.Tensor]
    fits: list[Fit]


class Network(keras.layers.Layer):
    """Residual blocks of dilated convolutions over three bins, on what is said above; masked bins stay zero throughout."""

    def __init__(
        self, channels: int, dilations: Sequence[int], half_widths: Sequence[int], degrees: Sequence[int], **kwargs
    ):
        super().__init__(**kwargs)
        self.channels, self.dilations = channels, tuple(dilations)
        self.half_widths, self.degrees = tuple(half_widths), tuple(degrees)

    def build(self, shape):
        fits = 2 * len(self.degrees)
        curves = len(self.half_widths) + fits
        self.entry = self._weights("entry", 2 * curves + fits + 5, self.channels)
        self.blocks = [
            (
                self._weights(f"conv{i}", 3 * self.channels, self.channels),
                self._weights(f"mix{i}", *[self.channels] * 2),
            )
            for i in range(len(self.dilations))
        ]
        self.exit = self._weights("exit", self.channels, curves + 1)
        super().build(shape)

    def _weights(self, name, inputs, outputs):
        return self.add_weight(f"{name}_kernel", (inputs, outputs)), self.add_weight(f"{name}_bias", (outputs,))

    def call(self, counts, edges, resolution, mask):
        """Return significances (N, B), and the smooth curve (N, B) of the widest scale.

        Of counts (N, B), edges (N, B + 1) float64, resolution (N, B), and mask (N, B), 1 for own bins and 0 for others.
        """
        seen = self.see(counts, edges, mask)
        return self.look(seen, resolution), seen.curves[-1]

    def see(self, counts, edges, mask) -> Seen:
        """Return what can be said of spectra before a width is known; arrays as for `call`."""
        counts = counts * mask
        unit = tf.reduce_sum((edges[:, 1:] - edges[:, :-1]) * tf.cast(mask, tf.float64), 1, keepdims=True)
        unit /= tf.cast(tf.reduce_sum(mask, 1, keepdims=True), tf.float64)  # the mean bin width
        scaled = tf.cast((edges - edges[:, :1]) / unit, tf.float32)
        bin_widths = scaled[:, 1:] - scaled[:, :-1]
        curves = smooth(counts, bin_widths, mask, self.half_widths)
        fits = _fits(counts, bin_widths, mask, edges, curves[min(1, len(curves) - 1)], self.degrees)
        return Seen(counts, mask, scaled, tf.cast(unit, tf.float32), curves, fits)

    def look(self, seen: Seen, resolution) -> tf.Tensor:
        """Return significances (N, B) of Gaussians of a resolution (N, B), in the unit of the edges."""
        counts, mask, curves = seen.counts, seen.mask, seen.curves
        resolution = tf.where(mask > 0, resolution / seen.unit, 1.0)
        deviations, unit_normal, significances, lost = _first_order(seen, gaussians(seen.edges, resolution), resolution)
        scales = [tf.math.log1p(curves[0]) / 4, tf.math.log1p(curves[-1]) / 4, tf.math.log1p(counts) / 4]
        scales += [tf.math.log(resolution / (seen.edges[:, 1:] - seen.edges[:, :-1])), tf.ones_like(mask)]
        # of a bump of 100 sigma the shape is as clear as of one of 10: the network sees them compressed
        inputs = tf.stack([*map(_compressed, deviations), *map(_compressed, unit_normal), *lost, *scales], -1)
        out = self._convolutions(inputs, mask[:, :, None])
        share = 1.0 / len(significances)
        weighted = (out[:, :, 1:] + share) * tf.stack(significances, -1)
        return tf.reduce_sum(weighted, -1) + out[:, :, 0] * share * mask

    def _convolutions(self, seen, mask):
        x = _dense(seen, self.entry) * mask
        for dilation, (conv, mix) in zip(self.dilations, self.blocks):
            y = tf.nn.relu(_beside(x, dilation, conv))
            x = (x + _dense(y, mix)) * mask
        return _dense(tf.nn.relu(x), self.exit)


def _first_order(seen: Seen, template, resolution):
    """Of every curve: deviations, significances with the fit's loss in their error, and without; of fits the share lost."""
    counts, mask, curves, fits = seen.counts, seen.mask, seen.curves, seen.fits
    every = [*curves, *(curve for fit in fits for curve in fit.curves)]
    errors = [tf.sqrt(m + ANSCOMBE) for m in every]
    deviations = [2.0 * (tf.sqrt(counts + ANSCOMBE) - error) * mask for error in errors]
    # the template, with bin width and resolution g = width x template / resolution, is by far the largest array: these
    # two are with what it is multiplied with, and all that is folded with it is in one product
    widths, height = ((seen.edges[:, 1:] - seen.edges[:, :-1]) * mask)[:, :, None], 1 / resolution[:, :, None]
    weighted = tf.stack([r / error for r, error in zip(deviations, errors)], -1)
    folded = template @ (tf.concat([weighted, *(fit.basis for fit in fits)], -1) * widths) * height
    sums, *projected = tf.split(folded, [len(every), *(fit.basis.shape[-1] for fit in fits)], -1)
    information = tf.stack([1 / tf.square(error) for error in errors], -1)
    squares = tf.square(template) @ (information * tf.square(widths)) * tf.square(height) + 1e-20
    significances = tf.unstack(sums * tf.math.rsqrt(squares) * mask[:, :, None], axis=-1)
    first = len(curves)
    shares = [absorbed(*one) for one in zip(projected, fits, tf.split(squares[:, :, first:], len(fits), -1))]
    lost = tf.unstack(tf.concat(shares, -1) * mask[:, :, None], axis=-1)
    local, fitted = significances[:first], significances[first:]
    unit_normal = local + [z * tf.math.rsqrt(1 - one) for z, one in zip(fitted, lost)]
    unbiased = local + [z / tf.maximum(1 - one, LEAST_LEFT) for z, one in zip(fitted, lost)]
    return deviations, unit_normal, unbiased, lost


def _fits(counts, bin_widths, mask, edges, start, degrees) -> list[Fit]:
    """Polynomials in the mass, then in its logarithm: both by one program, as twice as many spectra."""
    counts, widths, both_masks = (tf.concat([array, array], 0) for array in (counts, bin_widths, mask))
    place, start = tf.concat(_places(edges, mask), 0), tf.concat([start, start], 0)
    both = fit(counts, widths, both_masks, place, start, degrees)
    return [tf.nest.map_structure(lambda a, k=k: tf.split(a, 2)[k], both) for k in (0, 1)]


def _places(edges, mask):
    """What the polynomials are in: the mass; and its logarithm, from a tenth of the range on where it begins below."""
    mask = tf.cast(mask, tf.float64)
    mass = 0.5 * (edges[:, 1:] + edges[:, :-1])
    low, high = lowest(mass, mask), highest(mass, mask)
    shift = tf.maximum(0.1 * (high - low) - low, 0.0)
    return mass, tf.math.log(tf.where(mask > 0, mass + shift, 1.0))


def _dense(x, weights):
    """x (N, B, C) @ kernel + bias as one matrix product: of N products the gradient would be N kernels to be summed."""
    kernel, bias = weights
    size = tf.shape(x)
    return tf.reshape(tf.reshape(x, (-1, kernel.shape[0])) @ kernel + bias, (size[0], size[1], kernel.shape[1]))


def _compressed(x):
    return 4.0 * tf.asinh(x / 4.0)


def _beside(x, dilation: int, weights):
    """x (N, B, C) of each bin, and of those `dilation` to the left and to the right, 0 at the ends, by one convolution."""
    kernel, bias = weights

    @tf.custom_gradient  # TensorFlow has none on a CPU for a dilation above 1
    def convolved(x, kernel):
        size, of_kernel = tf.shape(x)[1], tf.reshape(kernel, (3, -1, kernel.shape[1]))

        def gradient(above):
            padded = tf.pad(x, [[0, 0], [dilation, dilation], [0, 0]])
            seen = tf.concat([padded[:, :size], x, padded[:, 2 * dilation :]], -1)
            flat = (tf.reshape(a, (-1, a.shape[2])) for a in (seen, above))
            backwards = tf.transpose(of_kernel[::-1], (0, 2, 1))
            return tf.nn.conv1d(above, backwards, 1, "SAME", dilations=dilation), tf.matmul(*flat, transpose_a=True)

        return tf.nn.conv1d(x, of_kernel, 1, "SAME", dilations=dilation), gradient

    return convolved(x, tf.convert_to_tensor(kernel)) + bias
