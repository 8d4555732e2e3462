"""Columns that are computed from stored ones while events are read: the jets of a pair, told apart by mass.

`mass_heavy` is the mass of the heavier of the first two jets, and `tau21_light` tau21 of the lighter, whatever the
order of the jets. So it is for every variable that a file has as `..._1` and `..._2`. `mass_difference` is the mass of
the heavier less that of the lighter. Ask for them by name or pattern like for any column; "*" does not mean them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIDES = ("heavy", "light")
DIFFERENCE = "mass_difference"


def derivable(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all columns that can be computed from these.

    >>> derivable(["mass_1", "pt_1", "mass_2", "pt_2", "tau21_1"])
    ('mass_heavy', 'pt_heavy', 'mass_light', 'pt_light', 'mass_difference')
    """
    stored = set(columns)
    if not {"mass_1", "mass_2"} <= stored:
        return ()
    variables = [c.removesuffix("_1") for c in columns if c.endswith("_1") and f"{c[:-2]}_2" in stored]
    names = (*(f"{variable}_{side}" for side in SIDES for variable in variables), DIFFERENCE)
    return tuple(name for name in names if name not in stored)


def sources(column: str) -> tuple[str, ...]:
    """Return the stored columns that a derived one is computed from.

    >>> sources("tau21_light")
    ('tau21_1', 'tau21_2', 'mass_1', 'mass_2')
    """
    variable = column.rpartition("_")[0]
    # of the difference of masses, too: these four are `mass_1`, `mass_2` twice
    return f"{variable}_1", f"{variable}_2", "mass_1", "mass_2"


def derive(column: str, values: np.ndarray) -> np.ndarray:
    """Return a derived column (n,) from its `sources` (n, 4); of two equal masses the first jet's is the heavier.

    >>> derive("pt_heavy", np.array([[500.0, 400.0, 80.0, 90.0]])).tolist()
    [400.0]
    >>> derive("mass_difference", np.array([[80.0, 90.0, 80.0, 90.0]])).tolist()
    [10.0]
    """
    first, second, mass_1, mass_2 = values.T
    if column == DIFFERENCE:
        return np.abs(mass_1 - mass_2)
    swapped = mass_2 > mass_1
    return np.where(swapped if column.endswith("_heavy") else ~swapped, second, first)


class Reading:
    """How the columns asked for come from those stored: which to read, and what to make of them.

    Args:
        columns: what is asked for, stored or `derivable`.
        stored: what there is.
    """

    def __init__(self, columns: Sequence[str], stored: Sequence[str]):
        place, possible = {name: i for i, name in enumerate(stored)}, set(derivable(stored))
        self.missing = [c for c in columns if c not in place and c not in possible]
        if self.missing:
            return
        needed = dict.fromkeys(s for c in columns for s in ((c,) if c in place else sources(c)))
        self.names = tuple(needed)  # read
        self.take = [place[name] for name in needed]
        self._plain = self.names == tuple(columns)
        self._columns = tuple(columns)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return (n, len(columns)) of the values read, (n, len(names))."""
        if self._plain:
            return values
        at = {name: i for i, name in enumerate(self.names)}
        parts = [
            values[:, at[c]] if c in at else derive(c, values[:, [at[s] for s in sources(c)]]) for c in self._columns
        ]
        return np.stack(parts, axis=1)
