"""The command line of the events, `zoo data ...`: fetch, convert, cluster, simulate, mix, and look at them."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.datasets.opening import roles
from pipelines.errors import InputError
from pipelines.jobs.chunks import Outcome
from zoo.cli.reading import CONVERT, prepared, reads_data
from zoo.cli.terminal import (
    JSON,
    MASS_RANGE,
    SCHEDULER,
    SEED,
    WORKERS,
    Commands,
    progress,
    say,
    setting,
    short,
    with_options,
)

OUT = click.Path(path_type=Path)


@click.group(cls=Commands)
def data():
    """Fetch, convert, cluster, simulate and mix events."""


@data.command("list")
@JSON
def list_(as_json):
    """List embedded samples and published files, and which are here."""
    from pipelines.datasets.catalog import PUBLISHED, SAMPLES
    from pipelines.datasets.download import state

    found = [{"name": name, "state": "embedded", "about": sample.about} for name, sample in SAMPLES.items()]
    found += [{"name": name, "state": state(name), "about": file.about} for name, file in PUBLISHED.items()]
    wide = [max(len(entry[key]) for entry in found) + 2 for key in ("name", "state")]
    say(found, as_json, lambda: "\n".join(f"{e['name']:{wide[0]}}{e['state']:{wide[1]}}{e['about']}" for e in found))


@data.command()
@click.argument("name")
@click.option("--folder", type=OUT, help="Where it goes; by default $HEP_ANOMALY_ZOO_DATA, or the user's cache.")
@click.option("--from", "source", type=OUT, help="Take in this copy of the file, fetched by other means.")
@click.option("--url", help="Fetch it from another address, such as a mirror.")
@click.option("--renew", is_flag=True, help="Download it again, and forget the checksum of the first download.")
def get(name, folder, source, url, renew):
    """Download a published file. NAME is as in `zoo data list`; a download that was interrupted goes on."""
    from pipelines.datasets import download
    from pipelines.datasets.catalog import published

    if source is not None:
        path = download.adopt(name, source, folder)
    else:
        with progress("downloading") as advance:
            path = download.get(name, folder, url=url, renew=renew, progress=advance)
    key = published(name).key
    click.echo(str(path) + (f"\nIts truth is in {key}: zoo data get {key}" if key else ""))


@data.command()
@click.argument("source")
@JSON
def info(source, as_json):
    """Say what a file of events holds. It is the project's own, an embedded sample, or a published one."""
    import pipelines
    from pipelines import datasets
    from pipelines.datasets.find import find

    path = find(source)
    if not datasets.is_events(path):
        about = datasets.family(datasets.recognise(path)).describe(path)
        say(about, as_json, lambda: "\n".join(f"{k}: {short(v)}" for k, v in about.items()))
        return
    events = pipelines.open(path)
    low, high = events.mass_extent()
    about = {
        "file": events.name,
        "events": len(events),
        "columns": list(events.columns),
        "objects": [list(events.shape_of("objects")), list(events.about.object_columns)]
        if events.has("objects")
        else [],
        "images": list(events.shape_of("images")) if events.has("images") else [],
        "mass": {"column": events.about.mass_column, "min": low, "max": high},
        "labels": _counts(events, "label"),
        "processes": _counts(events, "process"),
        "dataset": events.about.dataset,
        "source": events.about.source,
        "license": events.about.license,
        "citation": events.about.citation,
    }
    about = {k: v for k, v in about.items() if k not in ("objects", "images", "processes") or v}
    say(about, as_json, lambda: "\n".join(f"{k}: {short(v)}" for k, v in about.items()))


@data.command()
@click.argument("sources", nargs=-1, required=True)
@click.argument("out", type=OUT)
@with_options(CONVERT)
@WORKERS
@SCHEDULER
def convert(sources, out, format_, workers, scheduler, **options):
    """Convert published files or tables to one events file.

    Killed and started again, it goes on where it was.
    """
    _tell(out, converted(sources, out, format_, workers, scheduler, options))


def converted(sources, out, format_, workers, scheduler, options):
    """Convert files with what the command line says, and return the outcome."""
    from pipelines import datasets
    from pipelines.datasets.catalog import credit
    from pipelines.datasets.find import find
    from pipelines.jobs.chunks import check_output

    check_output(out)
    paths = [find(source) for source in sources]
    name = format_ or datasets.recognise(paths[0])
    options = prepared(name, options)
    if "license" in datasets.options_of(name):
        options |= credit(sources[0])
    with progress("converting") as advance:
        return datasets.convert(
            paths, out, format=name, workers=workers, scheduler=scheduler, progress=advance, **options
        )


@data.command()
@click.argument("sources", nargs=-1, required=True)
@click.argument("out", type=OUT)
@click.option("--key", help="Master key, for a file without labels.")
@click.option("--njets", type=click.IntRange(2, 3), default=2, show_default=True, help="Large jets of an event.")
@click.option("--radius", type=float, default=1.0, show_default=True, help="R of the anti-kt jets.")
@click.option("--subjet-radius", type=float, default=0.2, show_default=True, help="R of the kt subjets.")
@click.option("--dcut", type=float, default=0.1, show_default=True, help="Scale of exclusive subjets, GeV^2.")
@click.option("--min-pt", type=float, default=20.0, show_default=True, help="Jets below are no jets, GeV.")
@click.option("--min-subjet-pt", type=float, default=0.0, show_default=True, help="Subjets below do not count, GeV.")
@click.option("--min-hadron-pt", type=float, default=0.0, show_default=True, help="Hadrons below are dropped, GeV.")
@click.option("--max-hadron-eta", type=float, default=float("inf"), help="Hadrons beyond this |eta| are dropped.")
@click.option("--order", type=click.Choice(["pt", "mass"]), default="pt", show_default=True, help="Of the jets.")
@click.option("--mass", help="The column that is the mass spectrum; by default the mass of all jets.")
@click.option("--images", is_flag=True, help="Draw jet images too.")
@click.option("--pixels", type=int, default=25, show_default=True, help="Images: pixels on each side.")
@click.option("--width", type=float, default=2.5, show_default=True, help="Images: full width in eta and phi.")
@click.option("--centring", type=click.Choice(["axis", "centroid", "subjet"]), default="subjet", show_default=True)
@click.option("--rotation", type=click.Choice(["none", "principal", "subjet"]), default="subjet", show_default=True)
@click.option("--flip/--no-flip", default=True, help="Images: mirror them so that the right half has more pt.")
@click.option("--normalise/--gev", default=True, help="Images: shares of the jet's pt, or GeV.")
@WORKERS
@SCHEDULER
def cluster(
    sources, out, key, mass, images, pixels, width, centring, rotation, flip, normalise, workers, scheduler, **jets
):
    """Cluster raw LHC Olympics hadrons into jets. Gives 47 variables per event, and images if asked for.

    Killed and started again, it goes on where it was.
    """
    from pipelines.datasets import lhco
    from pipelines.datasets.catalog import credit
    from pipelines.datasets.find import find
    from pipelines.features.images import ImageOptions
    from pipelines.features.jets import JetOptions
    from pipelines.jobs.chunks import check_output

    check_output(out)
    drawing = {"pixels": pixels, "width": width, "centring": centring, "rotation": rotation}
    try:
        options = JetOptions(**jets)
        pictures = ImageOptions(**drawing, flip=flip, normalise=normalise) if images else None
    except ValueError as error:
        raise InputError(str(error)) from None
    with progress("clustering") as advance:
        done = lhco.convert(
            [find(source) for source in sources],
            out,
            key=key and find(key),
            jets=options,
            images=pictures,
            mass=mass,
            workers=workers,
            scheduler=scheduler,
            progress=advance,
            **credit(sources[0]),
        )
    _tell(out, done)


@data.command()
@click.argument("kind")
@click.argument("out", type=OUT)
@click.option("--events", type=click.IntRange(min=1), required=True, help="Events that pass the selection.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set an option of the kind, as m_x=300.")
@SEED
@WORKERS
@SCHEDULER
def simulate(kind, out, events, settings, seed, workers, scheduler):
    """Generate events with Pythia 8, in the layout of published ones. Needs the extra `sim`; `zoo data kinds` lists each KIND.

    Killed and started again, it goes on where it was. Kinds and their options: `zoo data kinds`.
    """
    from pipelines.simulation import simulate

    options = dict(map(setting, settings))
    taken = sorted({"kind", "out", "events", "seed", "workers", "scheduler", "progress"} & set(options))
    if taken:
        raise InputError(f"--set {taken[0]}: no option of a kind of sample (see `zoo data kinds`); use --{taken[0]}")
    with progress("simulating") as advance:
        done = simulate(
            kind, out, events=events, seed=seed, workers=workers, scheduler=scheduler, progress=advance, **options
        )
    _tell(out, done)


@data.command()
@JSON
def kinds(as_json):
    """List the kinds of events that can be simulated. Below each are its options."""
    from pipelines.simulation import KINDS

    found = [
        {
            "kind": kind.name,
            "about": kind.about,
            "layout": kind.layout,
            "options": {o.name: {"default": o.default, "about": o.about, "unit": o.unit} for o in kind.options},
        }
        for kind in KINDS.values()
    ]

    def text():
        for kind in found:
            yield f"{kind['kind']}: {kind['about']}\n    {kind['layout']}"
            for name, o in kind["options"].items():
                yield f"    {name}={o['default']}  {o['about']}{o['unit'] and ', ' + o['unit']}"

    say(found, as_json, lambda: "\n".join(text()))


@data.command()
@click.argument("source")
@reads_data("source", without=["label"], told=True)
@click.argument("first", type=OUT)
@click.argument("rest", type=OUT)
@click.option("--events", type=click.IntRange(min=1), required=True, help="Size of FIRST.")
@click.option("--label", type=int, help="Draw FIRST from one truth label only, such as 0, the background.")
@SEED
def split(source, first, rest, events, label, seed, conversion):
    """Draw a training sample without labels. It is FIRST; all other events are REST."""
    import pipelines
    from pipelines.outputs import check_new, clean, new_disks

    for path in (first, rest):  # before one of them is refused
        clean(path)
    if check_new(first).resolve() == check_new(rest).resolve():
        raise InputError(f"{rest}: given for both parts; name two files")
    drawn, others = pipelines.open(source, **conversion).set_aside(events, label=label, seed=seed)
    with new_disks(first, rest) as disks:  # one part alone is a study that judges by what it trained on
        for part, path, disk in zip((drawn, others), (first, rest), disks):
            part.write(path, disk=disk)
    click.echo(f"{first}: {len(drawn)} events\n{rest}: {len(others)} events")


@data.command()
@click.argument("out", type=OUT)
@reads_data("background", "signal", told=True)
@click.option("--background", required=True, multiple=True, help="Events file; may be repeated.")
@click.option("--signal", required=True, multiple=True, help="Events file; may be repeated: label 1, 2, ...")
@click.option("--s-over-b", required=True, multiple=True, type=float, help="S/B, for all signals or for each.")
@MASS_RANGE
@SEED
def mix(out, background, signal, s_over_b, mass_range, seed, conversion):
    """Mix background and signal at a given S/B, with labels. S/B is the ratio of numbers of events."""
    from pipelines.datasets.find import find
    from pipelines.datasets.opening import open_each
    from pipelines.events import mixing
    from pipelines.events.layout import source_files
    from pipelines.outputs import check_new

    check_new(out)
    files = [*source_files([find(file) for file in background]), *source_files([find(file) for file in signal])]
    each = open_each(files, mass_range, **conversion)
    backgrounds, signals = each[: len(background)], each[len(background) :]
    ratios = s_over_b[0] if len(s_over_b) == 1 else s_over_b
    mixed = mixing.mix(backgrounds, signals, ratios, seed=seed)
    mixing.write_spread(mixed, out)
    click.echo(f"{out}: {len(mixed)} events, labels {short(_counts(mixed, 'label'))}")


@data.command()
@click.argument("first")
@click.argument("second")
@reads_data("first", "second", told=True)
@JSON
def overlap(first, second, as_json, conversion):
    """Count the events of SECOND that are also in FIRST, bit by bit."""
    from pipelines.datasets.opening import open_each
    from pipelines.events.overlap import overlap

    one, two = open_each([first, second], **conversion)
    found = {"events": len(two), "also_in_first": overlap(one, two)}
    say(found, as_json, lambda: f"{second}: {found['also_in_first']} of {len(two)} events are also in {first}")


def _tell(out: Path, done: Outcome) -> None:
    counts = "".join(f"\n  {count} {what}" for what, count in done.counts.items() if count)
    click.echo(f"{out}: {done.events} events{counts}{roles(done)}")


def _counts(events, field: str) -> dict[str, int]:
    import numpy as np

    if not events.has(field):
        return {}
    names = getattr(events.about, f"{field}_names")
    counts: dict[int, int] = {}
    for block in events.blocks(field):
        for value, count in zip(*np.unique(block[field], return_counts=True)):
            counts[int(value)] = counts.get(int(value), 0) + int(count)
    return {f"{k} {names.get(k, '')}".strip(): counts[k] for k in sorted(counts)}
