"""Losses and distances that models share: of features, of sets of particles, and of a score from the mass."""

from zoo.losses.chamfer import chamfer
from zoo.losses.disco import (
    distance_correlation,
    distance_covariance,
    distance_variance,
    preceding_distance,
    prefix_sum,
)
from zoo.losses.reconstruction import mean_squared_error, rms_distance

__all__ = [
    "chamfer",
    "distance_correlation",
    "distance_covariance",
    "distance_variance",
    "mean_squared_error",
    "preceding_distance",
    "prefix_sum",
    "rms_distance",
]
