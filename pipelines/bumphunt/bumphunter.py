"""pyBumpHunter on one histogram at a time: its scan, and its injection of signals."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

import numpy as np
from scipy.stats import norm

from pipelines.bumphunt.bump_scan import WIDTHS
from pipelines.errors import InputError

log = logging.getLogger(__name__)


def by_pybumphunter(
    observed: np.ndarray,
    reference: np.ndarray,
    *,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    deficit: bool = False,
) -> tuple[float, int, int]:
    """Scan one histogram (B,) with pyBumpHunter: smallest local p-value, first bin and width of its window.

    Arguments as for `bump_scan`. What pyBumpHunter prints goes to logging; NumPy's global random state stays as it was.

    >>> p_value, start, width = by_pybumphunter(np.array([10, 10, 40, 10, 10]), np.full(5, 10.0), widths=(1, 2))
    >>> print(start, width, f"{p_value:.1e}")
    2 1 7.3e-13
    """
    with _undisturbed():
        from pyBumpHunter import BumpHunter1D

        hunter = BumpHunter1D(
            mode="deficit" if deficit else "excess",
            width_min=widths[0],
            width_max=widths[1],
            nworker=1,
            use_sideband=True,
            sideband_width=side_band,
        )
        hunter.bump_scan(observed, reference, is_hist=True, do_pseudo=False)
    return float(hunter.min_Pval_ar[0]), int(hunter.min_loc_ar[0]), int(hunter.min_width_ar[0])


def inject_by_pybumphunter(
    signal: np.ndarray,
    background: np.ndarray,
    *,
    target: float,
    step: float,
    widths: tuple[int, int] = WIDTHS,
    side_band: int = 0,
    pseudo_experiments: int = 1000,
    repeats: int = 100,
    seed: int = 0,
) -> list[dict[str, object]]:
    """Add ever more signal to a background with pyBumpHunter's `signal_inject`, up to a global significance.

    Data are Poisson numbers around background plus signal, and pseudo-experiments Poisson numbers around the background;
    the global p-value of a step is the share of these whose test statistic is beyond the median of the data's.

    Args:
        signal: (B,), its share in every bin, of 1 in all. background: (B,) events expected.
        target: global significance in standard deviations, at which it ends; and it ends where the data are beyond all
            but one of the `pseudo_experiments`. step: events that each step adds. repeats: data sets of a step.
        widths, side_band: as for `bump_scan`.

    Returns:
        For every step `events`, and `local` and `global` significance as [16 %, median, 84 %]. NumPy's global random state
        stays as it was, and what pyBumpHunter prints goes to logging.

    Raises:
        InputError: if there is no signal within the bins, or if as much signal as background is not enough.

    Example:
        >>> rows = inject_by_pybumphunter(np.eye(12)[5], np.full(12, 100.0), target=2, step=10, widths=(1, 3), pseudo_experiments=200)
        >>> rows[-1]["global"][1] > 2, rows[-1]["events"] < 60
        (True, True)
    """
    if not (signal.sum() > 0 and step > 0):
        raise InputError(f"signal of {signal.sum():g} within the spectrum, step {step:g}: expected both above 0")
    most = background.sum() / step
    kept: list[np.ndarray] = []

    def keep(hunter: object, statistic: np.ndarray) -> None:
        if len(kept) > most:  # it would go on for ever
            raise InputError(
                f"{background.sum():.0f} events of signal, as many as of background, do not reach {target:g} sigma"
            )
        kept.append(statistic)

    with _undisturbed():
        from pyBumpHunter import BumpHunter1D

        class Watched(BumpHunter1D):  # type: ignore[misc]  # by itself it keeps the test statistics of its last step only
            t_ar = property(lambda self: kept[-1], keep)

        hunter = Watched(
            width_min=widths[0], width_max=widths[1], use_sideband=True, sideband_width=side_band, nworker=1, seed=seed,
            npe=pseudo_experiments, npe_inject=repeats, sigma_limit=target, str_min=step, str_step=step, signal_exp=signal.sum(),
        )  # fmt: skip
        hunter.signal_inject(signal, background, is_hist=True)
    statistics = kept[-1 - len(hunter.sigma_ar) : -1]  # the last are those of the background, joined
    return [
        {
            "events": float((i + 1) * step),
            "local": np.maximum(0, norm.isf(np.exp(-np.quantile(statistic, [0.16, 0.5, 0.84])))).tolist(),
            "global": np.maximum(0, [z - below, z, z + above]).tolist(),
        }
        for i, (statistic, (z, below, above)) in enumerate(zip(statistics, hunter.sigma_ar))
    ]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Restore NumPy's global random state, which pyBumpHunter seeds anew; log what it prints; let it divide by 0."""
    state, printed = np.random.get_state(legacy=False), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), np.errstate(divide="ignore", invalid="ignore"):
            yield
    finally:
        np.random.set_state(state)
        for line in filter(None, printed.getvalue().splitlines()):
            log.debug("pyBumpHunter: %s", line)
