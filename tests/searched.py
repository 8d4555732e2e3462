"""A search on disk whose trials follow a known law, for tests of what is done with results."""

import json

import numpy as np


def law(hyperparameters, epochs):
    """Both figures of merit: the learning rate decides nearly all of the first, alpha trades it against the second."""
    off = np.log10(hyperparameters["learning_rate"]) + 3
    reconstruction = 0.5 + 0.3 * off**2 + 0.1 * np.log10(hyperparameters["alpha"]) / epochs
    return {"reconstruction": float(reconstruction), "sculpting": float(0.5 / hyperparameters["alpha"] ** 0.2)}


def write_search(folder, trials=30, objective="reconstruction+10*sculpting", asked=None, failed=(), law=law, seed=0):
    """Write `trials` finished ones of a search, of which `failed` by place have failed; returns the folder."""
    from tuning.objectives import Objective

    rng, parsed = np.random.default_rng(seed), Objective.parse(objective)
    (folder / "trials").mkdir(parents=True)
    told = {"model": "vae", "trials": asked or trials, "objective": objective, "seed": 3, "max_epochs": 9}
    (folder / "search.json").write_text(json.dumps(told))
    before = {}
    for number in range(trials):
        name, first = f"{number:03d}", 1
        hyperparameters = {
            "learning_rate": float(10 ** rng.uniform(-5, -1)),
            "alpha": float(10 ** rng.uniform(1, 4)),
            "units": [64] * int(rng.integers(1, 4)),
            "scaling": str(rng.choice(["maxabs", "standard"])),
            "batch_size": 500,
        }
        promoted = f"{number - 3:03d}" if number % 4 == 3 and f"{number - 3:03d}" in before else None
        if promoted:
            hyperparameters, first = before[promoted], 4
        epochs = 9 if promoted else 3
        found = law(hyperparameters, epochs)
        metrics = {name: found[name] for name in parsed.weights} if number not in failed else {}
        if metrics:
            metrics["objective"] = parsed._one(metrics)
            before[name] = hyperparameters
        record = {
            "trial": name, "status": "COMPLETED" if metrics else "FAILED", "objective": metrics.get("objective"),
            "metrics": metrics, "hyperparameters": hyperparameters, "initial_epoch": first - 1, "epochs": epochs,
            "bracket": 1, "round": int(bool(promoted)), "promoted_from": promoted, "seconds": 1.5,
            "message": None if metrics else "ResourceExhaustedError: out of memory",
        }  # fmt: skip
        (folder / "trials" / f"{name}.json").write_text(json.dumps(record))
        rows = [
            {"phase": "main", "epoch": e - 1, "loss": 2 / e, "val_loss": 1 + 1 / e} for e in range(first, epochs + 1)
        ]
        if metrics:
            (folder / "trials" / f"{name}.history.json").write_text(json.dumps({"rows": rows, "members": []}))
    return folder
