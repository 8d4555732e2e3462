"""The Data Directed Paradigm: the model, its network, what it sees of a spectrum, its generator, its scans."""

from zoo.models.ddp import model  # noqa: F401  (registers it)
