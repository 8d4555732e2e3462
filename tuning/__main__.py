"""`python -m tuning` is the command `tune`."""

from tuning.cli import main

main(prog_name="tune")
