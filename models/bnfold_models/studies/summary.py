"""What does a reader of a study get? A page of Markdown, its figure, its curves and its models."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from matplotlib.figure import Figure

from bnfold_models.studies.curves import Finished, write_csv
from bnfold_models.studies.figures import save_figure
from bnfold_models.studies.folds import BATCHES, Fold, fold_all
from bnfold_models.studies.running import Workshop, file_name, keep_models


@dataclass(frozen=True, slots=True)
class Study:
    """What a study found, before it is written down."""

    name: str
    title: str
    about: str
    """What was done, in a few sentences."""
    runs: Sequence[Finished]
    figure: Figure
    caption: str
    findings: Sequence[str]
    """Sentences that were computed from the numbers."""
    sections: Sequence[str] = ()
    """More Markdown: tables, explanations."""
    models: dict[str, Path] = field(default_factory=dict)
    """What to fold beside the runs' own models, by label; they lie in the study's folder."""
    batches: Sequence[int] = BATCHES
    note: str = ""
    """What there is to say about the table of folds."""


def write(study: Study, shop: Workshop) -> Path:
    """Everything into the study's folder; the page's path."""
    folder = shop.folder / study.name
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(study.runs, folder / "curves.csv")
    save_figure(study.figure, folder)
    keep_models(study.runs, folder)
    models = {run.label: folder / f"{file_name(run.label)}.onnx" for run in study.runs}
    folds = fold_all(
        models | study.models,
        folder,
        shop.shelf,
        budget_s=shop.budget_s,
        batches=study.batches,
    )
    page = folder / "summary.md"
    page.write_text(_page(study, folds, shop), encoding="utf-8")
    return page


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accuracies(runs: Sequence[Finished]) -> str:
    """Where each run ended."""
    rows = [
        [
            run.label,
            str(run.recipe.options.epochs),
            f"{run.history[-1].train.loss:.4f}",
            f"{run.last.loss:.4f}",
            f"{100 * run.last.accuracy:.2f}",
        ]
        for run in runs
    ]
    header = ("run", "epochs", "training loss", "test loss", "test accuracy (%)")
    return table(header, rows)


def fold_table(folds: Sequence[Fold], batches: Sequence[int]) -> str:
    """BN nodes, errors against float64 and speedups: a row for each model with a BN."""
    header = ["model", "BN nodes", "error of the original", "of the folded"]
    decomposed = any(fold.affines[0] > fold.normalizations[0] for fold in folds)
    if decomposed:
        header.insert(2, "foldable nodes (parts of BN, biases)")
    header += [f"speedup at batch {batch}" for batch in batches]
    return table(header, [_fold_row(fold, decomposed, len(batches)) for fold in folds])


def _fold_row(fold: Fold, decomposed: bool, batches: int) -> list[str]:
    parts = [f"{fold.affines[0]} → {fold.affines[1]}"] if decomposed else []
    if not fold.timings:  # nothing was folded, so nothing was proven or timed
        nodes = f"{fold.normalizations[0]} → {fold.normalizations[1]}"
        return [fold.label, nodes, *parts, *["unchanged"] * (2 + batches)]
    return [
        fold.label,
        f"{fold.normalizations[0]} → {fold.normalizations[1]}",
        *parts,
        f"{fold.original_error:.1e}",
        f"{fold.folded_error:.1e}",
        *(
            f"×{t.speedup:.2f} [{t.low:.2f}, {t.high:.2f}]{'' if t.significant else ' (as fast)'}"
            for t in fold.timings
        ),
    ]


def _page(study: Study, folds: Sequence[Fold], shop: Workshop) -> str:
    data = shop.dataset
    command = f"python -m bnfold_models {study.name} --data {shop.setting.data}"
    if shop.setting.epochs:
        command += f" --epochs {shop.setting.epochs}"
    if shop.keras:
        command += " --keras"
    parts = [
        f"# {study.title}",
        study.about,
        f"Data: {data.name}, {len(data.train):,} images to train on and {len(data.test):,} to "
        f"test on, {' × '.join(map(str, data.image_shape))}. Seed {shop.setting.seed}. Networks "
        f"defined, trained and exported by {'Keras' if shop.keras else 'PyTorch'}.",
        f"![{study.title}](figure.png)",
        f"*{study.caption}*",
        "## What the numbers say",
        "\n".join(f"- {finding}" for finding in study.findings),
        *study.sections,
        "## Trainings",
        accuracies(study.runs),
        f"Every epoch is in [curves.csv](curves.csv). Again: `{command} --seed "
        f"{shop.setting.seed}`. ({_versions(shop.keras)})",
        "## What folding leaves of it",
        *_folds(study, folds),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _folds(study: Study, folds: Sequence[Fold]) -> list[str]:
    if not folds:
        return ["No model here has anything to fold."]
    kept = sorted({reason for fold in folds for reason in fold.reasons})
    words = (
        "Errors are the largest relative ones against a float64 evaluation of the original. "
        "Speedups are medians of paired times, original over folded, with 95 % intervals, at the "
        'default level of ONNX Runtime on one thread; "as fast" is what the original shows '
        "against itself too."
    )
    stays = f"What stays does so because of {', '.join(kept)}." if kept else ""
    return [
        " ".join(filter(None, [study.note, words, stays])),
        fold_table(folds, study.batches),
    ]


def _versions(keras: bool) -> str:
    libraries = ["torch", "onnx", "onnxruntime", "numpy", *(["keras"] if keras else [])]
    return f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {version(name)}" for name in libraries
    )
