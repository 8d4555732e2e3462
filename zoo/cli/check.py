"""The command `zoo check`: tests a model, of the zoo or of another package, against the contract of all models."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import os
import sys
import traceback

import click

from pipelines.errors import InputError
from pipelines.events.files import reason_of
from zoo.cli.terminal import JSON, quiet_zoo, say, setting, stdout_to_stderr


@click.command()
@click.argument("model")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Hyperparameter of the small model that is trained."
)
@click.option("--claim", "pattern", default="*", metavar="PATTERN", help="Check the claims that match this alone.")
@JSON
def check(model, settings, pattern, as_json):
    """Check that a model keeps the contract of all models. That is of seeds, columns, labels, runs, export and what else it says.

    MODEL is a name of the zoo, or a class of yours as my_package.my_module.MyModel. It is trained a few times on a small
    sample, which takes minutes. The exit code is 1 if a claim does not hold.
    """
    zoo = quiet_zoo()
    from zoo import conformance

    subject = model if model in zoo.names() else model_at(model)

    def told(outcome):
        if not as_json:
            click.echo(line(outcome))

    with stdout_to_stderr() if as_json else contextlib.nullcontext():
        outcomes = conformance.check(subject, dict(map(setting, settings)), pattern, told)
    wrong = sum(not outcome.holds for outcome in outcomes)
    result = {"model": model, "claims": len(outcomes), "wrong": wrong, "outcomes": [*map(dataclasses.asdict, outcomes)]}
    say(result, as_json, lambda: f"{model}: {len(outcomes) - wrong} of {len(outcomes)} claims hold")
    if wrong:
        click.get_current_context().exit(1)


def line(outcome) -> str:
    """Return an outcome as a line, with its reason below if it does not hold."""
    return f"{'ok   ' if outcome.holds else 'WRONG'}  {outcome.claim}" + (
        f"\n       {outcome.reason}" if outcome.reason else ""
    )


def model_at(path: str):
    """Return the model class at a dotted path, as my_package.my_module.MyModel; modules of the present folder are found.

    Raises `InputError` if there is no such module or class, or if it is no model of events.
    """
    from zoo import names
    from zoo.base import AnomalyModel

    module_name, _, class_name = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise InputError(f"model {path!r} is not known; expected one of {', '.join(names())}, or my_package.MyModel")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{path}: {error}; expected a class that can be imported, as my_package.MyModel") from None
    except Exception as error:  # noqa: BLE001  of code that is not ours
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{module_name}: cannot be imported ({type(error).__name__}: {reason_of(error)}; line {last.lineno} of {last.filename})"
        ) from None
    finally:
        sys.path.remove(os.getcwd())
    if not hasattr(module, class_name):
        near = ", ".join(difflib.get_close_matches(class_name, vars(module), 3))
        raise InputError(f"{path}: {module_name} has no {class_name}{f'; near: {near}' if near else ''}")
    found = getattr(module, class_name)
    if not (isinstance(found, type) and issubclass(found, AnomalyModel)):
        raise InputError(f"{path}: is {type(found).__name__}, expected a subclass of zoo.AnomalyModel")
    return found
