"""Which file a path or a name means: embedded samples, downloads, and everything else."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from pipelines.datasets.catalog import FOLDER, PUBLISHED, SAMPLES
from pipelines.datasets.download import verified
from pipelines.errors import InputError


def find(path_or_name: str | os.PathLike[str]) -> Path:
    """Return the file behind a path, or behind the name of an embedded sample or of a downloaded data set.

    Downloaded files are looked for in `pipelines.datasets.download.data_folder()` and are checked against their
    checksum, which is quick as long as they have not been touched. A name goes before a file of that name, which is
    `./NAME`.

    Raises `InputError` if there is neither, naming the nearest name; if a published file is not downloaded yet or
    has been altered since.

    >>> find("lhco_sim_test").name
    'lhco_sim_test.h5'
    """
    name = str(path_or_name)
    if name in SAMPLES:
        return FOLDER / f"{name}.h5"
    if name in PUBLISHED:
        return verified(name)
    path = Path(path_or_name)
    if not os.path.exists(path):  # Path.exists would raise for a name that is too long
        near = difflib.get_close_matches(name, [*SAMPLES, *PUBLISHED], n=1)
        kind = "sample" if near and near[0] in SAMPLES else "published data set"
        hint = f"did you mean the {kind} {near[0]!r}?" if near else f"embedded samples are {', '.join(SAMPLES)}"
        raise InputError(f"{path}: no such file; {hint}")
    return path
