"""Trees of ROOT files (TTree), a row an entry: branches of one number, and elements of lists by their index.

A branch of lists, as `Jet_pt` of CMS NanoAOD, has the columns `Jet_pt[0]`, `Jet_pt[1]` and so on. They are read if they
are asked for by name, or together as `Jet_*[0]`. An entry whose list is too short has NaN there, or what `fill` says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipelines.datasets.tables.base import Columns, Table, check_column_count
from pipelines.errors import InputError
from pipelines.events.column_kinds import matching
from pipelines.events.files import reason_of
from pipelines.events.layout import some_of

MAGIC = b"root"
ELEMENT = re.compile(r"(.+)\[(\d{1,4})\]")
MOST_ENTRIES = 2**40
MOST_RATIO = 5000  # entries for each byte of the file: what compresses better claims more than it holds


@dataclasses.dataclass(frozen=True)
class RootTable(Table):
    """A TTree. Its columns are the branches of one number an entry, and the elements of lists that are asked for."""

    tree: str = ""
    lists: tuple[str, ...] = ()
    fill: float | None = None
    layout: ClassVar[str] = "ROOT tree"

    @property
    def block(self) -> int:
        """The entries of a piece, a fixed number: only the branches that are asked for are read."""
        return 2**16

    def expand(self, patterns: Sequence[str]) -> list[str]:
        """Return patterns, and for those of elements of lists, as `Jet_*[0]`, the names of the elements."""
        names: list[str] = []
        for pattern in patterns:
            found = ELEMENT.fullmatch(pattern)
            branches = matching(found[1], self.lists) if found and pattern not in self.columns else []
            names += [f"{branch}[{found[2]}]" for branch in branches] if found and branches else [pattern]
        return names

    def lists_of(self, pattern: str) -> list[str]:
        return matching(pattern, self.lists)

    def with_elements(self, names: Sequence[str]) -> RootTable:
        """Return the table with those of these names as further columns that are elements of its lists."""
        found = {name: ELEMENT.fullmatch(name) for name in names if name not in self.columns}
        more = [name for name, match in found.items() if match and match[1] in self.lists]
        types = {**self.types, **dict.fromkeys(more, "element of a list")}
        return dataclasses.replace(
            self, columns=(*self.columns, *dict.fromkeys(more)), types=types, numbers=self.numbers | set(more)
        )

    def _rows(self, start: int, stop: int, names: Sequence[str]) -> Columns:
        wanted = {name: self._branch(name) for name in names}
        with root_file(self.path) as file:
            tree = file[self.tree]
            branches = list(dict.fromkeys(branch for branch, _ in wanted.values()))
            # Each by itself: `tree.arrays` would take names for expressions, which a file may define.
            arrays = {name: tree[name].array(entry_start=start, entry_stop=stop, array_cache=None) for name in branches}
            values = {name: self._values(arrays[branch], at) for name, (branch, at) in wanted.items()}
        gc.collect()  # a tree refers to itself: those of earlier pieces would pile up
        for name, found in values.items():
            if found.shape != (stop - start,):
                raise ValueError(f"branch {name} has shape {found.shape}")
        return values

    def _branch(self, name: str) -> tuple[str, int | None]:
        found = ELEMENT.fullmatch(name)
        return (found[1], int(found[2])) if found and found[1] in self.lists else (name, None)

    def _values(self, array: Any, at: int | None) -> np.ndarray:
        import awkward as ak

        if at is None:
            return np.asarray(ak.to_numpy(array))
        missing = np.nan if self.fill is None else self.fill
        padded = ak.pad_none(array, at + 1, axis=1)[:, at]
        return np.asarray(ak.to_numpy(ak.fill_none(ak.values_astype(padded, np.float64), missing)))


@contextlib.contextmanager
def root_file(path: Path) -> Iterator[Any]:
    """Open a ROOT file; raises `InputError` if it is truncated, or if anything in the block fails for its content."""
    check_root(path)
    import uproot

    try:
        with uproot.open(path, array_cache=None, object_cache=None) as file:
            yield file
    except (InputError, GeneratorExit):
        raise
    except MemoryError:
        raise InputError(f"{path}: claims more than there is memory; damaged") from None
    except Exception as error:  # there is no class of errors for damaged files: the parser fails where it happens to
        raise InputError(f"{path}: cannot be read as ROOT ({reason_of(error)}); is it whole?") from None


def check_root(path: Path, expected: str = "a ROOT file") -> None:
    """Raise `InputError` unless a file starts as a ROOT file and is as long as its header says."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror})") from None
    if head[:4] != MAGIC:
        raise InputError(f"{path}: not a ROOT file, it starts with {head[:8]!r}; expected {expected}")
    wide = int.from_bytes(head[4:8], "big") >= 1_000_000  # of ROOT's format: then lengths have 8 bytes
    length = int.from_bytes(head[12 : 20 if wide else 16], "big")
    size = os.path.getsize(path)
    if len(head) < 20 or size < length:
        raise InputError(f"{path}: truncated, {size} bytes of {length}; fetch it again")


def trees_of(path: Path) -> dict[str, int]:
    """Return the trees of a file, also those in folders, and their entries."""
    with root_file(path) as file:
        return _trees(file)


def _trees(file: Any) -> dict[str, int]:
    kinds = file.classnames(recursive=True, cycle=False)
    return {name: int(file[name].num_entries) for name, kind in kinds.items() if kind == "TTree"}


def open_root(path: Path, tree: str | None = None, fill: float | None = None) -> RootTable:
    """Look at the branches of a tree; raises `InputError` if the file has several and none is named."""
    with root_file(path) as file:
        there = _trees(file)
        if not there:
            kinds = some_of(sorted(set(file.classnames(cycle=False).values())), 10) or "nothing"
            raise InputError(
                f"{path}: no tree (TTree) in it, found {kinds}; write a TTree, as by uproot's mktree, or Parquet"
            )
        if tree is None and len(there) > 1:
            listed = some_of([f"{name} ({count})" for name, count in there.items()], 20)
            raise InputError(f"{path}: has several trees; name one as tree, of {listed} entries")
        chosen = next(iter(there)) if tree is None else tree
        if chosen not in there:
            raise InputError(f"{path}: no tree {chosen!r}; it has {some_of(list(there), 20)}")
        entries = there[chosen]
        if not 0 <= entries <= min(MOST_ENTRIES, MOST_RATIO * os.path.getsize(path)):
            raise InputError(f"{path}: tree {chosen!r} claims {entries} entries, more than the file can hold; damaged")
        check_column_count(len(file[chosen].keys(recursive=True)), path)
        single, lists, unread = _branches(file[chosen])
    return RootTable(
        path,
        tuple(single),
        {**single, **lists},
        frozenset(single),
        rows=entries,
        unused=unread,
        tree=chosen,
        lists=tuple(lists),
        fill=fill,
    )


def _branches(tree: Any) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Return the branches of one number an entry and those of lists of numbers, with their types; and the others."""
    import uproot

    single: dict[str, str] = {}
    lists: dict[str, str] = {}
    others: list[str] = []
    for name, branch in tree.iteritems(recursive=True):
        if branch.branches:
            continue
        form = branch.interpretation
        jagged = isinstance(form, uproot.AsJagged)
        content = form.content if jagged else form
        number = isinstance(content, uproot.AsDtype) and content.to_dtype.kind in "fiub"
        axes = len(content.to_dtype.shape) + jagged if number else 2
        if axes > 1:
            others.append(name)
        else:
            (lists if axes else single)[name] = str(branch.typename)
    return single, lists, tuple(others)
