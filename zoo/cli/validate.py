"""`zoo validate`: is a search to be believed? Background alone, injected signal, stability, a yardstick with labels."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.hunt import (
    CUTS,
    SCORE_KIND,
    TAILS,
    TRAINING,
    WINDOWS,
    percentile_option,
    with_options,
)
from zoo.cli.terminal import JSON, SEED, Finite, open_events, quiet_zoo, say, setting, stdout_to_stderr
from zoo.printed import number as _number
from zoo.printed import plain_table

DATA = [
    click.option(
        "--data", required=True, multiple=True, help="Events file or sample; of labelled ones the background."
    ),
    click.option("--ignore-labels", is_flag=True, help="Take all events, also those that are signal by their label."),
]
OUT = click.option("--out", type=click.Path(path_type=Path), help="New JSON file for every number.")
PLOT = click.option("--plot", "figure", type=click.Path(path_type=Path), help="New PNG of the figure.")
TOYS = click.option(
    "--toys", "pseudo_experiments", type=int, default=1000, show_default=True, help="Pseudo-experiments of each hunt."
)
ENDING = [OUT, SEED, JSON]
MIXTURE = [
    click.option("--background", required=True, multiple=True, help="Events; of labelled ones the background."),
    click.option("--signal", required=True, multiple=True, help="Events; of labelled ones the signal."),
    click.option("--s-over-b", "ratios", type=Finite(), multiple=True, default=[0, 0.0008, 0.0025, 0.005, 0.01],
                 show_default=True, help="S/B within the mass range; may be repeated."),
]  # fmt: skip


@click.group()
def validate():
    """Tell whether a search is to be believed, on simulated events."""


@validate.command()
@click.argument("run", type=click.Path(path_type=Path))
@with_options(DATA)
@SCORE_KIND
@TAILS
@click.option("--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH", help="GeV; by default that of the training.")
@with_options([PLOT, *ENDING])
def sculpting(run, data, ignore_labels, score_kind, tails, mass_range, out, figure, seed, as_json):
    """Show how much cuts on the score of a RUN shape the background's mass spectrum."""
    from pipelines.bumphunt import validation
    from pipelines.plots.hunt import plot_sculpting
    from pipelines.report.figures import sculpting_series

    check(out, figure)
    score, events, natural, labels = _background(run, data, ignore_labels, score_kind, mass_range)
    curve = validation.sculpting_curve(score, events.mass, tails=tails or natural, seed=seed)
    if figure:
        plot_sculpting({f"{tail} tail": sculpting_series(one) for tail, one in curve.items()}, figure)
    rows = [[tail, p, f"{c['distance']:.4f}", f"{c['floor']:.4f}", _number(c["pull"], ".1f"), f"{c['events']:,}"]
            for tail, one in curve.items() for p, c in one.items()]  # fmt: skip
    heads = ["tail", "percentile", "distance", "by chance", "pull", "selected"]
    _told({"curve": curve, "events": len(events), "uses_labels": labels}, out, as_json, heads, rows, run)


@validate.command()
@click.argument("run", type=click.Path(path_type=Path))
@with_options(DATA)
@click.option("--data-sets", type=int, default=100, show_default=True, help="Background-only searches.")
@click.option("--events", type=int, help="Of each; by default they share all there are.")
@click.option("--shuffle", is_flag=True, help="Deal the scores anew: test the statistics without the score.")
@SCORE_KIND
@TAILS
@with_options([percentile_option(80.0), *WINDOWS, TOYS, PLOT, *ENDING])
def coverage(
    run, data, ignore_labels, data_sets, events, shuffle, score_kind, tails, out, figure, seed, as_json, **options
):
    """Search in many background-only data sets: are global p-values uniform?"""
    from pipelines.bumphunt import validation
    from pipelines.plots.validation import plot_coverage

    check(out, figure)
    score, background, natural, labels = _background(run, data, ignore_labels, score_kind, options["mass_range"])
    found = validation.coverage(
        score, background.mass, data_sets=data_sets, events=events, shuffle=shuffle, seed=seed,
        tails=tails or natural, **cuts(options, run),
    )  # fmt: skip
    if figure:
        plot_coverage(found, figure)
    names = ("data_sets", "events", "mean", "below_0.05", "below_0.05_error", "ks_statistic", "ks_p_value")
    rows = [[name.replace("_", " "), f"{found[name]:.3g}"] for name in names]
    void = [] if found["disjoint"] or shuffle else ["Data sets share events: the KS p-value means nothing."]
    _told({**found, "uses_labels": labels}, out, as_json, ["", ""], rows, run, said=void)


@validate.command()
@click.argument("run", type=click.Path(path_type=Path))
@with_options(DATA)
@click.option("--at", type=Finite(), required=True, help="Mass of the signal, GeV.")
@click.option("--width", type=Finite(), required=True, help="Standard deviation of its mass, GeV.")
@click.option("--yield", "yields", type=int, multiple=True, default=[0, 10, 20, 40, 80], show_default=True,
              help="Selected signal events; may be repeated.")  # fmt: skip
@click.option("--repeats", type=int, default=20, show_default=True, help="Data sets of each yield.")
@click.option("--target", type=Finite(), default=2.0, show_default=True, help="Significance whose yield is told.")
@click.option("--pybumphunter", is_flag=True, help="Beside it pyBumpHunter's own signal_inject, up to the target.")
@SCORE_KIND
@with_options([*CUTS, TOYS, PLOT, *ENDING])
def spectrum(
    run, data, ignore_labels, at, width, yields, repeats, target, pybumphunter, score_kind, out, figure, seed, as_json,
    **options,
):  # fmt: skip
    """Add signal to the selected spectrum: what significance has how many events?"""
    from pipelines.bumphunt import validation
    from pipelines.plots.validation import plot_injection

    check(out, figure)
    score, background, _, labels = _background(run, data, ignore_labels, score_kind, options["mass_range"])
    signal = {"at": at, "width": width, "seed": seed, **cuts(options, run)}
    ways = {}
    if pybumphunter:  # first, as it is quick to refuse
        ways["pybumphunter"] = validation.pybumphunter_injection(score, background.mass, target=target, **signal)
    rows = validation.spectrum_injection(score, background.mass, yields=yields, repeats=repeats, **signal)
    ways = {"injected": rows, **ways}
    needed = {way: {kind: validation.needed_yield(found, kind, target) for kind in ("local", "global")}
              for way, found in ways.items()}  # fmt: skip
    if figure:
        plot_injection(rows, figure)
    heads = ["events", "local Z (68 %)", "global Z (68 %)", "bounds", "mass bias [GeV]", "found"]
    lines = [[str(r["events"]), *(f"{r[k][1]:.1f} ({r[k][0]:.1f} to {r[k][2]:.1f})" for k in ("local", "global")),
              f"{r['global_is_bound']:.0%}", _number(r["mass_bias"], ".0f"), f"{r['found']:.0%}"] for r in rows]  # fmt: skip
    names = {"injected": "of the table", "pybumphunter": "pyBumpHunter's signal_inject"}
    said = [f"events for {target:g} sigma, {names[way]}: local {_number(one['local'], '.0f')}, "
            f"global {_number(one['global'], '.0f')}" for way, one in needed.items()]  # fmt: skip
    found = {"at": at, "width": width, "repeats": repeats, **ways, "target": target, "needed": needed}
    _told({**found, "uses_labels": labels}, out, as_json, heads, lines, run, said=said)


@validate.command()
@click.argument("run", metavar="RUN")
@with_options([*MIXTURE, *CUTS, *TRAINING])
@TAILS
@SCORE_KIND
@TOYS
@with_options(ENDING)
def injection(
    run, background, signal, ratios, trained, folds, preset, settings, epochs, xla, out, seed, as_json, **options
):
    """Mix signal into background, search end to end, and judge with truth; with --train or --folds train on each mixture.

    RUN is a run directory; with --train or --folds also the name of a model.
    """
    quiet_zoo()
    from pipelines.bumphunt import validation
    from zoo.hunting import InMemory, recipe_of
    from zoo.trained import trained_model

    check(out)
    if trained and folds:
        raise InputError("--train and --folds: give one")
    background, signal = (open_events(files, None) for files in (background, signal))
    training = {"preset": preset, "hyperparameters": dict(map(setting, settings)), "epochs": epochs}
    recipe = recipe_of(run, seed, **training) if trained or folds else None
    model = InMemory(recipe, xla, _say) if recipe else trained_model(run)
    settings = cuts(options, run)
    validation.check_ratios(background, signal, ratios, settings["mass_range"])
    rows = []
    for ratio in ratios:
        with stdout_to_stderr():
            found = validation.injected(model, background, signal, ratio, folds=folds or (1 if trained else None),
                                        seed=seed, **settings)  # fmt: skip
        rows.append({"ratio": ratio, **validation.paper_numbers(found)})
        click.echo(f"S/B {ratio:g} done", err=True)
    _told({"model": str(run), "injected": rows, "uses_labels": "to judge only"}, out, as_json, *paper_table(rows), run)


def paper_table(rows) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the numbers that papers print of searches at several S/B, a row for each selection."""
    from pipelines.bumphunt.result import z_text

    several = any(len(r["selections"]) > 1 for r in rows)
    heads = ["S/B", "signal", "percentile", "tail", "local Z", "Fisher Z", "global Z", "mass bias [GeV]", "efficiency",
             "S/B gain"] + ["all together"] * several  # fmt: skip
    lines = [
        [f"{r['ratio']:.2%}", _number(s["signal_events"], ".0f"), f"{s['percentile']:g}", s["tail"], z_text(s["local"]),
         z_text(s["fisher"]), z_text(s["global"], s["global_is_bound"]), _number(s["mass_bias"], "+.0f"),
         _number(s["efficiency"], ".1%"), _number(s["gain"], ".1f")]
        + [z_text(r["global"], r["global_is_bound"])] * several
        for r in rows for s in r["selections"]
    ]  # fmt: skip
    return heads, lines


@validate.command()
@click.argument("run", metavar="MODEL")
@with_options([*MIXTURE, *(option for option in TRAINING[2:])])
@click.option("--test", required=True, multiple=True, help="Labelled events, none of them in the others.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings of every S/B.")
@click.option("--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH", help="GeV.")
@SCORE_KIND
@with_options(ENDING)
def contamination(
    run, background, signal, ratios, test, seeds, mass_range, preset, settings, epochs, xla, score_kind, out, seed,
    as_json,
):  # fmt: skip
    """Train MODEL at every S/B and judge it on other events: does it learn the signal away?"""
    quiet_zoo()
    from pipelines.bumphunt import validation
    from zoo.hunting import InMemory, recipe_of

    check(out)
    recipe = recipe_of(run, seed, preset=preset, hyperparameters=dict(map(setting, settings)), epochs=epochs)
    parts = [open_events(files, mass_range or _trained_in(run)) for files in (background, signal, test)]
    with stdout_to_stderr():
        rows = validation.contamination(
            InMemory(recipe, xla, _say), *parts, ratios, kind=score_kind, seeds=seeds, seed=seed
        )
    each = [(tail, k) for tail, by_label in rows[0]["auc"].items() for k in by_label]
    names = {k: parts[2].about.label_names.get(int(k), k) for _, k in each}
    heads = ["S/B", *(f"AUC {names[k]}, {tail} tail" for tail, k in each), "sculpting at 99"]
    lines = [[f"{r['s_over_b']:.2%}", *(_auc(r, tail, k) for tail, k in each),
              _number(r["runs"][0]["sculpting"][each[0][0]].get("99", {}).get("distance"), ".3f")] for r in rows]  # fmt: skip
    _told({"model": run, "trained": rows, "uses_labels": "to judge only"}, out, as_json, heads, lines, run)


def _auc(row, tail, label) -> str:
    mean = f"{row['auc'][tail][label]:.3f}"
    return mean if row["auc_std"] is None else f"{mean} +- {row['auc_std'][tail][label]:.3f}"


@validate.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUNS...")
@click.option("--data", required=True, multiple=True, help="Events file or sample.")
@with_options(CUTS)
@TAILS
@SCORE_KIND
@TOYS
@with_options(ENDING)
def stability(runs, data, tails, score_kind, out, seed, as_json, **options):
    """Compare what the members of RUNS, or runs of several seeds, say of the same events."""
    import numpy as np

    quiet_zoo()
    from pipelines.bumphunt import validation
    from zoo.trained import trained_model

    check(out)
    events, each = open_events(data, options["mass_range"] or _trained_in(runs[0])), []
    for run in runs:
        model = trained_model(run)
        each.append(model.score(events, score_kind, per_member=True))
    settings = cuts(options, runs[0])
    found = validation.stability(
        np.concatenate(each), events.mass, seed=seed, tails=tails or _tails(model, score_kind), **settings
    )
    correlation = found["rank_correlation"]
    rows = [["rank correlation", f"{correlation['mean']:.3f} (least {correlation['min']:.3f})"]]
    rows += [[f"overlap at percentile {p}, {tail} tail", f"{share:.1%}"]
             for tail, by_percentile in found["overlap"].items() for p, share in by_percentile.items()]  # fmt: skip
    rows += [[f"{kind} Z of {len(found['local'])}", f"{found[f'{kind}_mean']:.2f} +- {found[f'{kind}_std']:.2f}; of their mean score {found['together'][kind]:.2f}"]
             for kind in ("local", "global")]  # fmt: skip
    _told(found, out, as_json, ["", ""], rows, *runs)


@validate.command()
@click.option("--data", required=True, multiple=True, help="Labelled events.")
@click.option("--column", "columns", multiple=True, default=["*"], help="Features, names or patterns; may be repeated.")
@click.option("--folds", type=int, default=5, show_default=True, help="Of the cross-validation.")
@click.option("--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH", help="GeV.")
@with_options(ENDING)
def supervised(data, columns, folds, mass_range, out, seed, as_json):
    """USES LABELS: boosted trees, cross-validated, as a yardstick of what could be had at most."""
    from pipelines.bumphunt import validation

    check(out)
    events = open_events(data, mass_range)
    _, found = validation.supervised(events, columns, folds=folds, seed=seed)
    names = events.about.label_names
    rows = [[names.get(int(k), k), f"{auc:.4f}", ", ".join(f"{one[k]:.3f}" for one in found["auc_folds"] if k in one)]
            for k, auc in found["auc"].items()]  # fmt: skip
    _told(found, out, as_json, ["signal (labels used)", "AUC", "of each fold"], rows)


def _say(text: str) -> None:
    click.echo(text, err=True)


# -- what they share --------------------------------------------------------------------------------


def check(*paths) -> None:
    """Raise `InputError` if a file that is to be written exists."""
    from pipelines.outputs import check_new

    for path in filter(None, paths):
        check_new(path)


def _background(run, data, ignore_labels, kind, mass_range):
    """Scores of the background by a run, the events, the tails that suit the score, and what labels were used for."""
    quiet_zoo()
    from pipelines.bumphunt.scores import scores_of
    from zoo.trained import trained_model

    events = open_events(data, mass_range or _trained_in(run))
    labels = "to leave out signal" if events.has_labels and not ignore_labels else False
    events = events.select(label=0) if labels else events
    model = trained_model(run)
    return scores_of(model, events, kind)[0], events, _tails(model, kind), labels


def _tails(model, kind) -> str:
    from pipelines.bumphunt.scores import natural_tails

    return natural_tails(model, kind)


def _trained_in(run):
    from zoo.run import origin

    return origin(run).get("mass_range")


def cuts(options, run) -> dict[str, object]:
    """Options of a hunt, as its functions take them; the range of the run's training, if there is one, by default."""
    options = {**options, "mass_range": options["mass_range"] or _trained_in(run)}
    if options.pop("no_merge"):
        options["relative_error"] = None
    return options


def _told(found, out, as_json, heads, rows, *runs, said=()) -> None:
    """Write and print what was found, what labels were used for, and of which runs they chose the hyperparameters."""
    from pipelines.bumphunt.result import truth_in_tuning
    from zoo.run import origin

    notices = {run: truth_in_tuning({"run": origin(run)}) for run in runs}
    notices = [f"{run}: {notice}" for run, notice in notices.items() if notice]
    found = {**found, "truth_used": bool(notices)} if runs else found
    if found.get("uses_labels") == "to leave out signal":
        said = [*said, "Labels were used to leave out signal; --ignore-labels takes all events."]
    if out:
        from pipelines.outputs import write_json

        write_json(out, found)
    below = [line for lines in (said, notices) if lines for line in ("", *lines)]
    say(found, as_json, lambda: "\n".join([plain_table(heads, rows), *below]))
