"""`zoo evaluate | plot | leaderboard`: what trained models are worth."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.terminal import JSON, MASS_RANGE, SEED, open_events, quiet_zoo, say


def scores(run, events, kind, write_all=False):
    """Return the model of a run and its members' scores (K, N) of events; raises `InputError` if any is not a number.

    With `write_all` only if most are none: those of single events far off are NaN, and their rows are told.
    """
    import numpy as np

    import zoo
    from pipelines.bumphunt.scores import are_few_bad, bad_scores

    model = zoo.load(run)
    if model.takes == "spectrum":
        raise InputError(f"{run}: {model.zoo_name} reads spectra, not events; use `zoo scan`")
    found = model.score(events, kind, per_member=True)
    finite = np.isfinite(found)
    worst = np.where(finite.all(axis=0), 0.0, np.nan)
    if np.isnan(worst).any():
        diverged = [str(k) for k, one in enumerate(finite) if 2 * one.sum() <= one.size]
        if diverged or not are_few_bad(worst):
            which = f" (of members {', '.join(diverged)})" if len(found) > 1 else ""
            raise InputError(
                f"{run}: {np.isnan(worst).sum()} of {len(worst)} scores are NaN or infinite{which}; "
                f"see {run}/history.csv whether its training diverged, and train with a lower learning_rate"
            )
        if not write_all:
            raise InputError(f"{run}: {bad_scores(worst)}; leave these events out")
        click.echo(f"Warning: {bad_scores(worst)}; theirs are written as NaN", err=True)
        found = np.where(finite, found, np.nan)
    return model, found


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Events file with labels, or an embedded sample's name.")
@click.option("--kind", help="Score kind; the model's default otherwise.")
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    help="New CSV with the run's rows for `zoo leaderboard`; needs --channel.",
)
@click.option("--channel", help="Channel of these events in that table, as 2b.")
@click.option("--name", help="Model's name in that table; the folder's otherwise.")
@click.option("--errors", is_flag=True, help="Add standard errors to that table, in columns after the challenge's.")
@MASS_RANGE
@SEED
@JSON
def evaluate(run, data, kind, table, channel, name, errors, mass_range, seed, as_json):
    """Judge a trained RUN with truth: AUC, signal efficiencies, mass sculpting.

    Events outside the mass range of the run's training are left out, unless --mass-range says otherwise.
    """
    quiet_zoo()
    from pipelines.outputs import check_new
    from zoo.run import read_config

    if bool(table) != bool(channel) or ((name or errors) and not table):
        raise InputError(
            "--table, --channel: expected both, or none of them and no --name or --errors; add the one that is missing"
        )
    if table:
        check_new(table)
    trained_in = read_config(run).get("mass_range")
    events = open_events([data], mass_range or trained_in)
    model, each = scores(run, events, kind)
    _warn_of_duplicates(run, events)
    kind = kind or model.score_kinds[0]
    found = {"kind": kind, "members": model.members, **_judged(each, events, seed)}
    if kind in model.undirected:
        found["minus"] = {"kind": f"minus {kind}"} | _judged(-each, events, seed)
    if table:
        other_direction = f"-{kind}" if "minus" in found else None
        _write_table(table, each, events, name or run.resolve().name, channel, other_direction, errors)
    say(found, as_json, lambda: _evaluation(found))


def _write_table(path, each, events, name, channel, other_direction, errors) -> None:
    """Write the rows of a run for the leaderboard, both directions of a score that has none as two models."""
    import numpy as np

    from pipelines import leaderboard as board

    score = each.mean(axis=0)
    tables = [board.judge(score, events, model=name, channel=channel)]
    if other_direction:
        tables.append(board.judge(-score, events, model=f"{name} {other_direction}", channel=channel))
    columns = (
        [getattr(one, column) for one in tables] for column in ("signal", "model", "channel", "values", "errors")
    )
    board.write(board.Table(*map(np.concatenate, columns)), path, errors=errors)


def _judged(each, events, seed):
    """What `metrics.evaluate` says of the mean of scores (K, N), and how the members' AUCs spread."""
    from pipelines import metrics

    score = each.mean(axis=0)
    found = metrics.evaluate(score, events, seed)
    if len(each) > 1 and found["auc"]:
        found["auc_members"] = _of_members(each, events)
    return found


def _of_members(each, events):
    """Mean and standard deviation over members of each signal's AUC."""
    import numpy as np

    from pipelines import metrics

    found = {}
    for k in sorted(set(events.label.tolist()) - {0}):
        areas = [metrics.auc(one[events.label == 0], one[events.label == k]) for one in each]
        found[str(k)] = {"mean": float(np.mean(areas)), "std": float(np.std(areas))}
    return found


def _warn_of_duplicates(run, events) -> None:
    """Say how many of these events the run was trained on, if its training file is still there."""
    from pipelines.events.overlap import overlap
    from zoo.run import read_config

    files = read_config(run).get("data", {}).get("files", [])
    try:
        again = overlap(open_events(files, None), events) if files else 0
    except InputError:  # moved, changed or of another kind since: then nothing can be said
        return
    if again:
        click.echo(
            f"Warning: {again} of {len(events)} events are also in {' + '.join(files)}, which the run was trained on: "
            f"they say nothing about new data",
            err=True,
        )


def _evaluation(found) -> str:
    names = found.get("label_names", {})
    lines = []
    for label, area in found["auc"].items():
        efficiencies = ", ".join(
            f"{e:.3g} at {eps}" if e is not None else f"too few events at {eps}"
            for eps, e in found["signal_efficiency"][label].items()
        )
        members = found.get("auc_members", {}).get(label)
        band = f" (members {members['mean']:.3f} +- {members['std']:.3f})" if members else ""
        lines += [
            f"{names.get(label, label)}: AUC {area:.3f}{band}; signal efficiency {efficiencies} background efficiency"
        ]
        if gain := found["improvement"].get(label):
            lines += [f"    S/sqrt(B) x {gain['improvement']:.2f} +- {gain['error']:.2f}"]
    whose = "the background's mass spectrum" if found["auc"] else "the mass spectrum of all events"
    lines += [f"Jensen-Shannon distance of {whose} (what statistics alone makes):"]
    for percentile, at in found["sculpting"].items():
        lines += [f"  {percentile:>4}th percentile  {at['distance']:.3f}  ({at['floor']:.3f} +- {at['floor_std']:.3f})"]
    if "minus" in found:
        lines += [
            "",
            f"The method gives {found['kind']} no direction: without truth a search looks at both of its tails.",
        ]
        lines = [f"By {found['kind']}:", *lines, f"By {found['minus']['kind']}:", _evaluation(found["minus"])]
    return "\n".join(lines)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    multiple=True,
    help="Events file, or an embedded sample's name; may be repeated. Those without labels are drawn as data, as points. "
    "Without --data and --sample only the training is drawn.",
)
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="NAME=FILE",
    help="Events to draw as a class of this name, such as background=mc.h5, whatever their labels; may be repeated.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New folder for PNGs and their numbers.")
@click.option("--kind", help="Score kind of the ROC curve; the model's default otherwise.")
@MASS_RANGE
@SEED
@JSON
def plot(run, data, samples, out, kind, mass_range, seed, as_json):
    """Draw the figures of a trained RUN: its losses, and how it sees the events of --data and --sample.

    Ratios are to the background, if there is one.
    """
    quiet_zoo()
    from pipelines.outputs import check_new
    from zoo import figures
    from zoo.run import read_config

    check_new(out)
    within = mass_range or read_config(run).get("mass_range")
    events = open_events(data, within) if data else None
    named = {}
    for text in samples:
        name, found, file = text.partition("=")
        if not (name and file) or name in named:
            problem = "comes twice" if name in named else "has no NAME or no FILE"
            raise InputError(f"--sample {text}: {problem}; expected names that differ, as in --sample background=mc.h5")
        named[name] = open_events([file], within)
    found = {"out": str(out), "files": figures.draw(run, out, events, kind, seed, samples=named)}
    say(found, as_json, lambda: f"{out}: " + ", ".join(file for file in found["files"] if file.endswith(".png")))


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILES...")
@click.option("--channel", "channels", multiple=True, help="Only this channel, as 2b; may be repeated.")
@click.option("--signal", "signals", multiple=True, help="Only this signal; may be repeated.")
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Models to list in each ranking.")
@click.option(
    "--way",
    type=click.Choice(["mean", "median", "average_rank", "top", "top5", "minimum"]),
    default="mean",
    show_default=True,
    help="Ranking that chooses the models of the figure.",
)
@click.option(
    "--plot",
    "figure",
    type=click.Path(path_type=Path),
    help="New PNG of box-and-whisker plots; its numbers go to a JSON beside it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="New CSV with all rows that were read, in the challenge's columns.",
)
@click.option("--errors", is_flag=True, help="Add standard errors to that CSV, in columns after the challenge's.")
@click.option(
    "--against", type=click.Path(path_type=Path), help="Published summary of total improvements to compare with."
)
@JSON
def leaderboard(files, channels, signals, models, top, way, figure, out, errors, against, as_json):
    """Compare models by the Dark Machines challenge's evaluation.

    FILES are tables of scores in its CSV columns Signal, Model, Chan, AUC, 1e-2, 1e-3 and 1e-4, with or without columns of
    errors.
    """
    from pipelines import leaderboard as board
    from pipelines.outputs import check_new

    if errors and not out:
        raise InputError("--errors: belongs to the CSV of --out; add it")
    for path in filter(None, (out, figure)):
        check_new(path)
    table = board.read(files).select(models=models or None, signals=signals or None, channels=channels or None)
    found = board.report(table, top)
    if against:
        found["against"] = board.compare(board.improvements(table), against)
    if figure:
        board.plot(table, figure, way=way, top=top)
    if out:
        board.write(table, out, errors=errors)
    say(found, as_json, lambda: _leaderboard(found, top))


def _leaderboard(found, top):
    lines = [f"{found['models']} models, {found['pairs']} pairs of signal and channel, {found['rows']} rows", ""]
    width = max(len(row["model"]) for row in found["improvement"])
    lines += [f"{'total improvement':{width}}  minimum   median  maximum"]
    lines += [
        f"{r['model']:{width}} {r['minimum']:8.3f} {r['median']:8.3f} {r['maximum']:8.3f}"
        for r in found["improvement"][:top]
    ]
    for figure, ways in found["rankings"].items():
        lines += ["", figure]
        lines += [
            f"  {way:13}" + ", ".join(f"{r['model']} {r['value']:.4g}" for r in rows) for way, rows in ways.items()
        ]
    if found["left_out"]["improvement"]:
        lines += ["", f"Left out, for signals they lack: {', '.join(found['left_out']['improvement'])}"]
    if found["impossible"]:
        lines += ["", f"{len(found['impossible'])} rows are of no ROC curve (see --json)"]
    if "against" in found:
        a = found["against"]
        lines += [
            "",
            f"{a['agree']} of {a['models']} models agree with {a['file']}; {len(a['differ'])} differ, {len(a['only_published'])} are only there, {len(a['only_here'])} only here",
        ]
    return "\n".join(lines)
