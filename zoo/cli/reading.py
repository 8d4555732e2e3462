"""How commands read data of any kind: what the options of a conversion are, and how far it is."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from pipelines.errors import InputError
from zoo.cli.terminal import MASS_RANGE, progress, setting, with_options
from zoo.settings import parse_value

CONVERT = [
    click.option(
        "--format", "format_", metavar="NAME", help="lhco, lhco_features, darkmachines, atlas, cathode or table."
    ),
    click.option(
        "--on-error", type=click.Choice(["stop", "skip"]), help="Lines that cannot be read: stop, or count them."
    ),
    click.option(
        "--mass", metavar="COLUMN", help="Tables: the column that is the mass spectrum. LHC Olympics: which m_jj."
    ),
    click.option(
        "--features",
        multiple=True,
        metavar="PATTERN",
        help="Tables: columns to keep, as 'tau*'; all otherwise. ATLAS: 33 or 13.",
    ),
    click.option(
        "--label", metavar="COLUMN", help="Tables: column of truth. LHC Olympics features: truth of all events."
    ),
    click.option("--weight", metavar="COLUMN", help="Tables: column of event weights."),
    click.option("--columns", metavar="A,B,...", help="Tables: names of the columns, if they have none."),
    click.option("--tree", metavar="NAME", help="ROOT: the tree, if the file has several."),
    click.option("--fill", type=float, metavar="VALUE", help="ROOT: stands for elements that a list does not have."),
    click.option("--units", multiple=True, metavar="PATTERN=UNIT", help="Tables: units of columns, as 'pt_*=MeV'."),
    MASS_RANGE,
    click.option(
        "--channel", type=click.Choice(["1", "2a", "2b", "3"]), help="Dark Machines: keep one channel's events."
    ),
    click.option("--truncated/--full", default=None, help="Dark Machines: 4 jets and 3 of each other kind."),
    click.option("--unit", type=click.Choice(["MeV", "GeV"]), help="Dark Machines: unit of the energies in the file."),
    click.option("--blind", is_flag=True, default=None, help="Dark Machines: leave the truth out."),
    click.option("--signal", multiple=True, metavar="PATTERN", help="Dark Machines, ATLAS: processes that are signal."),
    click.option(
        "--background", multiple=True, metavar="PATTERN", help="Dark Machines, ATLAS: processes that are not."
    ),
    click.option("--only", type=click.Choice(["data", "simulation"]), help="ATLAS: leave out files of the other kind."),
    click.option("--luminosity", type=float, metavar="FB-1", help="ATLAS: of the data that simulation is weighted to."),
    click.option(
        "--scale-factor",
        "scale_factors",
        multiple=True,
        metavar="NAME",
        help="ATLAS: branches scaleFactor_NAME in the weight.",
    ),
]  # what `zoo data convert` takes
DATA_HELP = "Events file, a sample's name, a published file or a table; may be repeated."
COLUMNS = {
    "mass": ("COLUMN", "Tables: the column that is the mass spectrum."),
    "label": ("COLUMN", "Tables: the column of truth."),
    "weight": ("COLUMN", "Tables: the column of event weights."),
    "tree": ("NAME", "ROOT files: the tree, if there are several."),
}


def prepared(name, options) -> dict[str, object]:
    """Return options of the command line as a format's conversion takes them."""
    options = {k: v for k, v in options.items() if v not in (None, ())}
    if "columns" in options:
        options["columns"] = options["columns"].split(",")
    if "units" in options:
        options["units"] = {k: str(v) for k, v in (setting(unit, "--units") for unit in options["units"])}
    if "features" in options and name == "atlas":
        options["features"] = ",".join(options["features"])
    if "label" in options and name == "lhco_features":
        options["label"] = _whole(options["label"], "--label")
    return options


def conversion(words) -> dict[str, object]:
    """Return the options of `zoo data convert` that NAME=VALUE texts set, of its types.

    >>> found = conversion(["channel=2b", "truncated=no", "features=met,tau*"])
    >>> found["channel"], found["truncated"], found["features"], found["mass"]
    ('2b', False, ('met', 'tau*'), None)
    """
    convert = click.command("convert")(with_options(CONVERT)(lambda **_: None))
    own = {p.opts[0][2:]: p for p in convert.params if isinstance(p, click.Option)}
    line, seen = [], set()
    for word in words:
        name, found, value = word.partition("=")
        option = own.get(name.replace("_", "-"))
        if option is None or not found:
            raise InputError(f"--convert {word}: expected NAME=VALUE, where NAME is one of {', '.join(own)}")
        if option in seen and not option.multiple:
            raise InputError(f"{name} is given twice, at last by {word}; give it once")
        seen.add(option)
        if not option.is_flag:
            values = [part for part in value.replace(",", " ").split() if part] if option.nargs > 1 else [value]
            if len(values) != option.nargs:
                raise InputError(f"--convert {word}: expected {option.nargs} values, as in {name}=2700,5000")
            if option.multiple:  # features=met,tau* as in --set columns=met,tau*
                values = [part for part in value.split(",") if part]
                line += [text for part in values for text in (option.opts[0], part)]
            else:
                line += [option.opts[0], *values]
        elif parse_value(value) in (True, False):  # 1 and 0 too
            line += option.opts[:1] if parse_value(value) else option.secondary_opts[:1]
        else:
            raise InputError(f"--convert {word}: expected {name}=true or {name}=false")
    try:
        parsed = convert.make_context("convert", line).params
    except click.ClickException as error:
        raise InputError(f"--convert {' '.join(words)}: {error.format_message()}") from None
    return parsed


def _whole(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {text}: expected a whole number 0 to 127") from None


def reads_data(*files: str, without: Iterable[str] = (), told: bool = False) -> Callable[[Any], Any]:
    """Return a decorator that lets a command read published files and tables beside events files.

    The command gets `conversion`, the options that were given, and `converting`, a `Converting`.
    With `told` it gets `conversion` alone, in which there is also what tells of a conversion.

    Args:
        files: the arguments of the command that name files. without: shorthands that it does not have.
    """
    short = {name: text for name, text in COLUMNS.items() if name not in without}

    def add(command: Any) -> Any:
        @functools.wraps(command)
        def wrapped(*args, words, **options):
            from pipelines.datasets.find import find

            words = [f"{name}={options[name]}" for name in short if options[name] is not None] + list(words)
            options = {name: value for name, value in options.items() if name not in short}
            paths = [path for name in files for path in _paths(options.get(name))]
            for path in paths:
                find(path)  # told here, before TensorFlow is imported
            with Converting() as converting:
                given = given_options(words, paths)
                more = (
                    {"conversion": given | converting.told} if told else {"conversion": given, "converting": converting}
                )
                return command(*args, **more, **options)

        added = [click.option(f"--{name}", metavar=what, help=text) for name, (what, text) in short.items()]
        added += [click.option("--convert", "words", multiple=True, metavar="NAME=VALUE",
                               help="Data that are no events file: an option of `zoo data convert`, as channel=2b.")]  # fmt: skip
        return with_options(added)(wrapped)

    return add


def _paths(given: Any) -> list[str]:
    """Return the files that an argument names, of which some may be NAME=FILE."""
    each = [] if given is None else [given] if isinstance(given, (str, Path)) else list(given)
    return [str(one).partition("=")[2] if "=" in str(one) and not Path(one).exists() else str(one) for one in each]


def given_options(words: Iterable[str], files: Iterable[str]) -> dict[str, object]:
    """Return the options of a conversion that NAME=VALUE texts give, as `pipelines.datasets.convert` takes them.

    Raises `InputError` for an option that is not known or given twice, and if none of the files needs a conversion.
    """
    words, files = list(words), list(files)
    if not words:
        return {}
    from pipelines import datasets
    from pipelines.datasets.find import find
    from pipelines.events.layout import source_files

    options = conversion(words)
    if options.get("mass_range"):
        raise InputError("--convert mass_range=...: give --mass-range LOW HIGH, which holds for events of every kind")
    paths = [
        path for path in source_files([find(file) for file in dict.fromkeys(files)]) if not datasets.is_events(path)
    ]
    if files and not paths:
        raise InputError(f"{words[0]}: nothing to convert, {files[0]} is an events file")
    name = options.pop("format_", None) or (datasets.recognise(paths[0]) if paths else "")
    return {**prepared(name, options), **({"format": name} if name else {})}


class Converting(contextlib.ExitStack):
    """Shows how far a conversion is, and says what was converted.

    Ctrl-C meanwhile is told that the same command goes on, if `kept`: what is converted stays.
    """

    _advance, kept = None, False

    @property
    def told(self) -> Mapping[str, Callable]:
        """The arguments of `pipelines.open` that tell of a conversion."""
        return {"said": self.said, "progress": self.progress}

    def progress(self, done: int, total: int | None) -> None:
        if self._advance is None:
            self._advance = self.enter_context(progress("converting"))
        self._advance(done, total)

    def said(self, text: str) -> None:
        self.close()
        self._advance = None
        click.echo(text, err=True)

    def __exit__(self, kind, error, trace):
        converting = self._advance is not None
        super().__exit__(kind, error, trace)
        if converting and self.kept and kind is KeyboardInterrupt:
            click.echo("\nInterrupted. What is converted is kept; the same command goes on.", err=True)
            click.get_current_context().exit(130)
