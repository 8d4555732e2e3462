"""What a Dark Machines event has: slots of objects, features made of them, channels; see `pipelines.datasets.darkmachines`."""

from __future__ import annotations

import numpy as np

from pipelines.datasets.darkmachines_lines import TYPES
from pipelines.errors import InputError

SLOTS = (15, 4, 4, 4, 4, 4, 4)
TRUNCATED_SLOTS = (4, 3, 3, 3, 3, 3, 3)
OBJECT_COLUMNS = ("E", "pt", "eta", "phi", "type")
OBJECT_UNITS = ("GeV", "GeV", "", "rad", "")
JETS, LEPTONS, PHOTONS = (1, 2), (3, 4, 5, 6), (7,)
LEADING = {"j": ((1,), 4), "b": ((2,), 2), "l": (LEPTONS, 3), "g": (PHOTONS, 1)}  # types, how many
_MOMENTUM = {"E": "GeV", "pt": "GeV", "eta": "", "dphi": "rad"}
_UNITS = {
    "MET": "GeV",
    "METphi": "rad",
    "HT": "GeV",
    "meff": "GeV",
    **{f"n_{name.replace('m', 'mu')}": "" for name in TYPES},
    "m_jj": "GeV",
    **{
        f"{quantity}_{name}{place}": unit
        for name, (_, most) in LEADING.items()
        for place in range(1, most + 1)
        for quantity, unit in _MOMENTUM.items()
    },
}
COLUMNS, UNITS = tuple(_UNITS), tuple(_UNITS.values())


def select_channel(channel: str, objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    """Tell which events are in a channel of the challenge (arXiv 2105.14027, section 2.1, equations 2.2 to 2.5).

    - 1: HT >= 600 GeV, MET >= 200 GeV, MET/HT >= 0.2; at least four jets or b jets with pt > 50 GeV, one of them with
      pt > 200 GeV.
    - 2a: MET >= 50 GeV; at least three electrons or muons with pt > 15 GeV.
    - 2b: MET >= 50 GeV, HT >= 50 GeV; at least two electrons or muons with pt > 15 GeV.
    - 3: HT >= 600 GeV, MET > 100 GeV.

    Jawahar et al. quote these without the jets of channel 1 and with MET >= 100 GeV in channel 3; the published files of
    both papers are the same.

    Args:
        channel: "1", "2a", "2b" or "3".
        objects: (N, 39, 5), as in an events file that is not truncated.
        met, ht: (N,), GeV.

    Returns:
        (N,) bool.

    Raises:
        InputError: there is no such channel, or the objects are of another shape.

    >>> select_channel("3", np.zeros((2, 39, 5)), met=np.array([100.0, 150.0]), ht=np.array([700.0, 700.0]))
    array([False,  True])
    """
    if channel not in CHANNELS:
        raise InputError(f"channel {channel!r}, expected one of {', '.join(CHANNELS)}")
    if objects.shape[1:] != (sum(SLOTS), len(OBJECT_COLUMNS)):
        raise InputError(
            f"objects of shape {objects.shape}, expected (N, {sum(SLOTS)}, {len(OBJECT_COLUMNS)}): "
            f"which channel an event is in cannot be told from truncated ones"
        )
    return CHANNELS[channel](objects, met, ht)


def _channel_1(objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    jets = _of_types(objects, JETS)
    with np.errstate(divide="ignore", invalid="ignore"):  # no jets, and then not in the channel
        energetic = (ht >= 600) & (met >= 200) & (met / ht >= 0.2)
    return energetic & (_above(jets, 50) >= 4) & (_above(jets, 200) >= 1)


def _channel_2a(objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    return (met >= 50) & (_above(_of_types(objects, LEPTONS), 15) >= 3)


def _channel_2b(objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    return (met >= 50) & (ht >= 50) & (_above(_of_types(objects, LEPTONS), 15) >= 2)


def _channel_3(objects: np.ndarray, met: np.ndarray, ht: np.ndarray) -> np.ndarray:
    return (ht >= 600) & (met > 100)


CHANNELS = {"1": _channel_1, "2a": _channel_2a, "2b": _channel_2b, "3": _channel_3}


def _above(objects: np.ndarray, pt: float) -> np.ndarray:
    return (objects[..., 1] > pt).sum(axis=1)


def _of_types(objects: np.ndarray, types: tuple[int, ...]) -> np.ndarray:
    """Return the slots (N, P', 5) of some neighbouring types, of objects (N, 39, 5)."""
    last = np.cumsum(SLOTS)
    return objects[:, last[types[0] - 1] - SLOTS[types[0] - 1] : last[types[-1] - 1]]


def _leading(objects: np.ndarray, types: tuple[int, ...], most: int) -> np.ndarray:
    """Return the `most` objects (N, most, 5) of highest pt of some types, equal pt in the order of the slots."""
    candidates = np.concatenate([_of_types(objects, (kind,))[:, :most] for kind in types], axis=1)
    if len(types) > 1:
        order = np.argsort(-candidates[..., 1], axis=1, kind="stable")[:, :most]
        candidates = candidates[np.arange(len(objects))[:, None], order]
    return candidates


def _dijet_mass(objects: np.ndarray) -> np.ndarray:
    """Return m_jj (N,): m^2 = (E1 + E2)^2 - |p1 + p2|^2 of the two leading jets or b jets, 0 if there is only one."""
    jets = _leading(objects, JETS, 2)
    energy, pt, eta, phi, _ = np.moveaxis(jets, -1, 0)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)]).sum(axis=-1)
    square = energy.sum(axis=-1) ** 2 - (momentum**2).sum(axis=0)
    return np.where((pt > 0).all(axis=1), np.sqrt(np.maximum(square, 0)), 0)


def features_of(
    objects: np.ndarray, found: np.ndarray, met: np.ndarray, met_phi: np.ndarray, ht: np.ndarray
) -> np.ndarray:
    """Return `COLUMNS` (N, 52) of objects (N, 39, 5), how many of each type there are (N, 7), and MET, METphi, HT."""
    parts = [met, met_phi, ht, ht + met, *found.T, _dijet_mass(objects)]
    for types, most in LEADING.values():
        for leading in np.moveaxis(_leading(objects, types, most), 1, 0):
            energy, pt, eta, phi, kind = leading.T
            dphi = (phi - met_phi + np.pi) % (2 * np.pi) - np.pi
            parts += [energy, pt, eta, np.where(kind > 0, dphi, 0)]
    return np.stack(parts, axis=1)


def truncate(objects: np.ndarray) -> np.ndarray:
    first = np.cumsum(SLOTS) - SLOTS
    return objects[:, np.concatenate([start + np.arange(kept) for start, kept in zip(first, TRUNCATED_SLOTS)])]


def truncated_places(slots: int) -> tuple[int, ...]:
    """Return which of so many slots the truncated list has: the four leading jets, three of each other type.

    Raises `InputError` if these are not the slots of Dark Machines events.

    >>> truncated_places(39)[:7]
    (0, 1, 2, 3, 15, 16, 17)
    """
    if slots == sum(TRUNCATED_SLOTS):
        return tuple(range(slots))
    if slots != sum(SLOTS):
        raise InputError(
            f"truncated=True: objects have {slots} slots, expected the {sum(SLOTS)} of Dark Machines events"
        )
    first = np.cumsum(SLOTS) - SLOTS
    return tuple(int(start) + i for start, kept in zip(first, TRUNCATED_SLOTS) for i in range(kept))


def check_countable(slots: int) -> None:
    """Raise `InputError` if so many slots are those of a truncated list, in which not all objects can be counted."""
    if slots == sum(TRUNCATED_SLOTS):
        raise InputError(
            f"multiplicities=True: objects have {slots} slots, a list that has been cut, of which no more than "
            f"{max(TRUNCATED_SLOTS)} of a type can be counted; expected the {sum(SLOTS)} of Dark Machines events: convert "
            f"without `truncated`, and let the model cut the list by truncated=True"
        )
