"""The commands, one a file: options in, a library call, a renderer out, an exit code."""

from bnfold_cli.commands.bench import bench
from bnfold_cli.commands.explain import explain
from bnfold_cli.commands.inspect import inspect
from bnfold_cli.commands.optimize import optimize
from bnfold_cli.commands.recalibrate import recalibrate
from bnfold_cli.commands.report import report
from bnfold_cli.commands.sweep import sweep
from bnfold_cli.commands.verify import verify

COMMANDS = (optimize, inspect, verify, bench, explain, report, recalibrate, sweep)
"""In the order of the help."""
