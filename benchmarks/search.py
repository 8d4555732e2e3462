"""Black boxes: a hidden signal at several S/B, from events to significance, beside what the GAN-AE paper found in one.

    python benchmarks/search.py gan_ae --background qcd.h5 --signal zprime_3500.h5 --signal zprime_4500.h5 \\
        --out black_boxes.json --preset lhco2020 --mass-range 2700 5000 --set cycles=30

For every signal and S/B the signal is mixed into all of the background, a model is trained on the mixture without labels
(with --folds K, K models on what they do not score), and the mixture is searched. Labels only judge. S/B 0, the same
for all signals, is done once. Without --mass-range it is 2700 to 5000 GeV. With --both-cuts the same scores are searched with one
threshold and with one that follows the mass. MODEL may be a run: a model that was trained on other events then scores every
mixture, which costs one training for all. The JSON file is written anew after every search; the same command goes on.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click

from pipelines import provenance
from pipelines.bumphunt import validation
from pipelines.bumphunt.search import search
from pipelines.datasets.opening import open_events
from pipelines.outputs import write_json
from zoo.cli.hunt import CUTS, SCORE_KIND, TAILS, with_options
from zoo.cli.terminal import SEED, Command, quiet_zoo
from zoo.cli.validate import believed_table, cuts, paper_table
from zoo.printed import plain_table
from zoo.settings import parse_setting

PAPER = """GAN-AE in Black Box 1 of the LHC Olympics 2020 (doi 10.1140/epjc/s10052-023-12169-4): S/B 0.08 %, cut at the 99th percentile: local 2.9,
global 1.2 sigma, mass bias below 200 GeV, signal efficiency above 15 %, S/B gain 20; nothing in Black Box 2."""
RANGE = (2700, 5000)  # GeV, unless --mass-range says otherwise


@click.command(cls=Command)
@click.argument("model")
@click.option("--background", required=True, multiple=True, help="Events; of labelled ones the background.")
@click.option("--signal", "signals", required=True, multiple=True, help="Events of one signal; may be repeated.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file, written after every search.")
@click.option("--s-over-b", default="0,0.0008,0.0025,0.005,0.01", show_default=True)
@click.option("--preset")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE")
@click.option("--epochs", type=int)
@click.option("--members", type=int, default=1, show_default=True)
@click.option("--folds", type=int, default=1, show_default=True, help="1: one model scores what it was trained on.")
@SCORE_KIND
@with_options([*CUTS, TAILS])
@click.option("--toys", "pseudo_experiments", type=int, default=40_000, show_default=True)
@click.option("--both-cuts", is_flag=True, help="Search the same scores with each cut, whatever --cut says.")
@SEED
def main(model, background, signals, out, s_over_b, preset, settings, epochs, members, seed, both_cuts, **options):
    """Search for every signal at every S/B with a model trained on the mixture, and print the table."""
    quiet_zoo()
    import zoo
    from zoo.hunting.bump_hunt import InMemory, recipe_of

    options = cuts({**options, "mass_range": options["mass_range"] or RANGE})
    options |= {"cut": "global"} if both_cuts else {}
    given = {"preset": preset, "hyperparameters": dict(map(parse_setting, settings)), "epochs": epochs}
    trained = zoo.load(model) if Path(model).is_dir() else None
    if trained is not None and (any(given.values()) or options["folds"] != 1):
        raise click.ClickException(f"{model} is a run, trained already; leave out what is of a training")
    if trained is not None:
        options["folds"] = None
    else:
        given["hyperparameters"] |= {"members": members}
        recipe = recipe_of(model, seed, **given)
    qcd = open_events(list(background))
    asked = {"model": model, "hyperparameters": (trained or recipe.model()).get_config(), "epochs": epochs, "seed": seed,
             "background": list(background), "both_cuts": both_cuts, **options}  # fmt: skip
    if not asked["score_kind"]:
        del asked["score_kind"]  # which files of before do not have
    asked = json.loads(json.dumps(asked))
    kept = json.loads(out.read_text()) if out.exists() else {"asked": asked, "results": {}}
    if kept["asked"] != asked:
        raise click.ClickException(f"{out} holds results of {kept['asked']}, asked for {asked}; give another --out")
    if any("believed" not in one for one in kept["results"].values()):
        raise click.ClickException(
            f"{out} is of an older version, which did not keep what is believed; give another --out"
        )
    ratios = [float(ratio) for ratio in s_over_b.split(",")]
    for path in signals:
        validation.check_ratios(qcd, open_events([path]), ratios, options["mass_range"])
    for path in signals:
        signal = open_events([path])
        for ratio in ratios:
            name = f"{path} {ratio:g}" if ratio else "no signal"
            if name in kept["results"]:
                continue
            started = time.monotonic()
            found = validation.injected(trained or InMemory(recipe), qcd, signal, ratio, seed=seed, **options)
            again = with_the_other_cut(found, options, seed) if both_cuts else None
            each = {
                "ratio": ratio, "signal": path if ratio else None, **validation.paper_numbers(found),
                "truth": found.truth, "sculpting": found.sculpting, "sculpting_following": found.sculpting_following,
                "following": None if again is None else validation.paper_numbers(again),
                "seconds": round(time.monotonic() - started, 1),
            }  # fmt: skip
            kept["results"][name] = each
            write_json(out, kept | {"versions": provenance.versions(), "cores": os.cpu_count()})
            click.echo(f"{name}: {each['seconds']:.0f} s", err=True)
    results = kept["results"].values()
    show(results)
    if both_cuts:
        click.echo("\nThe same scores, a threshold that follows the mass:\n")
        show([one | one["following"] for one in results])
    heads, lines = believed_table(list(results))
    names = [Path(one["signal"]).stem if one["signal"] else "none" for one in results]
    click.echo("\nWhat may be believed:\n")
    click.echo(plain_table(["signal file", *heads], [[name, *line] for name, line in zip(names, lines)]))
    click.echo(f"\n{PAPER}")


def show(results):
    """Print the numbers that papers print, of every selection."""
    heads, lines = paper_table(list(results))
    names = [Path(one["signal"]).stem if one["signal"] else "none" for one in results for _ in one["selections"]]
    click.echo(plain_table(["signal file", *heads], [[name, *line] for name, line in zip(names, lines)]))


def with_the_other_cut(found, options, seed):
    """Search the scores of a search again, with a threshold that follows the mass."""
    tails = options["tails"] or found.configuration["options"]["tails"]
    again = options | {"cut": "mass", "tails": tails, "folds": None, "seed": seed}
    return search(found.scores, found.events, **again)


if __name__ == "__main__":
    main()
