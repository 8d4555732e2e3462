"""LaCATHODE: CATHODE's classifier in the latent space of its flow, where background is the same at all masses.

A. Hallin et al., "Resonant anomaly detection without background sculpting", Phys. Rev. D 107 (2023) 114012
(arXiv:2210.14924), called the paper here.
"""

from __future__ import annotations

from zoo.layers.random import normal
from zoo.models.cathode import CATHODE
from zoo.models.sideband_density import SAMPLES
from zoo.registry import register


@register("lacathode")
class LaCATHODE(CATHODE):
    """CATHODE in the latent space of its flow: background does not shape the spectrum (Hallin et al. 2022).

    The flow f of `cathode` is learnt in the side bands. The classifier compares z = f(v; m) of the events in the window with
    z from N(0, 1), which is what background is made of at every mass, in the window and beside it. So a cut on the score
    selects the same share of background at all masses, as far as the flow is right.

    **The score takes the mass**, which z depends on: `score` takes events, or a dict with `features` and `mass`, and the
    exported SavedModel takes both. Hyperparameters, phases and scores are those of `cathode`.

    Raises `InputError` as `cathode` does, and in `score` for arrays without masses.

    Example:
        >>> import zoo
        >>> zoo.get("lacathode", window=(3300, 3700)).scores_by_mass
        True
    """

    scores_by_mass = True
    Hyperparameters = CATHODE.Hyperparameters
    hp: CATHODE.Hyperparameters

    def observed(self, features, mass):
        """Return z = f(v; m), (B, F) or (K, B, F)."""
        return self.latent(self.flow, self.scaled(features), mass)[0]

    def compared_with(self, size, seed):
        """Return z from N(0, 1)."""
        return normal((size, len(self.resolved_columns)), seed, SAMPLES + 1)
