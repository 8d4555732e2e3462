"""What is taken from tables: which columns are the features, the mass, the weight and the truth, and in which units."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TypedDict

from pipelines.datasets.tables import RootTable, Table
from pipelines.errors import InputError
from pipelines.events.column_kinds import BOOKKEEPING, TRUTH, WEIGHT, kind_of_column, matching
from pipelines.events.layout import check_names, match_columns, no_column

GEV = {"keV": 1e6, "MeV": 1e3, "GeV": 1.0, "TeV": 1e-3}  # of these make one GeV
ENERGY = re.compile(r"(pt|e|m|mass|energy|met|ht|mjj|mj1j2|mj1j2j3)(_?j?\d+|_.*)?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is taken from each table, and how."""

    features: tuple[str, ...]
    mass: str
    label: str | None
    weight: str | None
    mass_range: tuple[float, float] | None
    divisors: Mapping[str, float]  # of columns that are in no GeV
    suspects: tuple[str, ...]  # columns in GeV by their name alone
    skip: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All columns to read."""
        others = (self.mass, self.label, self.weight)
        return tuple(dict.fromkeys([*self.features, *(name for name in others if name is not None)]))

    def columns(self, table: Table) -> dict[str, tuple[str, ...]]:
        """Return which columns are what, and which are left out, with why if it is for their name."""
        there = (*table.columns, *table.extra)
        left = [name for name in there if name not in self.names]
        why = {TRUTH: "truth", WEIGHT: "a weight", BOOKKEEPING: "bookkeeping"}
        kinds = {name: kind_of_column(name) for name in left}
        return {
            "features": self.features,
            "mass": (self.mass,),
            "weight": (self.weight,) if self.weight else (),
            "truth": (self.label,) if self.label else (),
            "left out": (
                *(f"{name} ({why[kind]} by its name)" for name, kind in kinds.items() if kind),
                *(name for name, kind in kinds.items() if not kind),
                *(f"{name} (no column)" for name in table.unused),
            ),
        }


class Asked(TypedDict):
    """What the user names."""

    mass: str
    features: list[str]
    label: str | None
    weight: str | None


class _Roles(TypedDict):
    features: tuple[str, ...]
    label: str | None
    weight: str | None


def choose(
    tables: Sequence[Table],
    asked: Asked,
    units: Mapping[str, str],
    mass_range: tuple[float, float] | None,
    skip: bool,
) -> tuple[Choice, dict[str, str]]:
    """Resolve names and patterns, which must be alike for all tables; return the choice, and units by column."""
    chosen = [_resolve(table, asked) for table in tables]
    first = chosen[0]
    for table, found in zip(tables[1:], chosen[1:]):
        differ = sorted(set(first["features"]) ^ set(found["features"]))
        differ += [what for what in ("label", "weight") if first[what] != found[what]]
        if differ:
            raise InputError(
                f"{table.path}: its columns are not those of {tables[0].path}: {_some(differ)} only in one; "
                f"name columns that all have"
            )
    names = tuple(dict.fromkeys([*first["features"], asked["mass"]]))
    given = _units(tables, names, units)
    suspects = tuple(n for n in names if n not in given and (n == asked["mass"] or ENERGY.fullmatch(n)))
    divisors = {name: GEV[unit] for name, unit in given.items() if GEV.get(unit, 1.0) != 1.0}
    span = None if mass_range is None else (float(mass_range[0]), float(mass_range[1]))
    return Choice(**first, mass=asked["mass"], mass_range=span, divisors=divisors, suspects=suspects, skip=skip), given


def with_elements(tables: Sequence[Table], asked: Asked) -> tuple[list[Table], Asked]:
    """Return tables that have the elements of lists that are asked for as columns, and what is asked for by their names.

    `Jet_*[0]` of a ROOT tree becomes `Jet_pt[0]`, `Jet_eta[0]` and so on.
    """
    features = tables[0].expand(asked["features"])
    names = [name for name in (*features, asked["mass"], asked["label"], asked["weight"]) if name is not None]
    found = [table.with_elements(names) if isinstance(table, RootTable) else table for table in tables]
    return found, Asked(mass=asked["mass"], features=features, label=asked["label"], weight=asked["weight"])


def _resolve(table: Table, asked: Asked) -> _Roles:
    there = (*table.columns, *table.extra)
    for what, name in (("mass", asked["mass"]), ("label", asked["label"]), ("weight", asked["weight"])):
        if name is not None and name not in there:
            raise InputError(f"{table.path}: no column {name!r} for the {what}{_near(name, there, table)}")
    label = asked["label"] or _by_name("label", table, asked["mass"])
    weight = asked["weight"] or _by_name("weight", table, asked["mass"])
    truth = [name for name in (label, weight) if name is not None]
    if len({asked["mass"], *truth}) != 1 + len(truth):
        raise InputError(f"{table.path}: mass, label and weight are one column; name three different ones")
    features = _features(table, asked["features"], truth, asked["mass"])
    check_names(features, table.path)
    for name in (*features, asked["mass"], *truth):
        if name not in table.numbers:
            raise InputError(
                f"{table.path}: column {name!r} is of type {table.types[name]}, expected numbers; choose other features"
            )
    return {"features": features, "label": label, "weight": weight}


def _by_name(what: str, table: Table, mass: str) -> str | None:
    """Return the column that is named `label` or `weight`, in whatever case, if there is one, of numbers."""
    there = (*table.columns, *table.extra)
    if what in there:
        return what
    found = [name for name in there if name.lower() == what and name != mass]
    return found[0] if len(found) == 1 and table.is_number(found[0]) else None


def _features(table: Table, patterns: Sequence[str], truth: Sequence[str], mass: str) -> tuple[str, ...]:
    """Return the columns that patterns mean; never truth or weights, and the mass only if it is named."""
    hidden = {*truth} if mass in patterns else {*truth, mass}
    possible = [n for n in table.columns if n not in hidden and kind_of_column(n) not in (TRUTH, WEIGHT)]
    for pattern in patterns:
        name = pattern if pattern in table.columns else pattern.removeprefix("!")
        if name not in possible and not matching(name, possible):
            if pattern.startswith("!") and name in (*table.columns, *table.extra):
                continue  # taken away already
            reserved = name in truth or kind_of_column(name) in (TRUTH, WEIGHT)
            hint = "; it is truth or a weight by its name, never a feature; if it is one, rename it" if reserved else ""
            wrong = no_column([pattern]) + ("" if pattern[:1] == "!" else " for the features")
            raise InputError(f"{table.path}: {wrong}{hint or _near(name, possible, table)}")
    kept = [p for p in patterns if p in possible or matching(p.removeprefix("!"), possible)]
    if not kept:
        raise InputError("features: no pattern given, expected names or patterns such as 'tau*'")
    features = match_columns(kept, possible, str(table.path))
    if "" in features:
        raise InputError(
            f"{table.path}: column {table.columns.index('') + 1} has no name, as the index that pandas writes; "
            f"give it one, or choose features that leave it out"
        )
    return features


def _units(tables: Sequence[Table], names: Sequence[str], asked: Mapping[str, str]) -> dict[str, str]:
    """Return the units that are known of columns: those asked for, then those that the tables have."""
    units: dict[str, str] = {}
    for table in tables:
        own = {name: unit for name, unit in table.units.items() if unit and name in names}
        differ = sorted(name for name, unit in own.items() if units.get(name, unit) != unit and name not in asked)
        if differ:
            raise InputError(
                f"{table.path}: {_some(differ)} in another unit than in {tables[0].path}; convert it alone"
            )
        units |= own
    chosen: dict[str, str] = {}
    for pattern, unit in asked.items():
        found = matching(pattern, names)
        if not found:
            raise InputError(f"units: {pattern!r} matches no column that is taken{_near(pattern, names)}")
        twice = [name for name in found if chosen.get(name, unit) != unit]
        if twice:
            raise InputError(f"units: {_some(twice)} is both {chosen[twice[0]]} and {unit}; give one")
        chosen |= dict.fromkeys(found, unit)
    return units | chosen


def _near(name: str, there: Sequence[str], table: Table | None = None) -> str:
    if table is not None and (lists := table.lists_of(name)):
        return f"; it is a list in each entry: name one of its elements, as {f'{lists[0]}[0]'!r}"
    elements = [] if table is None else [f"{one}[0]" for one in table.lists_of("*")]
    known = [*there[:1000], *elements[:1000]]
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in known], n=3)
    meant = [n for n in known if n.lower() in near]
    return (f"; did you mean {_some(meant)}?" if meant else "") + f"; it has {_some(there, quoted=False)}"


def _some(names: Sequence[str], quoted: bool = True) -> str:
    shown = [repr(n) if quoted else n for n in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "no columns"
