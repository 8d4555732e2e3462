"""What the command lines share: options, one-line errors, results as text or JSON, progress."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import sys
import tempfile
import traceback
import warnings

import click

from pipelines import memory
from pipelines.arguments import command_line
from pipelines.errors import InputError, last_read
from pipelines.events.files import reason_of
from pipelines.jobs.batch_systems import SYSTEMS
from pipelines.jobs.executors import Batch, RunningScheduler, cores
from pipelines.provenance import command, versions
from pipelines.quiet import hushed
from zoo.cli.streams import forgiving
from zoo.settings import parse_setting

setting = parse_setting  # by its former name


def with_options(options):
    """Return a decorator that adds click options in their order."""

    def add(command):
        for option in reversed(options):
            command = option(command)
        return command

    return add


class Finite(click.ParamType):
    """A number that is not infinite, as JSON has them."""

    name = "float"

    def convert(self, value, param, ctx):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{param.opts[0]} {value}: expected a finite number, such as 14000")
        return number


MASS_RANGE = click.option(
    "--mass-range", type=Finite(), nargs=2, metavar="LOW HIGH", help="Use events with LOW <= mass < HIGH, GeV."
)
SEED = click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Fixes everything random."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), default=cores, show_default="all cores", help="Processes on this machine."
)
_SCHEDULER = (
    click.option("--scheduler", metavar="ADDRESS", help="Use the workers of a running Dask scheduler instead."),
    *(
        click.option(
            f"--tls-{name}", metavar="FILE", expose_value=False, help=f"With --scheduler tls://...: {about} (PEM).",
            callback=lambda c, p, v: _keep(c, p.name, v),
        )
        for name, about in (
            ("ca-file", "certificate of its authority"), ("cert", "our certificate"), ("key", "our private key")
        )
    ),
    click.option(
        "--cluster", type=click.Choice(SYSTEMS), expose_value=False, callback=lambda c, p, v: _keep(c, "system", v),
        help="Or submit the workers as jobs of a batch system.",
    ),
    click.option(
        "--jobs", type=click.IntRange(min=1), metavar="J", expose_value=False,
        callback=lambda c, p, v: _keep(c, "jobs", v), help="With --cluster: how many jobs; each is a worker.",
    ),
    click.option(
        "--cluster-config", metavar="FILE", expose_value=False, callback=lambda c, p, v: _keep(c, "path", v),
        help="With --cluster: YAML with queue, walltime, memory, image and so on (see pipelines.jobs.batch_systems).",
    ),
)  # fmt: skip


def _keep(context: click.Context, name: str, value: object) -> None:
    context.meta[f"{__name__}.{name}"] = value


def SCHEDULER(command):
    """Give a command the options that choose its workers. It gets one argument `scheduler`: None, an address, or a `Batch`."""

    @functools.wraps(command)
    def wrapped(*args, scheduler=None, **options):
        kept = click.get_current_context().meta
        found = workplace(scheduler, *(kept.get(f"{__name__}.{name}") for name in ("system", "jobs", "path")))
        files = {name: kept.get(f"{__name__}.tls_{name}") for name in ("ca_file", "cert", "key")}
        if any(files.values()):
            if not isinstance(found, str):
                raise InputError("--tls-ca-file, --tls-cert and --tls-key belong to --scheduler tls://HOST:PORT")
            found = RunningScheduler(found, **files)
        return command(*args, scheduler=found, **options)

    for option in reversed(_SCHEDULER):
        wrapped = option(wrapped)
    return wrapped


def workplace(
    scheduler: str | Batch | None = None, cluster: str | None = None, jobs: int | None = None, config=None
) -> str | Batch | None:
    """Return what `pipelines.jobs.executors.open_workers` takes as its scheduler; raises `InputError` if they do not go together.

    >>> workplace("tcp://node7:8786")
    'tcp://node7:8786'
    >>> workplace(cluster="slurm", jobs=4).system
    'slurm'
    """
    if cluster is None:
        if jobs is not None or config is not None:
            raise InputError(
                f"{'--jobs' if jobs is not None else '--cluster-config'} belongs to --cluster slurm or htcondor"
            )
        return scheduler
    if scheduler is not None:
        raise InputError("--scheduler and --cluster are two answers to who works; choose one")
    if jobs is None:
        raise InputError(f"--cluster {cluster} needs --jobs, how many jobs to submit")
    return Batch.read(cluster, jobs, config)


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")


# what Click raises for a group without arguments; its older versions print the help themselves
NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())


SOFTWARE = 70  # exit code of an internal fault, EX_SOFTWARE of BSD's sysexits
TRACEBACK = click.Option(
    ["--traceback"], is_flag=True, hidden=True, expose_value=False, is_eager=True,
    callback=lambda context, parameter, value: _keep(context, "traceback", value or _shows_traceback(context)),
)  # fmt: skip


LOGGERS = ("pipelines", "zoo", "tuning")
LEVELS = ("debug", "info", "warning", "error")


class Messages(logging.Handler):
    """Shows on stderr what the modules of these packages log."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"{record.levelname.capitalize()}: {record.getMessage()}", err=True)


@contextlib.contextmanager
def messages():
    """Show on stderr, while the block runs, what modules log: warnings, or all from the level of ZOO_LOG on, such as info."""
    level, shows = os.environ.get("ZOO_LOG") or "warning", Messages()
    if level.lower() not in LEVELS:
        raise InputError(f"ZOO_LOG={level}: no level of messages; expected one of {', '.join(LEVELS)}")
    with contextlib.ExitStack() as stack:
        for logger in map(logging.getLogger, LOGGERS):
            stack.callback(logger.setLevel, logger.level)
            stack.callback(logger.removeHandler, shows)
            logger.setLevel(level.upper())
            logger.addHandler(shows)
        yield


class OneLine:
    """What answers an error with one line on stderr.

    The exit code is 2 for bad input and where memory ran out, 130 for Ctrl-C, and 70 for what nobody has foreseen, whose traceback is in a file.
    What modules log is shown on stderr, from the level of `ZOO_LOG` on. With `ZOO_TRACEBACK=1`, or `--traceback` after the program's name, tracebacks are on stderr.
    """

    def main(self, *args, **options):
        try:
            with forgiving(), command_line(), messages():
                return super().main(*args, **options)
        except InputError as error:  # of the environment; others are told where a command is invoked
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)
        except OSError as error:
            with contextlib.suppress(OSError):
                click.echo(f"Error: {error.filename}: cannot be written ({error.strerror})", err=True)
            sys.exit(2)

    def get_params(self, context):
        return [*super().get_params(context), TRACEBACK]

    def parse_args(self, context, arguments):
        try:  # a group reads its own options before it is invoked
            return super().parse_args(context, arguments)
        except NO_ARGUMENTS as error:  # a group alone
            click.echo(error.ctx.get_help())
            context.exit(0)
        except (InputError, click.UsageError) as error:
            _refuse(context, error)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            _report(context, error)

    def invoke(self, context):
        try:
            return super().invoke(context)
        except (InputError, click.UsageError) as error:
            _refuse(context, error)
        except OSError as error:  # a full disk, a name too long, a folder that vanished
            where = error.filename or ("" if _is_somewhere() else "the folder that the command runs in")
            _refuse(context, f"{where}: {error.strerror}" if where else error)
        except KeyboardInterrupt:
            try:
                memory.check_threads()
            except InputError as error:
                _refuse(context, error)
            command = getattr(self, "commands", {}).get(context.invoked_subcommand, self)
            names = {parameter.name for parameter in command.params}
            how = " with --resume" if "resume" in names else ""  # what workers do is kept in chunks, and found again
            advice = (
                f" What is finished is kept; the same command{how} goes on." if {"resume", "workers"} & names else ""
            )
            click.echo(f"\nInterrupted.{advice}", err=True)
            context.exit(130)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except MemoryError as error:
            _refuse(context, f"memory ran out: {reason_of(error)}{memory.hint()}")
        except Exception as error:
            _report(context, error)


def _shows_traceback(context: click.Context) -> bool:
    return bool(context.meta.get(f"{__name__}.traceback") or os.environ.get("ZOO_TRACEBACK", "0") not in ("", "0"))


def _report(context: click.Context, error: Exception) -> None:
    """Report an unexpected exception in one line, and write its traceback to a file."""
    text = "".join(traceback.format_exception(error))
    if _shows_traceback(context):
        click.echo(text, err=True, nl=False)
    reading = last_read()
    doing = " ".join([context.command_path, *filter(None, [context.invoked_subcommand])])
    what = f"{type(error).__name__}: {reason_of(error)}" if str(error).strip() else type(error).__name__
    click.echo(
        f"Error: {doing}: {what}{f', after {reading} was opened' if reading else ''}; this is a fault of the program; "
        f"the traceback is in {_written(text)}; please report it{memory.hint()}",
        err=True,
    )
    context.exit(SOFTWARE)


def _written(text: str) -> str:
    """Write a traceback with its context to a temporary file that only the user can read; return its path."""
    about = {"command": command(), **versions(["hep-anomaly-zoo", "tensorflow", "numpy", "h5py"])}
    try:
        number, path = tempfile.mkstemp(prefix="zoo-traceback-", suffix=".txt")
        with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(f"{name}: {value}\n" for name, value in about.items()) + f"\n{text}")
    except OSError as error:
        return f"no file ({error.strerror}); see it with ZOO_TRACEBACK=1"
    return path


def _is_somewhere() -> bool:
    """Return whether the folder that this process runs in is there still."""
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _refuse(context: click.Context, error: Exception | str) -> None:
    if isinstance(error, Exception) and _shows_traceback(context):
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    if isinstance(error, click.UsageError):  # which Click says in four lines
        where = (error.ctx or context).command_path
        error = f"{error.format_message().rstrip('.')}; see `{where} --help`"
    click.echo(f"Error: {' '.join(str(error).split())}", err=True)
    context.exit(2)


class Command(OneLine, click.Command):
    """A command that stands alone."""


class Commands(OneLine, click.Group):
    """A group of commands."""


def say(value: object, as_json: bool, text) -> None:
    """Print `value` as JSON, or what `text()` gives."""
    click.echo(json.dumps(value, indent=2, allow_nan=False) if as_json else text())


@contextlib.contextmanager
def stdout_to_stderr():
    """Send what libraries print to stderr: stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def check_run(run, preset=None, hyperparameters=None) -> None:
    """Raise `InputError` unless a path may be a run directory, before TensorFlow is imported to read it.

    With `hyperparameters`, names of these, it may be the name of a model that is trained with them too.
    """
    from zoo import declarations, weights

    if weights.is_shipped(run):
        return
    if hyperparameters is not None and not os.path.isdir(run):
        declarations.check_names(str(run), preset, hyperparameters)
    elif not os.path.isfile(os.path.join(run, "config.json")):
        if not os.path.exists(run) and declarations.may_be_model(str(run)):
            return  # the name of a model, of which whoever loads it says what to do
        found = "no config.json in it" if os.path.exists(run) else "no such folder"
        raise InputError(f"{run}: {found}, expected a run directory made by `zoo train` or `tune`{weights.advice(run)}")


def quiet_zoo():
    """Import the zoo without greetings."""
    with hushed():
        try:
            import zoo.keras
        except ImportError as error:  # its message says what to do
            raise InputError(str(error)) from None
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"
    return zoo


_bars: list = []  # that are shown: there can be one display


@contextlib.contextmanager
def progress(what):
    """Show how far something is, below what is shown already; yields a function that is told (done, total or None)."""
    from rich.console import Console
    from rich.progress import Progress

    with contextlib.ExitStack() as stack:
        if not _bars:
            bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
            _bars.append(stack.enter_context(bar))
            stack.callback(_bars.clear)
        bar = _bars[0]
        task = bar.add_task(what, total=None)
        stack.callback(bar.remove_task, task)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def short(value) -> str:
    if isinstance(value, dict):
        return settings_text(value)
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    if len(text) < 100 or isinstance(value, str):
        return text
    return f"{text[:80].rpartition(',')[0]}, ... ({len(value)} in all)"


def settings_text(values) -> str:
    return ", ".join(f"{k} {short(v)}" if not isinstance(v, list) else f"{k} ({short(v)})" for k, v in values.items())
