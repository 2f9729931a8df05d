"""What does a report say in words? Pure functions from reports to lines; no terminal here."""

from bnfold_cli.render.fleet import fleet, model
from bnfold_cli.render.folds import inspect
from bnfold_cli.render.gates import baseline, gate
from bnfold_cli.render.outcome import optimize
from bnfold_cli.render.proof import audit, verify
from bnfold_cli.render.reasons import reasons
from bnfold_cli.render.recalibration import recalibrate
from bnfold_cli.render.speed import bench

__all__ = [
    "audit",
    "baseline",
    "bench",
    "fleet",
    "gate",
    "inspect",
    "model",
    "optimize",
    "reasons",
    "recalibrate",
    "verify",
]
