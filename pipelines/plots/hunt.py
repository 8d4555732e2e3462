"""Figures of a bump hunt: the bump, the spectra it is seen in, all windows, pseudo-experiments, and sculpting."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.errors import InputError
from pipelines.plots.arrays import finite, increasing, named, of_events
from pipelines.plots.errors import poisson_errors
from pipelines.plots.page import legend, look, page, shown
from pipelines.plots.record import plain, target

INTERVAL = {"color": "C2", "alpha": 0.13, "lw": 0, "zorder": 0}


def p_value_text(p_value: float, is_bound: bool, n: int) -> str:
    """Say a p-value found among n pseudo-experiments, or its bound.

    >>> p_value_text(0.0123, False, 39_999), p_value_text(2.5e-5, True, 39_999)
    ('p = 0.0123', 'p < 1/40,000')
    """
    from pipelines.bumphunt.bump_hunt import p_text  # here, as it takes SciPy

    return f"p {'' if is_bound else '= '}{p_text(p_value, is_bound, n)}"


def plot_bump(
    edges: np.ndarray,
    observed: np.ndarray,
    reference: np.ndarray,
    path: str | os.PathLike[str],
    *,
    normalisation: float,
    normalisation_error: float,
    interval: tuple[float, float] | None = None,
    unit: float = 1.0,
    said: str = "",
    xlabel: str = "mass [GeV]",
) -> dict[str, object]:
    """Draw the selected spectrum with the normalised reference and its error, the interval shaded, and pulls below.

    The reference r_b = f N_b has the errors sqrt(f^2 N_b + (N_b df)^2): of the events it is made of, and of its
    normalisation. Selected events are some of these, and vary around r_b by their binomial error alone, so
    pull_b = (n_b - r_b) / sqrt(r_b (1 - f) + (N_b df)^2). Bins of different widths are drawn as densities.

    Args:
        edges: (B + 1,) GeV. observed, reference: (B,) selected events, and reference normalised to them.
        normalisation, normalisation_error: f and df.
        interval: in GeV, of the bump; None if there is none.
        unit: weight of an equivalent unweighted event, sum w^2 / sum w: all variances are so much larger.
        said: of the bump, in the figure.

    Returns:
        All arguments but `said`, and per bin `error_low`, `error_high` (lengths of the bars of the observed), `reference_error`
        and `pull` (None where nothing is expected). Raises `InputError` for a normalisation that is not above 0.

    Example:
        >>> import tempfile
        >>> counts, reference = np.array([90.0, 75.0, 40.0]), np.array([90.0, 60.0, 40.0])
        >>> path = tempfile.mkdtemp() + "/bump.png"
        >>> found = plot_bump(range(4), counts, reference, path, normalisation=0.1, normalisation_error=0.0)
        >>> [round(pull, 2) for pull in found["pull"]]
        [0.0, 2.04, 0.0]
    """
    path, edges = target(path), increasing("edges", edges)
    observed, reference = bin_contents(edges, observed=observed, reference=reference)
    if not normalisation > 0 or not normalisation_error >= 0:
        raise InputError(f"normalisation: {normalisation:g} +- {normalisation_error:g}, expected it above 0")
    scale = reference * normalisation_error / normalisation
    low, high = (unit * bar for bar in poisson_errors(observed / unit))
    spread = np.sqrt(reference * unit * max(0.0, 1 - normalisation) + scale**2)
    arrays = {
        "edges": edges,
        "observed": observed,
        "error_low": low,
        "error_high": high,
        "reference": reference,
        "reference_error": np.sqrt(reference * unit * normalisation + scale**2),
        "pull": np.divide(observed - reference, spread, out=np.full(len(observed), np.nan), where=spread > 0),
        "normalisation": normalisation,
        "normalisation_error": normalisation_error,
        "interval": interval,
        "unit": unit,
        "xlabel": xlabel,
    }
    numbers = plain(arrays)
    with page(path, numbers, (10, 8.6)) as figure:
        upper, lower = _panels(figure, [3, 1])
        _draw_spectrum(upper, arrays)
        _draw_pulls(lower, edges, arrays["pull"])
        for axis in (upper, lower):
            if interval is not None:
                axis.axvspan(*interval, label="interval" if axis is upper else None, **INTERVAL)
        if said:
            lines = "\n".join(shown(line) for line in said.splitlines())
            upper.text(0.97, 0.95, lines, ha="right", va="top", transform=upper.transAxes, fontsize=18)
        lower.set(xlabel=shown(xlabel), xlim=edges[[0, -1]])
        legend(figure, [upper])
    return numbers


def bin_contents(edges: np.ndarray, **contents: np.ndarray) -> list[np.ndarray]:
    """Return bin contents (B,) as float64; raises `InputError` for another number of bins, or values below 0."""
    found = [of_events(name, values, like=edges[1:]) for name, values in contents.items()]
    for name, values in zip(contents, found):
        if values.min() < 0:
            raise InputError(f"{name}: {values.min():g} in a bin, expected 0 or more")
    return found


def _panels(figure: Any, heights: Sequence[float]) -> Any:
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    figure.get_layout_engine().set(hspace=0.0, h_pad=0.03)
    return axes


def per_width(edges: np.ndarray) -> tuple[np.ndarray, str]:
    """Factors that make contents densities, and the label of their axis: events per width of the narrowest bin.

    >>> per_width(np.array([0.0, 50.0, 150.0]))
    (array([1. , 0.5]), 'events / 50 GeV')
    """
    widths = np.diff(edges)
    return widths.min() / widths, f"events / {widths.min():.4g} GeV"


def _draw_spectrum(axis: Any, found: Any) -> None:
    edges, density = found["edges"], per_width(found["edges"])[0]
    reference, error = found["reference"] * density, found["reference_error"] * density
    axis.stairs(reference, edges, color="C0", lw=2, label="reference, normalised")
    band = {"color": "C0", "alpha": 0.3, "lw": 0, "label": "its error"}
    axis.stairs(reference + error, edges, baseline=np.maximum(reference - error, 0), fill=True, **band)
    content = found["observed"] * density
    bars = np.array([found["error_low"], found["error_high"]]) * density
    centres = (edges[1:] + edges[:-1]) / 2
    drawn = {"fmt": "o", "color": "black", "ms": 5, "lw": 1.3, "zorder": 50}
    axis.errorbar(centres, content, bars, xerr=np.diff(edges) / 2, label="selected events", **drawn)
    everything = np.concatenate([content + bars[1], reference])
    positive = np.concatenate([content[content > 0], reference[reference > 0]])
    if len(positive) and everything.max() > 30 * positive.min():
        axis.set(yscale="log", ylim=(0.4 * positive.min(), 3 * everything.max()))
    else:
        axis.set_ylim(0, 1.2 * everything.max())
    axis.set_ylabel(per_width(edges)[1])


def _draw_pulls(axis: Any, edges: Any, pull: Any) -> None:
    seen = np.nan_to_num(pull)
    axis.stairs(seen, edges, fill=True, color="C0", alpha=0.55)
    axis.axhline(0, color="grey", lw=1)
    far = max(3.2, 1.15 * np.abs(seen).max())
    for line in (-2, 2):
        axis.axhline(line, color="grey", lw=0.8, ls=":")
    axis.set(ylim=(-far, far), ylabel="pull")


def plot_selections(
    selections: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    path: str | os.PathLike[str],
    *,
    unit: float = 1.0,
    xlabel: str = "mass [GeV]",
) -> dict[str, object]:
    """Draw the spectrum before a selection and after several, and below whether the share selected depends on the mass.

    Below: (n_b / N_b) / (n / N), the share of a bin that is selected over that of all; 1 everywhere if scores do not
    know the mass, with the binomial error sqrt(n_b (1 - n_b / N_b)) of n_b.

    Args:
        selections: by name, edges (B + 1,) in GeV, contents (B,) before and after. Each has its own bins; what is
            drawn as the spectrum before is that of the finest.
        unit: as of `plot_bump`.

    Returns:
        By selection `edges`, `before`, `selected`, `share`, `ratio` and `ratio_error` per bin (None where there is
        nothing before). Raises `InputError` for a selection of no events.

    Example:
        >>> import tempfile
        >>> bins = np.array([0.0, 1.0, 2.0]), np.array([100.0, 50.0]), np.array([10.0, 5.0])
        >>> plot_selections({"90 %": bins}, tempfile.mkdtemp() + "/spectra.png")["selections"]["90 %"]["ratio"]
        [1.0, 1.0]
    """
    path = target(path)
    found = {name: _share(name, *given, unit) for name, given in named("selections", selections).items()}
    finest = max(found.values(), key=lambda one: len(one["edges"]))
    numbers = plain({"xlabel": xlabel, "unit": unit, "selections": found})
    with page(path, numbers, (10, 9.2)) as figure:
        upper, lower = _panels(figure, [2, 1])
        width = np.diff(finest["edges"]).min()
        every = [finest["before"] * width / np.diff(finest["edges"])]
        upper.stairs(every[0], finest["edges"], color="black", lw=2, label="before selection")
        for order, (name, one) in enumerate(found.items()):
            colour, dash = look(order)
            edges, drawn = one["edges"], {"color": colour, "ls": dash, "lw": 2}
            every.append(one["selected"] * width / np.diff(edges))
            upper.stairs(every[-1], edges, label=shown(name), **drawn)
            centres = (edges[1:] + edges[:-1]) / 2 + 0.006 * np.ptp(edges) * (order - (len(found) - 1) / 2)
            fmt = {"fmt": "osD^vP"[order % 6], "ms": 4.5, "color": colour, "lw": 1.2}
            lower.errorbar(centres, one["ratio"], one["ratio_error"], xerr=None, **fmt)
        positive = np.concatenate([values[values > 0] for values in every])
        upper.set(yscale="log", ylim=(0.4 * positive.min(), 2.5 * positive.max()), ylabel=f"events / {width:.4g} GeV")
        _draw_ratio_axis(lower, found)
        lower.set(xlabel=shown(xlabel), xlim=finest["edges"][[0, -1]], ylabel="share selected\nover mean")
        legend(figure, [upper])
    return numbers


def _share(name: Any, edges: Any, before: Any, selected: Any, unit: Any) -> dict[str, np.ndarray]:
    edges = increasing(f"edges of {name}", edges)
    before, selected = bin_contents(edges, **{f"{name}, before": before, f"{name}, selected": selected})
    if not selected.any() or (selected > before * (1 + 1e-9)).any():
        raise InputError(
            f"{name}: {selected.sum():g} events selected of {before.sum():g}, expected some of those of the same bin"
        )
    mean, there = selected.sum() / before.sum(), before > 0
    share = np.divide(selected, before, out=np.full(len(before), np.nan), where=there)
    error = np.sqrt(np.maximum(unit * selected * (1 - share), 0))
    ratio_error = np.divide(error, before * mean, out=np.full(len(before), np.nan), where=there)
    about = {"edges": edges, "before": before, "selected": selected}
    return about | {"share": mean, "ratio": share / mean, "ratio_error": ratio_error}


def _draw_ratio_axis(axis: Any, found: Any) -> None:
    axis.axhline(1, color="grey", lw=1)
    top = max(np.nanmax(one["ratio"] + np.nan_to_num(one["ratio_error"])) for one in found.values())
    axis.set_ylim(0, min(max(2.0, 1.08 * top), 5.0))


def plot_tomography(
    windows: np.ndarray,
    path: str | os.PathLike[str],
    *,
    xlabel: str = "mass [GeV]",
) -> dict[str, object]:
    """Draw every window that was scanned: where it is, how wide, and the local significance of its excess or deficit.

    Args:
        windows: (W, 3), both ends in GeV and the p-value of each. Windows of p >= 0.5 have significance 0 and are
            left out of the figure.

    Returns:
        `low`, `high`, `p_value`, `significance` (W,), and `best`, the number of the window of smallest p-value (of
        equal ones the first), None if none is below 1.

    Example:
        >>> import tempfile
        >>> windows = [(3000, 3200, 0.4), (3100, 3300, 0.00135), (3200, 3400, 1.0)]
        >>> numbers = plot_tomography(windows, tempfile.mkdtemp() + "/tomography.png")
        >>> numbers["best"], round(numbers["significance"][1], 2)
        (1, 3.0)
    """
    from scipy.stats import norm

    path, windows = target(path), finite("windows", windows)
    if windows.ndim != 2 or windows.shape[1] != 3 or (windows[:, 0] >= windows[:, 1]).any():
        raise InputError(f"windows: shape {windows.shape}, expected (W, 3), both ends, the lower first, and p-value")
    low, high, p_value = windows.T
    if p_value.min() <= 0 or p_value.max() > 1:
        raise InputError(f"windows: p-values {p_value.min():g} to {p_value.max():g}, expected them in (0, 1]")
    significance = np.maximum(norm.isf(p_value), 0.0)
    best = int(p_value.argmin()) if p_value.min() < 1 else None
    arrays = {"low": low, "high": high, "p_value": p_value, "significance": significance}
    numbers = plain(arrays | {"best": best, "xlabel": xlabel})
    with page(path, numbers, (10, 6.6)) as figure:
        _draw_windows(figure, figure.subplots(), low, high, significance, best)
        figure.axes[0].set(xlabel=shown(xlabel), ylabel="local significance")
        legend(figure, figure.axes[:1])
    return numbers


def _draw_windows(figure: Any, axis: Any, low: Any, high: Any, significance: Any, best: Any) -> None:
    import matplotlib
    from matplotlib.collections import LineCollection
    from matplotlib.colors import ListedColormap

    there, widths = significance > 0, high - low
    lines = [((a, z), (b, z)) for a, b, z in zip(low[there], high[there], significance[there])]
    # the lightest colours would not be seen on white
    dark = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.85, 256)))
    drawn = LineCollection(lines, cmap=dark, array=widths[there], lw=1.6, alpha=0.8)
    drawn.set_clim(widths.min(), max(widths.max(), widths.min() + 1))
    axis.add_collection(drawn)
    figure.colorbar(drawn, ax=axis, pad=0.02).set_label("width of the window [GeV]")
    if best is not None and there[best]:
        said = f"best window, {low[best]:.0f} to {high[best]:.0f} GeV: {significance[best]:.2f} sigma, local"
        axis.plot([low[best], high[best]], [significance[best]] * 2, color="C2", lw=4, label=said)
    else:
        axis.text(0.5, 0.5, "no window deviates as was looked for", ha="center", transform=axis.transAxes)
    axis.set(xlim=(low.min(), high.max()), ylim=(0, 1.15 * max(significance.max(), 1.0)))


def plot_test_statistic(
    selections: Mapping[str, tuple[np.ndarray, float, float, bool]],
    path: str | os.PathLike[str],
    *,
    bins: int = 60,
) -> dict[str, object]:
    """Draw the test statistic of the pseudo-experiments and the observed one, with the p-value: a panel a selection.

    The statistic is -ln of the smallest local p-value over windows (Choudalakis, arXiv:1101.0390); the p-value
    is (k + 1) / (n + 1) if the statistic of k of n pseudo-experiments is at least the observed one.

    Args:
        selections: by name, statistics of the pseudo-experiments (n,), the observed one, the p-value, and whether that
            is a bound, so that it is said as `p < 1/(n + 1)`.

    Returns:
        By selection `pseudo_experiments`, `observed`, `as_extreme` (their number), `p_value`, `is_bound`, `edges`
        and `content` of the histogram.

    Example:
        >>> import tempfile
        >>> toys = np.random.default_rng(1).exponential(1, 1000)
        >>> numbers = plot_test_statistic({"99 %": (toys, 9.0, 0.001, True)}, tempfile.mkdtemp() + "/toys.png")
        >>> numbers["selections"]["99 %"]["as_extreme"]
        0
    """
    path, found = target(path), {}
    for name, (toys, observed, p_value, is_bound) in named("selections", selections).items():
        rounded = np.asarray(observed, np.asarray(toys).dtype)  # as they are, so that equal ones compare as equal
        toys = of_events(f"pseudo-experiments of {name}", toys)
        observed = float(finite(f"observed statistic of {name}", np.asarray(observed)))
        top = max(toys.max(), observed, toys.min() + 1e-3)
        content, edges = np.histogram(toys, bins, (min(0.0, toys.min()), 1.05 * top))
        extreme = int(np.count_nonzero(toys >= rounded))
        about = {"pseudo_experiments": len(toys), "observed": observed, "as_extreme": extreme}
        found[name] = about | {"p_value": p_value, "is_bound": is_bound, "edges": edges, "content": content}
    numbers = plain({"selections": found})
    width = min(2, len(found))
    height = -(-len(found) // width)
    with page(path, numbers, (9 if width == 1 else 7.6 * width, 6 if width == 1 else 5.4 * height)) as figure:
        axes = list(figure.subplots(height, width, squeeze=False).flat)
        for axis, (name, one) in zip(axes, found.items()):
            _draw_statistic(axis, name if len(found) > 1 else "", one)
        for axis in axes[len(found) :]:
            axis.set_visible(False)
        legend(figure, axes[: len(found)])
    return numbers


def _draw_statistic(axis: Any, name: Any, one: Any) -> None:
    edges, content, observed = one["edges"], one["content"], one["observed"]
    axis.stairs(content, edges, color="C0", lw=1.8, fill=True, alpha=0.4, label="pseudo-experiments of background")
    axis.stairs(content, edges, color="C0", lw=1.4)
    axis.axvline(observed, color="C2", lw=2.5, label="observed")
    axis.axvspan(observed, edges[-1], color="C2", alpha=0.10, lw=0)
    said = p_value_text(one["p_value"], one["is_bound"], one["pseudo_experiments"])
    axis.set_title(shown(f"{name}: {said}" if name else said))
    axis.set(yscale="log", ylim=(0.5, 3 * max(content.max(), 1)), xlim=edges[[0, -1]])
    axis.set(xlabel="$-\\ln\\ p_{\\min}$", ylabel="pseudo-experiments / bin")


def plot_sculpting(
    series: Mapping[str, Mapping[str, np.ndarray]],
    path: str | os.PathLike[str],
    *,
    mark: str = "",
) -> dict[str, object]:
    """Draw the Jensen-Shannon distance between mass spectra after and before a cut, with the floor of statistics.

    As in GAN-AE figures 5 and 6, base 2, against the percentile of the cut. Random selections of as many events have the
    distances of the grey band, mean and one and two standard deviations: nothing can be seen below it.

    Args:
        series: by name, `percentile`, `distance`, `floor`, `floor_std`, all (P,), as `pipelines.metrics.sculpting` has
            them. mark: a warning in the corner.

    Returns:
        The series, each with `above_floor`, as `pipelines.metrics.above_floor` has it.

    Example:
        >>> import tempfile
        >>> one = {"percentile": [50, 99], "distance": [0.02, 0.2], "floor": [0.02, 0.1], "floor_std": [0.01, 0.05]}
        >>> numbers = plot_sculpting({"upper": one}, tempfile.mkdtemp() + "/sculpting.png")
        >>> numbers["series"]["upper"]["above_floor"]
        [0.0, 2.0]
    """
    from pipelines.metrics import above_floor

    path = target(path)
    found: dict[str, Any] = {}
    for name, one in named("series", series).items():
        percentile = of_events(f"percentile of {name}", one["percentile"])
        order = np.argsort(percentile)
        keys = ("distance", "floor", "floor_std")
        values = {key: of_events(f"{key} of {name}", one[key], like=percentile)[order] for key in keys}
        above = [above_floor(*each) for each in zip(*values.values())]
        found[name] = {"percentile": percentile[order], **values, "above_floor": above}
    numbers = plain({"series": found})
    with page(path, numbers, (9, 6.2)) as figure:
        axis = figure.subplots()
        for place, (name, drawn) in enumerate(found.items()):
            _draw_distance(axis, name, drawn, place, len(found))
        top = max(max(one["distance"].max(), (one["floor"] + 2 * one["floor_std"]).max()) for one in found.values())
        axis.set(ylim=(0, 1.15 * max(top, 1e-6)), xlabel="percentile of the cut", ylabel="Jensen-Shannon distance")
        axis.set_title(mark, loc="right", color="C2", fontweight="bold")
        legend(figure, [axis])
    return numbers


def _draw_distance(axis: Any, name: Any, one: Any, order: Any, many: Any) -> None:
    (colour, dash), at = look(order), one["percentile"]
    shade = "grey" if many == 1 else colour
    said = "floor: random selections" if many == 1 else f"floor, {name}"
    for widths, alpha in ((2, 0.18), (1, 0.3)):
        band = (one["floor"] - widths * one["floor_std"], one["floor"] + widths * one["floor_std"])
        if len(at) > 1:
            axis.fill_between(at, *np.maximum(band, 0), color=shade, alpha=alpha, lw=0)
    axis.errorbar(at, one["floor"], 2 * one["floor_std"], fmt="_", ms=14, color=shade, lw=1.2, label=shown(said))
    axis.plot(at, one["distance"], "o" + dash, color=colour, lw=2, ms=7, label=shown(f"distance, {name}"))
