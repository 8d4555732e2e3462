"""What networks are made of: dense layers, random numbers, input scaling, graphs, latent spaces, flows."""

from zoo.layers.dense import MLP, Dense, MirroredMLP, glorot_uniform, leaky_relu, plus, product, selu
from zoo.layers.random import Dropout, dropout, normal

__all__ = [
    "MLP", "Dense", "Dropout", "MirroredMLP", "dropout", "glorot_uniform", "leaky_relu", "normal", "plus", "product", "selu",
]  # fmt: skip
