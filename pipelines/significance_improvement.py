"""What a cut on a score does for S/sqrt(B), against the share of background that passes: SIC curves with their floor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipelines.errors import InputError

GRID = tuple(float(x) for x in np.logspace(-5, 0, 101).round(8))  # shares of background at which curves are told
FLOORS = (25, 100)  # background events that have to pass


def sic(background: ArrayLike, signal: ArrayLike) -> dict[str, Any]:
    """Return the significance improvement, SIC = eps_S / sqrt(eps_B), of cuts on a score.

    At a share eps_B the cut is the score of which floor(eps_B N) background events are above; with ties fewer pass. A share that
    lets no event pass, since it is less than one event or ties are above the cut, has no number: None.

    Args:
        background, signal: scores (Nb,) and (Ns,), higher is more anomalous.

    Returns:
        `curve`, at the shares of `GRID`; `at`, at shares of 1e-2 and 1e-3; `largest`, by the least number of background events
        that pass, 25 and 100: the largest over all cuts, None with fewer background events. `background`, `signal`: how many.

    Raises:
        InputError: without events of both, and for scores that are not finite.

    Example:
        >>> found = sic(np.arange(1000.0), [985.0, 995.0])
        >>> found["at"], round(found["largest"]["25"], 2)
        ({'0.01': 5.0, '0.001': 0.0}, 6.32)
    """
    b, s = (np.sort(np.asarray(scores, np.float64)) for scores in (background, signal))
    if not len(b) or not len(s) or not np.isfinite(b).all() or not np.isfinite(s).all():
        raise InputError(f"scores of {len(b)} background and {len(s)} signal events, expected some of each, all finite")
    cuts = np.r_[-np.inf, np.unique(b)]  # the first selects all
    passed = len(b) - np.searchsorted(b, cuts, side="right")  # beyond each cut
    efficiency = (len(s) - np.searchsorted(s, cuts, side="right")) / len(s)
    gain = efficiency / np.sqrt(np.maximum(passed, 1) / len(b))
    largest = {str(least): float(gain[passed >= least].max()) if (passed >= least).any() else None for least in FLOORS}

    def at(share: float) -> float | None:
        allowed = int(np.floor(share * len(b) + 1e-9))
        if allowed < 1:
            return None
        cut = b[len(b) - allowed - 1] if allowed < len(b) else -np.inf
        share_passed = np.count_nonzero(b > cut) / len(b)
        eps_s = np.count_nonzero(s > cut) / len(s)
        return float(eps_s / np.sqrt(share_passed)) if share_passed > 0 else None

    return {
        "curve": [at(share) for share in GRID], "at": {f"{share:g}": at(share) for share in (1e-2, 1e-3)},
        "largest": largest, "background": len(b), "signal": len(s),
    }  # fmt: skip
