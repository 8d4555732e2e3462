"""The figure of a decoder: its output over latent space and mass, and the regions of the classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.plots.arrays import finite, increasing, named, of_events
from pipelines.plots.page import NOTES, WEIGHTS, legend, page, shown
from pipelines.plots.record import target

SHARES = (0.68, 0.95)


def plot_scan(
    z: np.ndarray,
    mass: np.ndarray,
    observables: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    *,
    regions: Mapping[str, tuple[np.ndarray, np.ndarray]],
    truth: Mapping[str, tuple[float, float, float]] | None = None,
    z_label: str = "$z$",
    mass_label: str = "$m_{jj}$ [GeV]",
    unweighted: bool = False,
) -> dict[str, object]:
    """Draw what a decoder generates over the plane of latent variable and mass, and where the events of classes live.

    Figure 4 of the VAE with latent bump hunting (arXiv 2103.06595). A region is the highest-density region of its
    events: the density is their smoothed histogram (a Gaussian of Scott's width), its level such that 68 % or 95 % of
    the events lie where it is higher (Hyndman, Am. Stat. 50 (1996) 120). So a region encloses that share of the
    events whatever the smoothing does to its shape; a sharp cut in mass gets rounded.

    Args:
        z: (nz,), mass: (nm,) in GeV: the grid, increasing. observables: by name, (nm, nz).
        regions: (z, mass) of events, each (N,), by name of their class. truth: by observable, mean, standard deviation
            and median of the true signal: black lines where the decoder gives mean and mean ± std, blue for the median.
        unweighted: the events have weights, which are ignored here; the figure and `weights` state it.

    Returns:
        `weights`, "none" or "not used"; `z`, `mass`, `observables`, `truth`, and `regions`: by name `events`, `in_window` (share of the events
        within the grid), and at `68` and `95` the `level` of the density (per unit of z and GeV), the share
        `enclosed`, and the `contours`, (n, 2) points of (z, mass). Raises `InputError` for events without spread.

    Example:
        >>> import tempfile
        >>> rng, z, mass = np.random.default_rng(1), np.linspace(-3, 3, 20), np.linspace(2000, 4000, 30)
        >>> events = rng.normal(0, 1, 500), rng.normal(3000, 200, 500)
        >>> observable = np.outer(mass / 10, np.exp(z))
        >>> path = tempfile.mkdtemp() + "/scan.png"
        >>> numbers = plot_scan(z, mass, {"m_j [GeV]": observable}, path, regions={"QCD": events})
        >>> print(numbers["regions"]["QCD"]["68"]["enclosed"])
        0.68
    """
    path, z, mass = target(path), increasing("z", z), increasing("mass", mass)
    maps = {name: finite(name, values) for name, values in named("observables", observables).items()}
    _check(maps, (len(mass), len(z)), regions, truth or {})
    numbers: dict[str, Any] = {
        "weights": WEIGHTS[unweighted],
        "z": z,
        "mass": mass,
        "observables": maps,
        "truth": {name: finite(f"truth of {name}", np.asarray(values)) for name, values in (truth or {}).items()},
        "regions": {name: _region(name, *events, z, mass) for name, events in regions.items()},
    }
    width = min(3, len(maps))
    height = -(-len(maps) // width)
    with page(path, numbers, (7.2 * width, 6.2 * height + 0.8), ".h5", note=NOTES[unweighted]) as figure:
        axes = list(figure.subplots(height, width, squeeze=False).flat)
        for axis, name in zip(axes, maps):
            _draw_map(figure, axis, z, mass, maps[name], name, numbers["truth"].get(name))
            _draw_regions(axis, numbers["regions"])
            axis.set(xlabel=shown(z_label), ylabel=shown(mass_label), xlim=z[[0, -1]], ylim=mass[[0, -1]])
        for axis in axes[len(maps) :]:
            axis.set_visible(False)
        legend(figure, axes)
    return numbers


def _check(maps: Any, shape: Any, regions: Any, truth: Any) -> None:
    if any(len(events) != 2 for events in regions.values()):
        raise InputError(f"regions: {[len(events) for events in regions.values()]} arrays, expected z and mass of each")
    for name, values in maps.items():
        if values.shape != shape:
            raise InputError(f"{name}: shape {values.shape}, expected {shape}: masses x z")
    if set(truth) - set(maps) or any(np.shape(t) != (3,) for t in truth.values()):
        raise InputError(f"truth: {truth}, expected (mean, std, median) of some of {[*maps]}")


def _region(name: str, z: np.ndarray, mass: np.ndarray, z_grid: np.ndarray, mass_grid: np.ndarray) -> dict[str, object]:
    import contourpy
    from scipy.interpolate import interpn

    z = of_events(f"z of {name}", z)
    mass = of_events(f"mass of {name}", mass, like=z)
    centres, density = smooth_density(z, mass, name)
    at_events = interpn(centres, density, np.column_stack([z, mass]), bounds_error=False, fill_value=0.0)
    generator = contourpy.contour_generator(centres[0], centres[1], density.T)
    inside = (z >= z_grid[0]) & (z <= z_grid[-1]) & (mass >= mass_grid[0]) & (mass <= mass_grid[-1])
    found: dict[str, object] = {"events": np.int64(len(z)), "in_window": np.mean(inside)}
    for share in SHARES:
        level = np.sort(at_events)[::-1][int(np.ceil(share * len(z))) - 1]
        lines = {str(i): line for i, line in enumerate(generator.lines(level))}
        found[f"{100 * share:.0f}"] = {"level": level, "enclosed": np.mean(at_events >= level), "contours": lines}
    return found


def smooth_density(x: np.ndarray, y: np.ndarray, name: str = "events") -> tuple[list[np.ndarray], np.ndarray]:
    """Density of points (N,) in a plane, from a histogram smoothed by a Gaussian of Scott's width, N^(-1/6) std.

    For std the smaller of standard deviation and interquartile range / 1.349, so that a few points far away do not
    widen it. Bins are half as wide, or wider where there would be more than 400 of them; the histogram covers the
    central 99.9 % of either coordinate and four widths more.

    Returns the centres of the bins, [(nx,), (ny,)], and the density (nx, ny), integral 1 within rounding if all points
    are in the histogram. Raises `InputError`, naming them `name`, for points without spread.
    """
    from scipy.ndimage import gaussian_filter

    edges, sigmas = [], []
    for axis, values in (("z", x), ("mass", y)):
        quartiles = np.quantile(values, (0.25, 0.75))
        scales = [s for s in (np.std(values), np.ptp(quartiles) / 1.349) if s > 0]
        if not values.min() < values.max():
            raise InputError(
                f"{axis} of {name}: {len(values)} events at {values[0]:g}, expected a spread; leave them out"
            )
        width = min(scales) * len(values) ** (-1 / 6)
        low, high = np.quantile(values, (0.0005, 0.9995)) + np.array([-4, 4]) * width
        bins = int(np.clip(np.ceil(2 * (high - low) / width), 4, 400))
        edges.append(np.linspace(low, high, bins + 1))
        sigmas.append(max(width * bins / (high - low), 1.0))
    content = np.histogram2d(x, y, edges)[0]
    smooth = gaussian_filter(content, sigmas, mode="constant")
    area = (edges[0][1] - edges[0][0]) * (edges[1][1] - edges[1][0])
    return [(e[1:] + e[:-1]) / 2 for e in edges], smooth / (len(x) * area)


def _draw_map(figure: Any, axis: Any, z: Any, mass: Any, values: Any, name: Any, truth: Any) -> None:
    import matplotlib
    from matplotlib.colors import ListedColormap

    pale = ListedColormap(matplotlib.colormaps["YlGnBu"](np.linspace(0, 0.6, 256)))  # lines must be seen on it
    drawn = axis.pcolormesh(z, mass, values, shading="gouraud", cmap=pale)
    figure.colorbar(drawn, ax=axis, pad=0.02)
    axis.set_title(shown(name), fontsize=16)
    if truth is None:
        return
    mean, std, median = truth
    for level, colour, width, label in (
        (mean, "black", 2.4, "true signal, mean"),
        (mean - std, "black", 1.2, "mean ± std"),
        (mean + std, "black", 1.2, None),
        (median, "blue", 2.4, "median"),
    ):
        if values.min() < level < values.max():  # else there is nothing to draw, and matplotlib warns
            axis.contour(z, mass, values, [level], colors=[colour], linewidths=width, linestyles="-")
        axis.plot([], [], color=colour, lw=width, label=label)


def _draw_regions(axis: Any, regions: Any) -> None:
    # Figure 4 has signal in red and background in black; further classes take the cycle's other colours.
    others = iter(["C2", "C1", "C3", "C5"] * (1 + len(regions) // 4))
    for name, found in regions.items():
        colour = "black" if name == "background" else next(others)
        for share, dash in (("68", "--"), ("95", ":")):
            for line in found[share]["contours"].values():
                axis.plot(*line.T, ls=dash, lw=2.2, color=colour)
            axis.plot([], [], ls=dash, lw=2.2, color=colour, label=shown(f"{name}, {share} %"))
