"""Parallel branches that are one linear operator: a train-time block becomes its deploy form."""

from bnfold.branches.merging import Merging

__all__ = ["Merging"]
