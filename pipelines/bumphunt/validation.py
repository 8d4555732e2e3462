"""Is a search to be believed? Sculpting, coverage, injected signal, contamination, stability, and a yardstick with labels.

A search without labels has to be validated with them, on simulated events, before it is pointed at data. None of this
is part of a search: what needs truth says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import kstest, norm, rankdata

from pipelines import metrics
from pipelines.bumphunt.bump_hunt import BINS, Bump, Hunt, check_options, hunt
from pipelines.bumphunt.search import Model, Search, natural_tails, scores_of, search
from pipelines.bumphunt.selection import TAILS, equal_edges, expected, percentiles_of, ranges_of
from pipelines.bumphunt.spectra import RELATIVE_ERROR, WIDTHS, inject_by_pybumphunter, spectrum
from pipelines.errors import InputError
from pipelines.events.events import Events
from pipelines.events.layout import match_columns
from pipelines.events.mixing import mix
from pipelines.jobs.executors import cores

CURVE = (*np.arange(5.0, 100.0, 5.0).tolist(), 97.0, 98.0, 99.0, 99.5)  # percentiles of a sculpting curve
LEAST = 10  # events that must be selected for a point of it
THREADED = 100_000  # events from which on boosted trees are grown by several threads
MULTI_JET = re.compile(r"m_?(j\d*){2,}")  # m_jj, mjj, mj1j2, mj1j2j3: masses of several jets
RATIOS = (0.0, 0.0008, 0.0025, 0.005, 0.01)  # S/B of the black boxes


# -- background alone -------------------------------------------------------------------------------


def sculpting_curve(
    score: np.ndarray,
    mass: np.ndarray,
    percentiles: Sequence[float] = CURVE,
    *,
    tails: str = "upper",
    bins: int = metrics.MASS_BINS,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return how much cuts on the score shape the mass spectrum, by tail and percentile, beside statistics' share.

    As `pipelines.metrics.sculpting`, whose `distance`, `floor`, `floor_std` and `events` these are, and `pull`, by how
    many standard deviations of the floor the distance is above it (`pipelines.metrics.above_floor`). `tails` are those of a
    hunt. Percentiles that fewer than 10 events pass are left out; `InputError` if those are all. Give background alone:
    signal shapes the spectrum too, as it should.

    >>> rng = np.random.default_rng(0)
    >>> score, mass = rng.normal(size=5000), rng.exponential(500, 5000)
    >>> found = sculpting_curve(score, mass, tails="both")
    >>> len(found["upper"]), abs(found["lower"]["90"]["pull"]) < 4
    (23, True)
    """
    return {
        tail: _curve(signed, mass, percentiles, bins, seed)
        for tail, signed in _by_tail(np.asarray(score), tails).items()
    }


def _curve(score: np.ndarray, mass: np.ndarray, percentiles, bins: int, seed: int) -> dict[str, dict[str, float]]:
    kept = [p for p in percentiles if np.count_nonzero(score > np.percentile(score, p)) >= LEAST]
    if not kept:
        raise InputError(f"fewer than {LEAST} of {len(score)} events pass percentile {min(percentiles):g} of the score")
    found = metrics.sculpting(score, mass, kept, bins, seed)
    return {
        name: one | {"pull": metrics.above_floor(one["distance"], one["floor"], one["floor_std"])}
        for name, one in found.items()
    }


def _by_tail(score: np.ndarray, tails: str) -> dict[str, np.ndarray]:
    """The score by tail, with the sign that makes what is selected the largest."""
    if tails not in TAILS:
        raise InputError(f"tails {tails!r}, expected one of {', '.join(TAILS)}")
    return {tail: score if tail == "upper" else -score for tail in TAILS[tails]}


def coverage(
    score: np.ndarray,
    mass: np.ndarray,
    *,
    data_sets: int = 100,
    events: int | None = None,
    shuffle: bool = False,
    percentiles: float | Sequence[float] = (80.0,),
    seed: int = 0,
    toys: int = 300,
    **options: object,
) -> dict[str, object]:
    """Hunt in many background-only data sets: are their global p-values uniform, as p-values have to be?

    Every data set is a random part of the background. Where there is enough of it they share no event (`disjoint` says
    so). Else each is drawn anew from all of it, and p-values of data sets that share events are correlated: that voids the
    Kolmogorov-Smirnov test, by some unknown amount. With `shuffle` it does not: each data set gets a dealing of its own,
    whatever its events. If a score depends on the mass, p-values come out too small: this shows by how much.

    Args:
        score, mass: (N,) of background alone. data_sets: how many. events: of each; by default N // data_sets.
        shuffle: deal the scores anew to the events of each data set, which tests the statistics without the score.
        percentiles: by default a loose one, as each data set has few events. toys: pseudo-experiments of each. options: of `pipelines.bumphunt.bump_hunt.hunt`.

    Returns:
        `p_values`; `ks_statistic` and `ks_p_value` against the uniform distribution; `mean`; `below_0.05`, the share
        of p-values there, and its statistical error `below_0.05_error`; `events` and `disjoint`.

    Raises:
        InputError: for fewer events than there have to be, and as `hunt`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score, mass = rng.normal(size=20_000), 2700 + rng.exponential(500, 20_000)
        >>> found = coverage(score, mass, data_sets=10, toys=50, percentiles=[50], mass_range=(2700, 5000))
        >>> found["events"], found["disjoint"], found["ks_p_value"] > 0.01
        (2000, True, True)
    """
    score, mass = np.asarray(score), np.asarray(mass)
    if data_sets < 2:
        raise InputError(f"data_sets {data_sets}, expected at least 2")
    size = len(score) // data_sets if events is None else events
    if not 0 < size <= len(score):
        raise InputError(f"data sets of {size} events, expected 1 to {len(score)}, as many as there are")
    disjoint = size * data_sets <= len(score)
    order = np.random.default_rng([seed, 2]).permutation(len(score))
    p_values = []
    for i in range(data_sets):
        rng = np.random.default_rng([seed, 3, i])
        rows = order[i * size : (i + 1) * size] if disjoint else rng.choice(len(score), size, replace=False)
        one = rng.permutation(score[rows]) if shuffle else score[rows]
        try:
            found = hunt(one, mass[rows], pseudo_experiments=toys, percentiles=percentiles, seed=rng, **options)
        except InputError as error:
            raise InputError(f"data sets of {size} events: {error}") from None
        p_values.append(found.global_p_value)
    p = np.array(p_values)
    test, low = kstest(p, "uniform"), float(np.mean(p <= 0.05))
    return {
        "p_values": p.tolist(), "ks_statistic": float(test.statistic), "ks_p_value": float(test.pvalue),
        "mean": float(p.mean()), "below_0.05": low, "below_0.05_error": float(np.sqrt(0.05 * 0.95 / data_sets)),
        "data_sets": data_sets, "events": size, "disjoint": disjoint, "toys": toys, "shuffled": shuffle,
    }  # fmt: skip


# -- injected signal --------------------------------------------------------------------------------


def spectrum_injection(
    score: np.ndarray,
    mass: np.ndarray,
    *,
    at: float,
    width: float,
    yields: Sequence[int],
    repeats: int = 20,
    seed: int = 0,
    toys: int = 1000,
    **options: object,
) -> list[dict[str, object]]:
    """Add signal to the spectrum that is selected: what significance has how many events?

    The idea of pyBumpHunter's `signal_inject` (see `pybumphunter_injection`), in the statistics used here. For every repetition the scores are dealt
    anew to the events, so that no signal is among them, and Gaussian masses are added with the highest score of all:
    the whole yield is selected. The model plays no part, so this is what the search could find at most.

    Args:
        score, mass: (N,), of data or of background. at, width: mean and standard deviation of the signal's mass, GeV.
        yields: numbers of selected signal events. repeats: data sets of each.
        toys, options: of `pipelines.bumphunt.bump_hunt.hunt`; one percentile and the upper tail are meant.

    Returns:
        For every yield, over the repetitions: `local` and `global` significance as [16 %, median, 84 %],
        `global_is_bound`, the share of them that are bounds, and `mass_bias`, median of mass estimate minus `at`, GeV.
        `found`, the share whose interval holds `at`.

    Raises:
        InputError: before anything is thrown, for a width or yields that cannot be, and for a yield that fills the
            selection, so that no background is left in it; and as `hunt`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score, mass = rng.normal(size=20_000), 2700 + rng.exponential(500, 20_000)
        >>> options = {"percentiles": [95], "mass_range": (2700, 5000), "repeats": 3, "toys": 50}
        >>> weak, strong = spectrum_injection(score, mass, at=3500, width=80, yields=[0, 120], **options)
        >>> weak["local"][1] < strong["local"][1], strong["found"]
        (True, 1.0)
    """
    if not (width > 0 and np.isfinite([at, width]).all()) or not len(yields) or min(yields) < 0 or repeats < 1:
        raise InputError(
            f"signal of width {width:g} at {at:g} GeV, yields {list(yields)}, {repeats} repeats; expected a width > 0, "
            f"yields >= 0 and at least one of each"
        )
    score, mass = np.asarray(score, np.float64), np.asarray(mass, np.float64)
    _check_room(mass, yields, percentiles_of(options.get("percentiles", 99.0)), options.get("mass_range"))
    rows = []
    for events in yields:
        found = []
        for i in range(repeats):
            rng = np.random.default_rng([seed, i])  # the same background for every yield
            scores = np.r_[rng.permutation(score), np.full(events, score.max() + 1)]
            masses = np.r_[mass, rng.normal(at, width, events)]
            found.append(hunt(scores, masses, pseudo_experiments=toys, seed=rng, **options))
        rows.append({"events": int(events), **_of_many(found, at)})
    return rows


def _check_room(mass: np.ndarray, yields: Sequence[int], percentiles: Sequence[float], mass_range) -> None:
    """Raise `InputError` if a yield, all of it within the range, is as many events as a cut selects, or more."""
    if isinstance(mass_range, Mapping):
        mass_range = mass_range.get("mass")
    low, high = mass_range or (-np.inf, np.inf)
    there, most, tightest = np.count_nonzero((mass >= low) & (mass <= high)), max(yields), max(percentiles)
    selected = int((1 - tightest / 100) * (there + most))
    if 0 < tightest < 100 and there and most >= selected:
        raise InputError(
            f"yield {most}: percentile {tightest:g} selects {selected} of {there} events and these, so no background is "
            f"left beside the signal; expected fewer than {int(there * (100 - tightest) / tightest)} events, or a lower percentile"
        )


def _of_many(found: Sequence[Hunt], at: float) -> dict[str, object]:
    bumps = [one.best for one in found]
    biases = [bump.mass_estimate - at for bump in bumps if bump.mass_estimate is not None]
    return {
        "local": np.quantile([bump.local_significance for bump in bumps], [0.16, 0.5, 0.84]).tolist(),
        "global": np.quantile([one.global_significance for one in found], [0.16, 0.5, 0.84]).tolist(),
        "global_is_bound": float(np.mean([one.global_p_value_is_bound for one in found])),
        "mass_bias": float(np.median(biases)) if biases else None,
        "found": float(np.mean([bump.interval is not None and bump.interval[0] <= at < bump.interval[1] for bump in bumps])),
    }  # fmt: skip


def pybumphunter_injection(
    score: np.ndarray,
    mass: np.ndarray,
    *,
    at: float,
    width: float,
    target: float = 2.0,
    percentiles: float | Sequence[float] = (99.0,),
    mass_range: tuple[float, float] | None = None,
    bins: int = BINS,
    relative_error: float | None = RELATIVE_ERROR,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    toys: int = 1000,
    seed: int = 0,
    **options: object,
) -> list[dict[str, object]]:
    """Add signal to the spectrum that is selected, as `spectrum_injection` does, with pyBumpHunter's own `signal_inject`.

    The spectrum before the cut, scaled by the share selected and in the bins of a hunt, is the background; the signal is
    Gaussian.

    Args:
        score, mass, at, width: as for `spectrum_injection`. target: global significance at which it ends.
        percentiles: one. Other options are those of `pipelines.bumphunt.bump_hunt.hunt`.

    Returns:
        What `pipelines.bumphunt.spectra.inject_by_pybumphunter` does; `needed_yield` tells the yield.

    Raises:
        InputError: for several percentiles, Fisher's test, deficits, and as `hunt`; for a signal outside the range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> score, mass = rng.normal(size=20_000), 2700 + rng.exponential(500, 20_000)
        >>> options = {"percentiles": 95, "mass_range": (2700, 5000), "toys": 200}
        >>> 20 < needed_yield(pybumphunter_injection(score, mass, at=3500, width=80, **options), "global", 2) < 200
        True
    """
    percentiles = percentiles_of(percentiles)
    if options.get("deficit") or options.get("statistic", "poisson") != "poisson" or len(percentiles) > 1:
        raise InputError(
            "pyBumpHunter's signal_inject has the Poisson statistic and one percentile, and adds an excess"
        )
    check_options(bins, relative_error, widths, side_band, toys, seed)
    if not (target > 0 and width > 0 and np.isfinite([at, width, target]).all()):
        raise InputError(
            f"target {target:g}, signal of width {width:g} at {at:g} GeV; expected numbers, the first two above 0"
        )
    score, mass = np.asarray(score), np.asarray(mass, np.float64)
    edges = equal_edges("mass", mass, ranges_of({"mass": mass}, mass_range)["mass"], bins)
    before, windows = spectrum(mass, edges), {"widths": widths, "side_band": side_band}
    _, selected, widths = expected("mass", "upper", before, before.content.sum(), relative_error, windows, *percentiles)
    signal = np.diff(norm.cdf(selected.edges, at, width))
    step = max(1.0, target * np.sqrt(selected.content @ (signal > 0.1 * signal.max())) / 8)
    return inject_by_pybumphunter(
        signal, selected.content, target=target, step=step, widths=widths, side_band=side_band, toys=toys, seed=seed
    )


def needed_yield(rows: Sequence[Mapping[str, object]], kind: str, target: float) -> float | None:
    """Return the events at which the median `local` or `global` significance of rows is a target, between rows linearly.

    None if it is in no row.

    >>> rows = [{"events": 0, "local": [0, 0.5, 1]}, {"events": 20, "local": [1, 1.5, 2]}]
    >>> needed_yield(rows, "local", 1.0), needed_yield(rows, "local", 2.0)
    (10.0, None)
    """
    reached = [(float(row["events"]), row[kind][1]) for row in rows]
    for (events, z), (before, z_before) in zip(reached, [reached[0], *reached]):
        if z >= target:
            return before + (events - before) * ((target - z_before) / (z - z_before) if z > z_before else 1.0)
    return None


def contaminated(background: Events, signal: Events, s_over_b: float, seed: int = 0) -> Events:
    """Return all of the background with signal in it, S/B of their numbers; labels 0 and 1, to judge by.

    Of one seed, the signal of a small ratio is part of that of a larger one. Raises `InputError` for a ratio below 0,
    or more signal than there is.

    >>> import pipelines
    >>> test = pipelines.open("lhco_sim_test")
    >>> mixed = contaminated(test.select(label=0), test.select(label=1), 0.0025)
    >>> np.bincount(mixed.label).tolist()
    [4000, 10]
    """
    background = background.select(label=0) if background.has_labels else background
    signal = _signal(signal)
    wanted = _wanted(background, signal, s_over_b)
    if not wanted:
        return background
    chosen = signal.take(np.random.default_rng([seed, 4]).permutation(len(signal))[:wanted])
    return mix(background, chosen, wanted / len(background) * (1 - 1e-9))  # a hair less: int() rounds down in `mix`


def check_ratios(
    background: Events, signal: Events, ratios: Sequence[float], mass_range: tuple[float, float] | None = None
) -> None:
    """Raise `InputError` if one of several S/B cannot be had, so that none is found so after hours of training.

    As `contaminated` of events within the mass range, GeV, if there is one.

    >>> import pipelines
    >>> test = pipelines.open("lhco_sim_test")
    >>> check_ratios(test.select(label=0), test.select(label=1), [0, 0.01])
    """
    if not len(ratios):
        raise InputError("no S/B, expected one at least, such as 0.0025")
    background, signal = _within(mass_range, background, signal)
    background, signal = background.select(label=0) if background.has_labels else background, _signal(signal)
    for ratio in ratios:
        _wanted(background, signal, ratio)


def _within(ends: tuple[float, float] | None, *parts: Events) -> tuple[Events, ...]:
    return parts if ends is None else tuple(part.select(mass_range=tuple(ends)) for part in parts)


def _signal(events: Events) -> Events:
    if not events.has_labels:
        return events
    if not (is_signal := events.label > 0).any():
        raise InputError(f"{events.name}: no signal among its {len(events)} events, all have label 0")
    return events if is_signal.all() else events.take(is_signal)


def _wanted(background: Events, signal: Events, s_over_b: float) -> int:
    if not (np.isfinite(s_over_b) and s_over_b >= 0):
        raise InputError(f"S/B {s_over_b}, expected a number >= 0, such as 0.0025")
    wanted = round(s_over_b * len(background))
    if wanted > len(signal):
        raise InputError(
            f"{signal.name}: S/B {s_over_b:g} of {len(background)} events asks for {wanted}, it has {len(signal)}"
        )
    if s_over_b > 0 and not wanted:
        raise InputError(
            f"S/B {s_over_b:g} of {len(background)} background events is no signal event; give more background"
        )
    return wanted


def injected(
    model: Model | Callable[[int, Events], Model],
    background: Events,
    signal: Events,
    s_over_b: float,
    *,
    seed: int = 0,
    **options: object,
) -> Search:
    """Mix signal into background and search, from events to significance; with `folds`, training included.

    Args:
        model, options: as for `pipelines.search`; a model that is given trained has not seen this mixture.
        background, signal, s_over_b: as for `contaminated`, of events within the mass range, if there is one.
        seed: of the mixture and the search.

    Returns:
        The `Search`; `paper_numbers` are those that papers print of it.
    """
    if isinstance(ends := options.get("mass_range"), Mapping):
        ends = ends.get("mass")
    background, signal = _within(ends, background, signal)
    return search(model, contaminated(background, signal, s_over_b, seed), seed=seed, **options)


def paper_numbers(found: Search) -> dict[str, object]:
    """Return what papers print of a search in labelled events, for the selection of smallest global p-value, and for each.

    `percentile`, `tail`; `local` and `fisher` significance; `global` significance, with all trials, `global_is_bound`;
    `mass_estimate`; and with one signal `signal_events`, `s_over_b` before and after the cut, their ratio `gain`,
    `gain_interval` (in the interval), signal `efficiency` of the cut, `mass_bias` in GeV. None without truth.
    `selections` are the same of each selection, whose global significance is its own.
    """
    each = [_numbers_of(found, i) for i in range(len(found.hunt.bumps))]
    hunted = found.hunt
    return each[hunted.bumps.index(hunted.best)] | _global(hunted) | {"selections": each}


def _global(found: Hunt | Bump) -> dict[str, object]:
    return {"global": found.global_significance, "global_p_value": found.global_p_value,
            "global_is_bound": found.global_p_value_is_bound}  # fmt: skip


def _numbers_of(found: Search, selection: int) -> dict[str, object]:
    bump, nothing = found.hunt.bumps[selection], dict.fromkeys(("before", "selected"))
    truth = {} if found.truth is None else found.truth[selection]["signals"]
    one = next(iter(truth.values())) if len(truth) == 1 else {}
    ratio = one.get("s_over_b", nothing)
    return {
        "spectrum": bump.spectrum, "percentile": bump.percentile, "tail": bump.tail,
        "selected_events": bump.selected_events, "local": bump.local_significance, "fisher": bump.fisher_significance,
        **_global(bump), "mass_estimate": bump.mass_estimate, "interval": bump.interval,
        "signal_events": one.get("before"), "s_over_b": ratio["before"], "s_over_b_selected": ratio["selected"],
        **{name: one.get(name) for name in ("gain", "gain_interval", "efficiency", "mass_bias")},
    }  # fmt: skip


def contamination(
    train: Callable[[int, Events], Model],
    background: Events,
    signal: Events,
    test: Events,
    ratios: Sequence[float] = RATIOS,
    *,
    kind: str | None = None,
    seeds: int = 1,
    seed: int = 0,
) -> list[dict[str, object]]:
    """Train at every S/B and judge on other events: does a detector learn the signal away? GAN-AE, figure 7.

    Args:
        train: a function of a number, which makes its seed, and of events without labels that returns a trained model.
            All ratios are trained with the same numbers, so that they differ by their signal alone.
        background, signal: to train on, see `contaminated`. test: labelled events, none of which is in these.
        ratios: S/B of the trainings. seeds: trainings of each, every one with other signal.

    Returns:
        For every ratio: `s_over_b`; `auc`, by tail and by the test events' label, mean over the seeds, and its standard
        deviation `auc_std`, None of one; and `runs`, of every seed `auc`, `improvement` (best S/sqrt(B)), and
        `sculpting` of the background, all by tail. The tail is the upper one, or both of a score that the model says has
        no direction: in the lower one small scores are the anomalous ones.

    Raises:
        InputError: before the first training, for an S/B that cannot be had, and a test that cannot judge.
    """
    if not test.has_labels or not (test.label == 0).any() or not (test.label > 0).any():
        raise InputError(f"{test.name}: labelled background and signal are needed to judge by")
    if seeds < 1:
        raise InputError(f"seeds {seeds}, expected at least 1")
    check_ratios(background, signal, ratios)
    rows = []
    for ratio in ratios:
        runs = []
        for k in range(seeds):
            model = train(k, contaminated(background, signal, ratio, seed + k).without_labels())
            runs.append(_judged_on(test, scores_of(model, test, kind)[0], natural_tails(model, kind), seed))
        spread = _over_runs(runs, np.std) if seeds > 1 else None
        rows.append({"s_over_b": float(ratio), "auc": _over_runs(runs, np.mean), "auc_std": spread, "runs": runs})
    return rows


def _judged_on(test: Events, score: np.ndarray, tails: str, seed: int) -> dict[str, dict]:
    """AUC, improvement and sculpting of a score, by tail."""
    label, found = test.label, {"auc": {}, "improvement": {}}
    background, signals = label == 0, {str(k): label == k for k in np.unique(label[label > 0])}
    for tail, signed in _by_tail(score, tails).items():
        for name, judge in (("auc", metrics.auc), ("improvement", metrics.significance_improvement)):
            found[name][tail] = {k: judge(signed[background], signed[chosen]) for k, chosen in signals.items()}
    curve = sculpting_curve(score[background], test.mass[background], metrics.PERCENTILES, tails=tails, seed=seed)
    return found | {"sculpting": curve}


def _over_runs(runs: Sequence[Mapping], function: Callable) -> dict[str, dict[str, float]]:
    """A function of the AUCs of all runs, by tail and label."""
    return {
        tail: {k: float(function([run["auc"][tail][k] for run in runs])) for k in by_label}
        for tail, by_label in runs[0]["auc"].items()
    }


# -- several models, and labels ---------------------------------------------------------------------


def stability(
    scores: np.ndarray,
    mass: np.ndarray,
    *,
    percentiles: float | Sequence[float] = (99.0,),
    tails: str = "upper",
    seed: int = 0,
    **options: object,
) -> dict[str, object]:
    """Compare what members of a group, or models of several seeds, say of the same events.

    Args:
        scores: (K, N), higher is more anomalous. mass: (N,) GeV.
        percentiles, tails, options: of `pipelines.bumphunt.bump_hunt.hunt`.

    Returns:
        `rank_correlation`, Spearman's, mean and smallest over pairs; `rank_spread`, the standard deviation over models
        of an event's rank in [0, 1], mean over events (0.29 if they had nothing in common); by tail and percentile
        `overlap`, the share of events that two models select both among those that one of them does, mean over pairs;
        `local` and
        `global` significance of every model, their `local_mean`, `local_std`, `global_mean`, `global_std`, and
        `intervals`; `together`, the significances of the mean score.

    Raises:
        InputError: for fewer than two models, and as `hunt`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mass, common = 2700 + rng.exponential(500, 20_000), rng.normal(size=20_000)
        >>> scores = common + 0.1 * rng.normal(size=(3, 20_000))
        >>> found = stability(scores, mass, percentiles=[95], mass_range=(2700, 5000), pseudo_experiments=50)
        >>> found["rank_correlation"]["mean"] > 0.98, len(found["local"])
        (True, 3)
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or len(scores) < 2:
        raise InputError(f"scores have shape {scores.shape}, expected (K, N) of at least two models")
    if not np.isfinite(scores).all():
        raise InputError(
            f"{np.count_nonzero(~np.isfinite(scores).all(axis=1))} of {len(scores)} models give NaN or infinite scores"
        )
    ranks = rankdata(scores, axis=1) / scores.shape[1]
    pairs = np.triu_indices(len(scores), 1)
    correlation = np.corrcoef(ranks)[pairs]
    percentiles = percentiles_of(percentiles)
    options = {"percentiles": percentiles, "tails": tails, "seed": seed, **options}
    found = [hunt(one, mass, **options) for one in scores]
    mean = hunt(scores.mean(axis=0), mass, **options)
    local, overall = (
        [f(one) for one in found] for f in (lambda h: h.best.local_significance, lambda h: h.global_significance)
    )
    return {
        "rank_correlation": {"mean": float(correlation.mean()), "min": float(correlation.min())},
        "rank_spread": float(ranks.std(axis=0).mean()),
        "overlap": {
            tail: {f"{p:g}": _overlap(signed, p, pairs) for p in percentiles}
            for tail, signed in _by_tail(scores, tails).items()
        },
        "local": local, "local_mean": float(np.mean(local)), "local_std": float(np.std(local)),
        "global": overall, "global_mean": float(np.mean(overall)), "global_std": float(np.std(overall)),
        "intervals": [one.best.interval for one in found],
        "together": {"local": mean.best.local_significance, "global": mean.global_significance},
    }  # fmt: skip


def _overlap(scores: np.ndarray, percentile: float, pairs) -> float:
    chosen = scores > np.percentile(scores, percentile, axis=1, keepdims=True)
    shares = [(chosen[i] & chosen[j]).sum() / max(1, (chosen[i] | chosen[j]).sum()) for i, j in zip(*pairs)]
    return float(np.mean(shares))


def supervised(
    events: Events, columns: Sequence[str] = ("*",), *, folds: int = 5, seed: int = 0
) -> tuple[np.ndarray, dict[str, object]]:
    """Train boosted trees on the labels, cross-validated: what could be had if one knew the signal. USES LABELS.

    scikit-learn's HistGradientBoostingClassifier, background against all signals, the yardstick of GAN-AE's figures.
    The default columns are all but the spectrum itself and the masses of several jets, which say where a signal is.

    Args:
        events: with labels. columns: features, names or patterns; whatever is named is taken, masses too.
        folds: of the cross-validation; every event is scored by trees that have not seen it.

    Returns:
        Scores (N,), logits, and `auc` by label of all events, `auc_folds` (each fold's), `columns`, `folds`,
        `uses_labels`: True.

    Raises:
        InputError: without labels, or with fewer background or signal events than folds; for an unknown column.

    Example:
        >>> import pipelines
        >>> test = pipelines.open("lhco_sim_test").sample(1000)
        >>> scores, found = supervised(test, ["mass_*", "tau21_*"], folds=3)
        >>> found["auc"]["1"] > 0.8, found["uses_labels"]
        (True, True)
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    if not events.has_labels:
        raise InputError(f"{events.name}: no labels, and a supervised yardstick is made of them")
    label = events.label
    least = min(np.count_nonzero(label == 0), np.count_nonzero(label > 0))
    if not 2 <= folds <= least:
        raise InputError(f"{events.name}: {folds} folds, expected 2 to {least}, the events of background or of signal")
    names = match_columns(columns, events.columns)
    if tuple(columns) == ("*",):
        names = [name for name in names if name != events.about.mass_column and not MULTI_JET.fullmatch(name)]
    features, scores = events.read("features", names), np.empty(len(label))
    by_fold = []
    threads = 1 if len(events) < THREADED else cores()  # of few events, threads would wait for each other only
    with threadpool_limits(threads, user_api="openmp"):
        for seen, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, label):
            trees = HistGradientBoostingClassifier(random_state=seed).fit(features[seen], label[seen] > 0)
            scores[held_out] = trees.decision_function(features[held_out])
            by_fold.append(_auc_by_label(scores[held_out], label[held_out]))
    found = {"auc": _auc_by_label(scores, label), "auc_folds": by_fold, "columns": names, "folds": folds}
    return scores, found | {"uses_labels": True}


def _auc_by_label(scores: np.ndarray, label: np.ndarray) -> dict[str, float]:
    return {str(k): metrics.auc(scores[label == 0], scores[label == k]) for k in np.unique(label[label > 0])}
