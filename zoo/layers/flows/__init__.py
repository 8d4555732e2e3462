"""Normalizing flows for the latent space of a VAE: invertible maps z' = f(z) whose log-determinant is cheap.

A flow turns the Gaussian that the encoder gives, log q(z0), into a richer density (Rezende & Mohamed 2015, eq. 6),

    log q(zK) = log q(z0) - sum_k log |det df_k/dz|

Two kinds of classes are here. *Bijectors* (`Planar`, ..., subclasses of `tfp.bijectors.Bijector`) are functions of
tensors: whatever parameters they are given, short of overflow, the map is invertible. *Layers* (`PlanarFlows`, ...,
made by `make`) are stacks of bijectors. They own all weights as ordinary Keras weights: fixed ones, and those of the
dense layers that give parameters per event ("amortised"): TFP keeps variables where Keras does not look.

| name          | parameters                              | inverse                 | paper's setting (Jawahar et al. 2021)  |
|---------------|-----------------------------------------|-------------------------|----------------------------------------|
| planar        | amortised                               | not in closed form      | 6 flows                                |
| orthogonal    | amortised                               | not in closed form      | 6 flows, 8 vectors                     |
| householder   | amortised                               | not in closed form      | 6 flows, 8 vectors                     |
| triangular    | amortised                               | not in closed form      | 6 flows                                |
| iaf           | fixed, and a context from the encoder   | exact, one dim at a time| 4 flows, width 330                     |
| convolutional | fixed                                   | exact, one dim at a time| 4 flows, kernel 7, dilated             |

Shapes: batches have any number of leading axes; K members of a group have one in front of the batch's.
"""

from zoo.layers.flows.bijectors import (
    LEAK,
    MARGIN,
    ORTHONORMAL_TOLERANCE,
    Autoregressive,
    AutoregressiveSpline,
    Convolutional,
    Flow,
    HouseholderSylvester,
    InverseAutoregressive,
    OrthogonalSylvester,
    Planar,
    Sylvester,
    TriangularSylvester,
    made_masks,
)
from zoo.layers.flows.layers import (
    FLOWS,
    AmortisedFlows,
    AutoregressiveFlows,
    ConvolutionalFlows,
    FlowLayer,
    HouseholderFlows,
    OrthogonalFlows,
    PlanarFlows,
    SplineFlows,
    SylvesterFlows,
    TriangularFlows,
    make,
)
from zoo.layers.flows.orthonormal import BASES, gram_schmidt, polar

__all__ = [
    "BASES",
    "FLOWS",
    "LEAK",
    "MARGIN",
    "ORTHONORMAL_TOLERANCE",
    "AmortisedFlows",
    "Autoregressive",
    "AutoregressiveFlows",
    "AutoregressiveSpline",
    "Convolutional",
    "ConvolutionalFlows",
    "Flow",
    "FlowLayer",
    "HouseholderFlows",
    "HouseholderSylvester",
    "InverseAutoregressive",
    "OrthogonalFlows",
    "OrthogonalSylvester",
    "Planar",
    "PlanarFlows",
    "SplineFlows",
    "Sylvester",
    "SylvesterFlows",
    "TriangularFlows",
    "TriangularSylvester",
    "gram_schmidt",
    "made_masks",
    "make",
    "polar",
]
