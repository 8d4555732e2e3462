"""`zoo validate`: is a search to be believed? Background alone, injected signal, stability, a yardstick with labels."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.errors import InputError
from zoo.cli.hunt import (
    CUT,
    CUTS,
    SCORE_KIND,
    TAILS,
    TRAINING,
    WINDOWS,
    percentile_option,
)
from zoo.cli.reading import DATA_HELP, reads_data
from zoo.cli.terminal import JSON, SEED, Commands, Finite, quiet_zoo, say, setting, stdout_to_stderr, with_options
from zoo.printed import number as _number
from zoo.printed import plain_table

DATA = [
    click.option("--data", required=True, multiple=True, help=f"{DATA_HELP} Of labelled ones the background."),
    reads_data("data", told=True),
    click.option("--ignore-labels", is_flag=True, help="Take all events, also those that are signal by their label."),
]
OUT = click.option("--out", type=click.Path(path_type=Path), help="New JSON file for every number.")
PLOT = click.option("--plot", "figure", type=click.Path(path_type=Path), help="New PNG of the figure.")
TOYS = click.option(
    "--pseudo-experiments",
    "--toys",
    "pseudo_experiments",
    type=int,
    default=1000,
    show_default=True,
    help="Pseudo-experiments of each hunt.",
)
ENDING = [OUT, SEED, JSON]
MIXTURE = [
    click.option("--background", required=True, multiple=True, help="Events; of labelled ones the background."),
    click.option("--signal", required=True, multiple=True, help="Events; of labelled ones the signal."),
    click.option("--s-over-b", "ratios", type=Finite(), multiple=True, default=[0, 0.0008, 0.0025, 0.005, 0.01],
                 show_default=True, help="S/B within the mass range; may be repeated."),
    reads_data("background", "signal", "test", told=True),
]  # fmt: skip


@click.group(cls=Commands)
def validate():
    """Tell whether a search is to be believed, on simulated events."""


@validate.command()
@click.argument("run", type=click.Path(path_type=Path))
@with_options(DATA)
@SCORE_KIND
@TAILS
@click.option("--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH", help="GeV; by default that of the training.")
@with_options([PLOT, *ENDING])
def sculpting(run, data, tails, out, figure, seed, as_json, **options):
    """Show how much cuts on the score shape the mass spectrum. The score is that of a RUN, the spectrum that of background."""
    check(out, figure)
    found = quiet_zoo().validate.sculpting(run, data, tails=tails, seed=seed, **options)
    from pipelines.plots.hunt import plot_sculpting
    from pipelines.report.figures import sculpting_series

    curve, following = found["curve"], found["following"]
    if figure:
        after = {f"{tail} tail, following the mass": sculpting_series(one) for tail, one in following.items() if one}
        plot_sculpting({f"{tail} tail": sculpting_series(one) for tail, one in curve.items()} | after, figure)
    none = {"distance": None, "pull": None}
    rows = [[tail, p, f"{c['distance']:.4f}", _number(c["pull"], ".1f"), _number(t["distance"], ".4f"),
             _number(t["pull"], ".1f"), f"{c['floor']:.4f}", f"{c['events']:,}"]
            for tail, one in curve.items() for p, c in one.items()
            for t in [following[tail].get(p, none)]]  # fmt: skip
    heads = ["tail", "percentile", "one threshold", "pull", "following the mass", "pull", "by chance", "selected"]
    _told(found, out, as_json, heads, rows, run)


@validate.command()
@click.argument("run", type=click.Path(path_type=Path))
@with_options(DATA)
@SCORE_KIND
@click.option("--percentile", "percentiles", type=Finite(), multiple=True, default=[50, 80, 90, 95, 99], show_default=True,
              help="Of the template's scores; may be repeated.")  # fmt: skip
@click.option(
    "--template-events", type=click.IntRange(min=100), default=200_000, show_default=True, help="Drawn from it."
)
@with_options(ENDING)
def template(run, data, out, as_json, **options):
    """Tell whether the template of a RUN predicts the background. That is how many events of its window pass a cut."""
    check(out)
    found = quiet_zoo().validate.template(run, data, **options)
    heads = ["percentile", "observed", "predicted", "error", "ratio", "pull"]
    rows = [[f"{one['percentile']:g}", f"{one['observed']:,.0f}", f"{one['predicted']:,.1f}", f"{one['error']:.1f}",
             f"{one['ratio']:.3f}", f"{one['pull']:.1f}"] for one in found["cuts"]]  # fmt: skip
    _told(found, out, as_json, heads, rows, run)


@validate.command()
@click.argument("run", type=click.Path(path_type=Path))
@with_options(DATA)
@click.option("--data-sets", type=int, default=100, show_default=True, help="Background-only searches.")
@click.option("--events", type=int, help="Of each; by default they share all there are.")
@click.option("--shuffle", is_flag=True, help="Deal the scores anew: test the statistics without the score.")
@SCORE_KIND
@TAILS
@with_options([percentile_option(80.0), CUT, *WINDOWS, TOYS, PLOT, *ENDING])
def coverage(run, data, shuffle, out, figure, seed, as_json, **options):
    """Tell whether global p-values are uniform. Searches in many data sets of background alone."""
    check(out, figure)
    found = quiet_zoo().validate.coverage(run, data, shuffle=shuffle, seed=seed, **cuts(options))
    from pipelines.plots.validation import plot_coverage

    if figure:
        plot_coverage(found, figure)
    names = ("data_sets", "events", "mean", "below_0.05", "below_0.05_error", "ks_statistic", "ks_p_value")
    rows = [[name.replace("_", " "), f"{found[name]:.3g}"] for name in names]
    void = [] if found["disjoint"] or shuffle else ["Data sets share events: the KS p-value means nothing."]
    _told(found, out, as_json, ["", ""], rows, run, said=void)


@validate.command()
@click.argument("run", type=click.Path(path_type=Path))
@with_options(DATA)
@click.option("--at", type=Finite(), required=True, help="Mass of the signal, GeV.")
@click.option("--width", type=Finite(), required=True, help="Standard deviation of its mass, GeV.")
@click.option("--yield", "yields", type=int, multiple=True, default=[0, 10, 20, 40, 80], show_default=True,
              help="Selected signal events; may be repeated.")  # fmt: skip
@click.option("--repeats", type=int, default=20, show_default=True, help="Data sets of each yield.")
@click.option("--target", type=Finite(), default=2.0, show_default=True, help="Significance whose yield is reported.")
@click.option("--pybumphunter", is_flag=True, help="Beside it pyBumpHunter's own signal_inject, up to the target.")
@click.option("--plot-reach", "reach_figure", type=click.Path(path_type=Path),
              help="New PNG of significance and efficiency against S/B, of many more data sets.")  # fmt: skip
@SCORE_KIND
@with_options([*CUTS, TOYS, PLOT, *ENDING])
def spectrum(run, data, target, out, figure, reach_figure, seed, as_json, **options):
    """Tell how many signal events reach 3 and 5 sigma. Signal is added to the selected spectrum, in rising numbers."""
    from pipelines.bumphunt.discovery_reach import reach_said

    check(out, figure, reach_figure)
    found = quiet_zoo().validate.spectrum(run, data, target=target, seed=seed, **cuts(options))
    from pipelines.plots.validation import plot_injection

    rows, needed = found["injected"], found["needed"]
    if figure:
        plot_injection(rows, figure)
    heads = ["events", "local Z (68 %)", "global Z (68 %)", "bounds", "mass bias [GeV]", "found"]
    lines = [[str(r["events"]), *(f"{r[k][1]:.1f} ({r[k][0]:.1f} to {r[k][2]:.1f})" for k in ("local", "global")),
              f"{r['global_is_bound']:.0%}", _number(r["mass_bias"], ".0f"), f"{r['found']:.0%}"] for r in rows]  # fmt: skip
    names = {"injected": "of the table", "pybumphunter": "pyBumpHunter's signal_inject"}
    said = [f"events for {target:g} sigma, {names[way]}: local {_number(one['local'], '.0f')}, "
            f"global {_number(one['global'], '.0f')}" for way, one in needed.items()]  # fmt: skip
    said += [f"percentile {p}: {reach_said(one)}" for p, one in found["reach"].items()]
    if reach_figure:
        from pipelines.plots.validation import plot_reach

        if not found["reach"]:
            raise InputError("no discovery reach for --deficit or --statistic, so no --plot-reach; leave one out")
        plot_reach(next(iter(found["reach"].values())), reach_figure)
    _told(found, out, as_json, heads, lines, run, said=said)


@validate.command()
@click.argument("run", metavar="RUN")
@with_options([*MIXTURE, *CUTS, *TRAINING])
@TAILS
@SCORE_KIND
@TOYS
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True,
              help="Mixtures of every S/B, each with its own signal events and training.")  # fmt: skip
@with_options([PLOT, *ENDING])
def injection(run, background, signal, ratios, trained, settings, xla, out, figure, seed, as_json, **options):
    """Mix in signal, search end to end, and judge with truth. With --train or --folds train on each mixture.

    RUN is a run directory; with --train or --folds also the name of a model. Below the table of what was asked for is that of
    what may be believed.
    """
    check(out, figure)
    training = {"train": trained, "hyperparameters": dict(map(setting, settings)), "jit_compile": xla}
    zoo = quiet_zoo()
    with stdout_to_stderr():
        found = zoo.validate.injection(
            run, background, signal, ratios, seed=seed, said=_say, **training, **cuts(options)
        )
    if figure:
        from pipelines.plots.validation import plot_injection_curve

        plot_injection_curve(found, figure)
    said = [plain_table(*believed_table(found["injected"])), *_reached(found)]
    _told(found, out, as_json, *paper_table(found["injected"]), run, said=said)


def _reached(found) -> list[str]:
    """Return a line on the S/B at which the median of what is believed reaches 3 and 5 sigma."""
    said = [
        f"{target} sigma at {'no S/B of these' if at is None else f'S/B {at:.2%}'}"
        for target, at in found["reach"].items()
    ]
    return ["", f"Median global significance, of what is believed: {', '.join(said)}."]


def believed_table(rows) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of what may be believed of searches at several S/B, one row for each search."""
    from pipelines.bumphunt.result import z_text

    heads = ["believed at S/B", "cut", "background", "percentile", "tail", "local Z", "global Z", "interval [GeV]",
             "mass bias [GeV]", "efficiency", "S/B gain"]  # fmt: skip
    lines = []
    for row in rows:
        s = row["believed"]
        if s is None:
            lines.append([f"{row['ratio']:.2%}", "no number is believed", *["-"] * 9])
            continue
        interval = "none" if s["interval"] is None else "{:.0f} to {:.0f}".format(*s["interval"])
        lines.append(
            [f"{row['ratio']:.2%}", s["cut"], s["background"], f"{s['percentile']:g}", s["tail"], z_text(s["local"]),
             z_text(s["global"], s["global_is_bound"]), interval, _number(s["mass_bias"], "+.0f"),
             _number(s["efficiency"], ".1%"), _number(s["gain"], ".1f")]
        )  # fmt: skip
    return heads, lines


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
def contamination(run, background, signal, test, ratios, settings, xla, out, as_json, **options):
    """Tell whether a model learns the signal away. MODEL is trained at every S/B and judged on other events."""
    check(out)
    training = {"hyperparameters": dict(map(setting, settings)), "jit_compile": xla, "said": _say}
    zoo = quiet_zoo()
    with stdout_to_stderr():
        found = zoo.validate.contamination(run, background, signal, test, ratios, **training, **options)
    rows = found["trained"]
    each = [(tail, k) for tail, by_label in rows[0]["auc"].items() for k in by_label]
    names = {k: found["label_names"].get(k, k) for _, k in each}
    heads = ["S/B", *(f"AUC {names[k]}, {tail} tail" for tail, k in each), "sculpting at 99"]
    lines = [[f"{r['s_over_b']:.2%}", *(_auc(r, tail, k) for tail, k in each),
              _number(r["runs"][0]["sculpting"][each[0][0]].get("99", {}).get("distance"), ".3f")] for r in rows]  # fmt: skip
    _told(found, out, as_json, heads, lines, run)


def _auc(row, tail, label) -> str:
    mean = f"{row['auc'][tail][label]:.3f}"
    return mean if row["auc_std"] is None else f"{mean} +- {row['auc_std'][tail][label]:.3f}"


@validate.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUNS...")
@click.option("--data", required=True, multiple=True, help=DATA_HELP)
@reads_data("data", told=True)
@with_options(CUTS)
@TAILS
@SCORE_KIND
@TOYS
@with_options(ENDING)
def stability(runs, data, out, seed, as_json, **options):
    """Compare what members or seeds say of the same events. Members are those of RUNS, seeds those of several runs."""
    check(out)
    found = quiet_zoo().validate.stability(runs, data, seed=seed, **cuts(options))
    correlation = found["rank_correlation"]
    rows = [["rank correlation", f"{correlation['mean']:.3f} (least {correlation['min']:.3f})"]]
    rows += [[f"overlap at percentile {p}, {tail} tail", f"{share:.1%}"]
             for tail, by_percentile in found["overlap"].items() for p, share in by_percentile.items()]  # fmt: skip
    rows += [[f"{kind} Z of {len(found['local'])}", f"{found[f'{kind}_mean']:.2f} +- {found[f'{kind}_std']:.2f}; of their mean score {found['together'][kind]:.2f}"]
             for kind in ("local", "global")]  # fmt: skip
    _told(found, out, as_json, ["", ""], rows, *runs)


@validate.command()
@click.option("--data", required=True, multiple=True, help=f"Labelled events. {DATA_HELP}")
@reads_data("data", told=True)
@click.option("--column", "columns", multiple=True, default=["*"], help="Features, names or patterns; may be repeated.")
@click.option("--folds", type=int, default=5, show_default=True, help="Of the cross-validation.")
@click.option("--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH", help="GeV.")
@with_options(ENDING)
def supervised(data, columns, folds, mass_range, out, seed, as_json, conversion):
    """Train boosted trees WITH LABELS, for comparison. Cross-validated, they say what could be had at most."""
    check(out)
    found = quiet_zoo().validate.supervised(
        data, columns, folds=folds, mass_range=mass_range, seed=seed, conversion=conversion
    )
    names = found["label_names"]
    rows = [[names.get(k, k), f"{auc:.4f}", ", ".join(f"{one[k]:.3f}" for one in found["auc_folds"] if k in one)]
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


def cuts(options) -> dict[str, object]:
    """Return options of the command line as `zoo.validate` takes them."""
    options = dict(options)
    if options.pop("no_merge"):
        options["relative_error"] = None
    return options


def _told(found, out, as_json, heads, rows, *runs, said=()) -> None:
    """Write and print the results, the use of labels, and the runs whose hyperparameters they chose."""
    from zoo.validate import notices

    if found.get("uses_labels") == "to leave out signal":
        said = [*said, "Labels were used to leave out signal; --ignore-labels takes all events."]
    if out:
        from pipelines.outputs import write_json

        write_json(out, found)
    below = [line for lines in (said, notices(*runs)) if lines for line in ("", *lines)]
    say(found, as_json, lambda: "\n".join([plain_table(heads, rows), *below]))
