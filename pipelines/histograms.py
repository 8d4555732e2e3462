"""Histograms to look for bumps in: thousands of any length and binning, from HDF5, ROOT, or Python.

An HDF5 file of spectra has

    counts  (N, B) or (B,)            events in every bin, whole numbers >= 0
    edges   (B + 1,) or (N, B + 1)    of all, or of each, rising
    bins    (N,), optional            how many of the B bins each has, where they are of several lengths
    names   (N,), optional            text

and in a ROOT file every TH1 counts, also those in folders. Under- and overflow are left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.arguments import argument
from pipelines.checksums import create, store
from pipelines.errors import InputError
from pipelines.events.column_kinds import matching
from pipelines.events.hdf5_files import reading_hdf5
from pipelines.events.layout import some_of
from pipelines.outputs import new_disk

MOST = 1e15  # events in a bin: all whole numbers below are exact in float64
LEAST_BINS = 10  # a background needs bins to the left and to the right of a bump
ROOT_MAGIC = b"root"
ADVICE = "; leave it out, or all bad ones by --skip-bad, in Python `skip`"
SLACK = 1e-6  # of a bin, by which an edge may lie outside a range: decimal numbers are not exact
CUTFLOW = re.compile(r"cut[\s_-]?flow", re.IGNORECASE)
CUTS_BEGIN = (-0.5, 0.0, 0.5, 1.0)  # first edges of histograms that are filled by the number of a cut

Skip = Callable[[str, str], None]  # called with the name of a bad histogram, and what is wrong with it


@dataclasses.dataclass(frozen=True)
class Histograms:
    """N histograms, padded to the longest.

    Attributes:
        counts: (N, B) events in every bin, whole numbers >= 0; 0 beyond a histogram's own bins.
        edges: (N, B + 1), rising, in one unit of mass; they go on rising beyond the own bins.
        bins: (N,) how many of the B bins each has.
        names: of each.
    """

    counts: np.ndarray
    edges: np.ndarray
    bins: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def mask(self) -> np.ndarray:
        """Which bins are a histogram's own, (N, B) bool."""
        return np.arange(self.counts.shape[1]) < self.bins[:, None]

    @property
    def centres(self) -> np.ndarray:
        """Middle of every bin, (N, B)."""
        return 0.5 * (self.edges[:, 1:] + self.edges[:, :-1])

    @property
    def bin_widths(self) -> np.ndarray:
        """Width of every bin, (N, B)."""
        return np.diff(self.edges, axis=1)

    def take(self, which: Any) -> Histograms:
        """Return some of them, by their places or a slice, no longer than the longest of these."""
        which = np.arange(len(self))[which]
        longest = int(self.bins[which].max(initial=0))
        counts, edges = self.counts[which, :longest], self.edges[which, : longest + 1]
        return Histograms(counts, edges, self.bins[which], tuple(self.names[i] for i in which))

    @classmethod
    def from_arrays(
        cls, counts: Any, edges: Any, *, bins: Any = None, names: Sequence[str] | None = None, source: str = "counts",
        mass_range: tuple[float, float] | None = None, skip: Skip | None = None,
    ) -> Histograms:  # fmt: skip
        """Return histograms of arrays, checked.

        Args:
            counts: (N, B) or (B,). edges: (B + 1,) or (N, B + 1).
            bins: (N,), how many of the B bins each histogram has; all by default.
            names: of each, by default their places.
            source: what errors call it.
            mass_range: only bins that lie within, in the unit of the edges.
            skip: a function that is called with (name, reason) of each bad histogram, which is left out; without, it is an error.

        Raises `InputError` for shapes that do not fit; counts that are negative, not finite, or not whole numbers
        (weighted events, whose fluctuations are not Poisson's); edges that do not rise; histograms of fewer than 10
        bins, such without any event, and such that begin with two or more empty bins (a threshold is no bump); with
        `skip` if nothing is left.

        >>> found = Histograms.from_arrays(np.arange(12)[::-1], np.linspace(100, 220, 13))
        >>> len(found), float(found.centres[0, 0]), found.names
        (1, 105.0, ('0',))
        """
        counts, edges = _numbers(counts, source, "counts"), _numbers(edges, source, "edges")
        counts = counts[None] if counts.ndim == 1 else counts
        if counts.ndim != 2 or not len(counts):
            raise InputError(f"{source}: counts have shape {counts.shape}, expected (N, B) with N > 0")
        n, longest = counts.shape
        edges = edges[None] if edges.ndim == 1 else edges
        if edges.ndim != 2 or edges.shape[1] != longest + 1 or len(edges) not in (1, n):
            raise InputError(
                f"{source}: edges have shape {edges.shape}, expected ({longest + 1},) or ({n}, {longest + 1}), one more "
                f"than there are bins"
            )
        bins = np.full(n, longest) if bins is None else np.asarray(bins)
        if bins.shape != (n,) or bins.dtype.kind not in "iu" or bins.min() < 0 or bins.max() > longest:
            raise InputError(f"{source}: bins must be {n} whole numbers from 0 to {longest}, one for each histogram")
        names = tuple(map(str, range(n) if names is None else names))
        if len(names) != n:
            raise InputError(f"{source}: {len(names)} names for {n} histograms")
        edges = np.array(np.broadcast_to(edges, (n, longest + 1)))
        if mass_range is not None:
            counts, edges, bins = _within(counts, edges, bins, mass_range)
        bad = _reasons(counts, edges, bins)
        if bad and skip is None:
            row, what = next(iter(bad.items()))
            alike = sum(other == what for other in bad.values())
            others = f" (and {alike - 1} others)" if alike > 1 else ""
            advice = ADVICE if n > 1 else ""
            raise InputError(f"{source}: histogram {names[row]}{others} {what.format(bins=bins[row])}{advice}")
        if skip is not None:
            for row in sorted(bad):
                skip(names[row], bad[row].format(bins=bins[row]))
        if len(bad) == n:
            raise InputError(f"{source}: all {n} histograms are bad, the first {bad[0].format(bins=bins[0])}")
        counts, edges, bins = _padded(counts, edges, bins)
        found = cls(counts, edges, bins, names)
        cut = bad or mass_range is not None
        return found.take(np.setdiff1d(np.arange(n), list(bad))) if cut else found

    @classmethod
    def joined(cls, parts: Sequence[Histograms]) -> Histograms:
        """Return the histograms of several as one.

        >>> one = Histograms.from_arrays(np.ones(12), np.arange(13))
        >>> Histograms.joined([one, Histograms.from_arrays(np.ones((2, 10)), np.arange(11))]).bins.tolist()
        [12, 10, 10]
        """
        longest = max(part.counts.shape[1] for part in parts)
        bins = np.concatenate([part.bins for part in parts])
        counts = np.concatenate([np.pad(p.counts, ((0, 0), (0, longest - p.counts.shape[1]))) for p in parts])
        edges = np.concatenate(
            [np.pad(p.edges, ((0, 0), (0, longest - p.counts.shape[1])), mode="edge") for p in parts]
        )
        counts, edges, bins = _padded(counts, edges, bins)
        return cls(counts, edges, bins, tuple(name for part in parts for name in part.names))


def _numbers(values: Any, source: str, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        array = None
    if array is None or array.dtype.kind not in "biuf":  # complex numbers would lose a half, text become numbers
        raise InputError(f"{source}: {what} are not real numbers of a regular array; pad shorter histograms")
    return array.astype(np.float64)


def _padded(counts: np.ndarray, edges: np.ndarray, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return counts, edges and bins with nothing but rising edges beyond each histogram's own bins."""
    place = np.arange(counts.shape[1] + 1)
    beyond = np.maximum(place - bins[:, None], 0)
    rows, last = np.arange(len(bins)), np.maximum(bins, 1)
    width = edges[rows, last] - edges[rows, last - 1]
    ends = edges[rows, bins][:, None]
    edges = np.where(beyond > 0, ends + beyond * width[:, None], edges)
    return np.where(place[:-1] < bins[:, None], counts, 0.0), edges, bins.astype(np.int64)


def _within(
    counts: np.ndarray, edges: np.ndarray, bins: np.ndarray, mass_range: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, edges and bins of what lies within a range; raises `InputError` if the range is none."""
    low, high = map(float, mass_range)
    if not low < high:
        raise InputError(
            f"range {low:g} to {high:g} is not possible; expected the low end first, in the unit of the edges"
        )
    place = np.arange(counts.shape[1])
    with np.errstate(invalid="ignore"):
        slack = SLACK * np.abs(np.diff(edges, axis=1))
        inside = (place < bins[:, None]) & (edges[:, :-1] >= low - slack) & (edges[:, 1:] <= high + slack)
    first, last = inside.argmax(1), inside.shape[1] - inside[:, ::-1].argmax(1)
    bins = np.where(inside.any(1), last - first, 0)
    moved = np.minimum(first[:, None] + np.arange(edges.shape[1]), edges.shape[1] - 1)
    counts = np.take_along_axis(counts, np.minimum(moved[:, :-1], counts.shape[1] - 1), 1)
    return counts, np.take_along_axis(edges, moved, 1), bins


def _reasons(counts: np.ndarray, edges: np.ndarray, bins: np.ndarray) -> dict[int, str]:
    """What is wrong with each histogram, by its row, that is not one of unweighted events; alike ones together."""
    own = np.arange(counts.shape[1]) < bins[:, None]
    own_edges = np.arange(counts.shape[1] + 1) <= bins[:, None]
    with np.errstate(invalid="ignore"):
        falling = own & ~(np.diff(edges, axis=1) > 0)
        wrong = {
            f"has {{bins}} bins, expected at least {LEAST_BINS}": bins < LEAST_BINS,
            "has an edge that is NaN or infinite": (own_edges & ~np.isfinite(edges)).any(1),
            "has edges that do not rise": falling.any(1),
            "has a count that is NaN or infinite": (own & ~np.isfinite(counts)).any(1),
            "has a negative count": (own & (counts < 0)).any(1),
            "has counts that are not whole numbers: weighted events fluctuate otherwise than Poisson; give numbers "
            "of events": (own & np.isfinite(counts) & (counts != np.rint(counts))).any(1),
            f"has a count of {MOST:.0e} or more": (own & (counts >= MOST)).any(1),
            "is empty: no event in any bin": ~(own & (counts != 0)).any(1),
            "begins with empty bins, which look like a discovery at the first that are not; let the histogram begin "
            f"where events do ({argument('mass_range')})": (own & (counts != 0)).argmax(1) >= 2,
        }
    found: dict[int, str] = {}
    for what, which in wrong.items():
        for row in np.flatnonzero(which):
            found.setdefault(int(row), what)
    return found


# -- from Python objects ---------------------------------------------------------------------------------


def from_hist(
    histograms: object | Iterable[object],
    names: Sequence[str] | None = None,
    mass_range: tuple[float, float] | None = None,
) -> Histograms:
    """Return histograms of `hist` or `boost_histogram` objects, of one or several.

    Anything that follows the Unified Histogram Interface will do: `axes[0].edges`, `values()` and `variances()`.
    Those of uproot do too. `mass_range` takes only bins within, in the unit of the edges.

    Raises `InputError` for objects that are none, that have several axes, that average instead of count, whose
    variances are known and not their counts (weighted events), whose bins have names, that look like cutflows, and for all that
    `Histograms.from_arrays` raises.

    >>> import boost_histogram
    >>> one = boost_histogram.Histogram(boost_histogram.axis.Regular(20, 100, 200))
    >>> _ = one.fill([101.0, 111.0, 150.0])
    >>> int(from_hist(one).counts.sum())
    3
    """
    several = list(histograms) if isinstance(histograms, (list, tuple)) else [histograms]
    if not several:
        raise InputError("no histogram given, expected one at least")
    names = list(map(str, range(len(several)))) if names is None else list(names)
    if len(names) != len(several):
        raise InputError(f"{len(names)} names for {len(several)} histograms")
    return _of_objects(zip(names, several), "", "histograms", mass_range=mass_range)


def _of_objects(
    named: Iterable[tuple[str, Any]], prefix: str, source: str, skip: Skip | None = None, **options: Any
) -> Histograms:
    """Histograms of pairs of a name and an object; errors begin with the prefix."""
    kept = {}
    for name, histogram in named:
        try:
            kept[name] = _contents(histogram, f"{prefix}histogram {name}")
        except InputError as error:
            if skip is None:
                raise
            skip(name, str(error).removeprefix(f"{prefix}histogram {name} "))
    if not kept:
        raise InputError(f"{source}: none of its histograms counts unweighted events of one mass")
    bins = np.array([len(values) for values, _ in kept.values()])
    counts = np.stack([np.pad(values, (0, bins.max() - len(values))) for values, _ in kept.values()])
    edges = np.stack([np.pad(edges, (0, bins.max() + 1 - len(edges)), mode="edge") for _, edges in kept.values()])
    return Histograms.from_arrays(counts, edges, bins=bins, names=list(kept), source=source, skip=skip, **options)


def _contents(histogram: Any, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges of an object; raises `InputError` if it is none of unweighted events along one axis."""
    try:
        axes, kind = list(histogram.axes), getattr(histogram, "kind", "COUNT")
        values, variances = histogram.values(), histogram.variances()
        edges = [np.asarray(axis.edges() if callable(axis.edges) else axis.edges, np.float64) for axis in axes]
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"{source} is a {type(histogram).__name__}, expected a histogram with a numerical axis and `values()`, "
            f"such as hist.Hist"
        ) from None
    if len(axes) != 1:
        raise InputError(f"{source} has {len(axes)} axes, expected one, of mass; project the others out")
    if str(getattr(kind, "value", kind)) != "COUNT":
        raise InputError(f"{source} averages something, expected one that counts events")
    if _is_labelled(axes[0]):
        raise InputError(f"{source} has bins with names, expected bins of mass: a cutflow is no spectrum; leave it out")
    values = np.asarray(values, np.float64)
    if why := _looks_like_cutflow(source, values, edges[0]):
        raise InputError(
            f"{source} {why}: a cutflow is no spectrum; leave it out, or if it is one give it another name and its edges in GeV"
        )
    # A sum of two unweighted histograms knows no variances: whether its counts are whole is looked at later.
    if variances is not None and not np.allclose(variances, values, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise InputError(
            f"{source} is of weighted events: its variances are not its counts, and such bins do not fluctuate as "
            f"Poisson's; fill it without weights"
        )
    return values, edges[0]


def _is_labelled(axis: Any) -> bool:
    """Whether the bins of an axis are categories: names, or whole numbers in no order."""
    if not getattr(getattr(axis, "traits", None), "ordered", True):
        return True
    labels = getattr(axis, "labels", None)  # of an axis in a ROOT file
    return bool(callable(labels) and labels())


def _looks_like_cutflow(source: str, values: np.ndarray, edges: np.ndarray) -> str:
    """Say what of a histogram without names of bins is that of a cutflow; empty if nothing is.

    >>> _looks_like_cutflow("histogram sr1", np.array([90.0, 40.0, 40.0, 3.0]), np.arange(5.0))
    'has bins 0, 1, 2, ... whose counts never rise'
    """
    if CUTFLOW.search(source.rpartition("histogram ")[2]):  # not in the name of a file
        return "is a cutflow by its name"
    steps = len(values) > 2 and edges[0] in CUTS_BEGIN and bool(np.all(np.diff(edges) == 1))
    falls = bool(np.all(np.diff(values) <= 0)) and values[0] > values[-1] > -1
    return "has bins 0, 1, 2, ... whose counts never rise" if steps and falls else ""


# -- files -----------------------------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str],
    *,
    select: Sequence[str] = (),
    mass_range: tuple[float, float] | None = None,
    skip: Skip | None = None,
) -> Histograms:
    """Return histograms of an HDF5 or a ROOT file, see the top of this module.

    Args:
        select: patterns of names, such as `SR*/m_*`; a histogram is read if one of them fits; by default all.
        mass_range: only bins within, in the unit of the edges; what is outside is not looked at.
        skip: a function that is called with (name, reason) of each bad histogram, which is left out; without, it is an error.

    Raises `InputError` for a file that is neither, that has none, or one that is no spectrum of unweighted events, and
    for a pattern that no name fits.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "spectra.h5"
    >>> write(Histograms.from_arrays(np.ones((2, 20)), np.arange(21), names=["SR/m_jj", "CR/m_jj"]), path)
    >>> found = read(path, select=["SR*"], mass_range=(5, 17))
    >>> found.names, found.bins.tolist()
    (('SR/m_jj',), [12])
    """
    path = Path(path)
    return (_read_root if _is_root(path) else _read_hdf5)(path, tuple(select), mass_range=mass_range, skip=skip)


def names_in(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the histograms of a file, good or bad; raises `InputError` as `read` does."""
    path = Path(path)
    if not _is_root(path):
        return _names(_datasets(path))
    with _root_file(path) as (_, keys):
        return list(keys)


def _is_root(path: Path) -> bool:
    if not os.path.isfile(path):  # Path.is_file would raise for a name that is too long
        raise InputError(f"{path}: no such file, expected histograms in HDF5 or ROOT")
    try:
        with open(path, "rb") as file:
            return file.read(4) == ROOT_MAGIC
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def selected(names: Sequence[str], select: Sequence[str], path: Path) -> list[str]:
    """Return the names that one of these is, or fits as a pattern; all without patterns.

    Raises `InputError` for one that fits none.
    """
    found: set[str] = set()
    for pattern in select:
        fits = matching(pattern, names)
        if not fits:
            raise InputError(f"{path}: no histogram's name matches {pattern!r}; there are {some_of(names, 5)}")
        found.update(fits)
    return [name for name in names if not select or name in found]


def _read_hdf5(path: Path, select: Sequence[str], **options: Any) -> Histograms:
    found = _datasets(path)
    if select:
        found = _rows(found, select, path)
    counts, edges = found.pop("counts"), found.pop("edges")
    return Histograms.from_arrays(counts, edges, source=str(path), **found, **options)


def _datasets(path: Path) -> dict[str, Any]:
    """Return what a file has of counts, edges, bins and names."""
    with reading_hdf5(path) as file:
        there = [name for name in ("counts", "edges", "bins", "names") if name in file]
        missing = [name for name in ("counts", "edges") if name not in there]
        if missing:
            others = ", ".join(sorted(map(str, file))) or "nothing"
            raise InputError(
                f"{path}: no histograms: no dataset {missing[0]!r}, found {others}; expected counts and edges"
            )
        found = {name: _dataset(path, file, name) for name in there}
    if "names" in found:
        found["names"] = _text(path, found["names"])
    return found


def _names(found: dict[str, Any]) -> list[str]:
    return [str(name) for name in found.get("names", range(len(np.atleast_2d(found["counts"]))))]


def _rows(found: dict[str, Any], select: Sequence[str], path: Path) -> dict[str, Any]:
    """The datasets of selected histograms; where shapes do not fit, all, of which `from_arrays` says what is wrong."""
    counts = np.atleast_2d(found["counts"])
    names = _names(found)
    chosen = set(selected(names, select, path))
    rows = [row for row, name in enumerate(names) if name in chosen]
    each: dict[str, Any] = {"counts": counts, "names": np.array(names)}
    each |= {name: found[name] for name in ("edges", "bins") if name in found}
    per_row = [name for name in each if np.ndim(each[name]) and (name != "edges" or np.ndim(each[name]) > 1)]
    if any(len(each[name]) != len(counts) for name in per_row):
        return found
    return {name: each[name][rows] if name in per_row else each[name] for name in each}


def _dataset(path: Path, file: Any, name: str) -> Any:
    import h5py

    try:
        dataset = file[name]
        if isinstance(dataset, h5py.Dataset):
            return dataset[()]
    except Exception as error:  # of damaged chunks and links h5py raises many kinds
        raise InputError(f"{path}: {name!r} cannot be read ({_reason(error)}); is the file whole?") from None
    raise InputError(f"{path}: {name!r} is a {type(dataset).__name__.lower()}, expected a dataset")


def _text(path: Path, names: Any) -> list[str]:
    try:
        return [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(names)]
    except UnicodeDecodeError:
        raise InputError(f"{path}: 'names' are not UTF-8 text; write them as such") from None


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:100]}" if lines and lines[0] else type(error).__name__


def _read_root(path: Path, select: Sequence[str], **options: Any) -> Histograms:
    with _root_file(path) as (file, keys):
        parts = [(name, file[keys[name]]) for name in selected(list(keys), select, path)]
    return _of_objects(parts, f"{path}: ", str(path), **options)


@contextlib.contextmanager
def _root_file(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Open a file; yields it, and the newest keys of its histograms by their names. Raises `InputError` if it has none."""
    import uproot

    try:
        with uproot.open(path) as file:
            classes = file.classnames(recursive=True, cycle=True)
            newest: dict[str, int] = {}
            for key, kind in classes.items():
                if kind.startswith("TH1"):
                    name, _, cycle = key.rpartition(";")
                    newest[name] = max(newest.get(name, 0), int(cycle))
            if not newest:
                kinds = ", ".join(sorted(set(classes.values()))) or "nothing"
                raise InputError(f"{path}: no histograms: expected TH1 objects, found {kinds}")
            yield file, {name: f"{name};{cycle}" for name, cycle in newest.items()}
    except InputError:
        raise
    except Exception as error:  # of damaged files uproot and what it decompresses with raise many kinds
        raise InputError(f"{path}: cannot be read as ROOT ({_reason(error)}); is it whole?") from None


def write(histograms: Histograms, path: str | os.PathLike[str]) -> None:
    """Write histograms to a new HDF5 file, as `read` reads it; raises `InputError` if it exists."""
    with new_disk(path) as disk, create(disk) as file:
        for name in ("counts", "edges", "bins"):
            store(file, name, getattr(histograms, name))
        file["names"] = list(histograms.names)
