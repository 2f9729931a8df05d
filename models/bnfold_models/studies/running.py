"""How is a study run? Data, trainings that are done once, and a bar that shows how far it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bnfold_models.dataset import Dataset
from bnfold_models.export import save
from bnfold_models.network import Network
from bnfold_models.recipes import Recipe, make
from bnfold_models.studies.curves import Finished, read_history, write_history
from bnfold_models.studies.plans import Plan, Setting
from bnfold_models.studies.resuming import Shelf, fingerprint
from bnfold_models.train import Epoch

MODEL, HISTORY, WATCHED = "model.onnx", "history.json", "watched.npz"


class Probe(Protocol):
    """Watches a network while it is trained."""

    def watching(self, network: Network) -> AbstractContextManager[None]:
        """Entered while the network is trained, and no longer: an export would be watched too."""

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What was seen."""


@dataclass
class Workshop:
    """Where the studies of one call are done: they share data and trainings."""

    folder: Path
    setting: Setting
    dataset: Dataset
    keras: bool = False
    """Whether networks are defined, trained and exported by Keras."""
    budget_s: float = 2.0
    """How long each timing of a fold may take."""
    datasets: dict[str, Dataset] = field(default_factory=dict)
    """Other data by name, loaded once."""

    @cached_property
    def shelf(self) -> Shelf:
        """What was finished earlier, in this folder."""
        return Shelf(self.folder / "runs")

    @cached_property
    def _fingerprints(self) -> dict[int, str]:
        return {}

    def train(
        self,
        plan: Plan,
        *,
        probe: Callable[[], Probe] | None = None,
        dataset: Dataset | None = None,
    ) -> list[Finished]:
        """Every row of a plan, trained now or earlier.

        `probe` makes one for each training; its name is part of what a run is known by.
        """
        epochs = sum(recipe.options.epochs for recipe in plan.values())
        with tqdm(total=epochs, unit="epoch", leave=False, disable=None) as bar:
            return [
                self._finished(label, recipe, probe, dataset or self.dataset, bar)
                for label, recipe in plan.items()
            ]

    def _finished(
        self,
        label: str,
        recipe: Recipe,
        probe: Callable[[], Probe] | None,
        dataset: Dataset,
        bar: Any,
    ) -> Finished:
        bar.set_description(label)
        place = self.shelf.place(recipe.network, self._key(recipe, probe, dataset))
        if place.exists():
            bar.update(recipe.options.epochs)
        else:
            with self.shelf.making(place) as folder:
                self._work(recipe, probe() if probe else None, dataset, folder, bar)
        watched: dict[str, NDArray[Any]] = {}
        if (place / WATCHED).exists():
            with np.load(place / WATCHED) as file:
                watched = dict(file)
        history = read_history(place / HISTORY)
        return Finished(label, recipe, history, place / MODEL, watched)

    def _key(
        self, recipe: Recipe, probe: Callable[[], Probe] | None, dataset: Dataset
    ) -> dict[str, Any]:
        """All that decides a run; other versions of the libraries round differently."""
        known = self._fingerprints
        return {
            "recipe": asdict(recipe),
            "data": known.setdefault(id(dataset), fingerprint(dataset)),
            "probe": getattr(probe, "__qualname__", None),
            "versions": {name: version(name) for name in self._libraries},
        }

    @property
    def _libraries(self) -> tuple[str, ...]:
        return ("torch", "onnx", "keras") if self.keras else ("torch", "onnx")

    def _work(
        self, recipe: Recipe, probe: Probe | None, dataset: Dataset, folder: Path, bar: Any
    ) -> None:
        """Train, and leave model, history and what was watched in the folder."""

        def after_epoch(epoch: Epoch) -> None:
            bar.set_postfix(accuracy=f"{epoch.test.accuracy:.3f}", refresh=False)
            bar.update()

        if self.keras:
            from bnfold_models.studies.kerasing import make_by_keras

            model, history = make_by_keras(recipe, dataset, after_epoch=after_epoch)
        else:
            watch = {"watch": probe.watching} if probe else {}
            made = make(recipe, dataset, after_epoch=after_epoch, **watch)
            model, history = made.model, made.history
        save(model, folder / MODEL)
        write_history(history, folder / HISTORY)
        if probe is not None:
            np.savez(folder / WATCHED, **probe.arrays())


def keep_models(runs: Sequence[Finished], folder: Path) -> None:
    """Copy the trained models to where the study's reader looks, by their labels."""
    for run in runs:
        shutil.copyfile(run.model, folder / f"{file_name(run.label)}.onnx")


def file_name(label: str) -> str:
    """A label as a file's name: "relu, 4 BN" is "relu-4-bn"."""
    return "-".join(label.lower().replace(",", " ").replace("(", " ").replace(")", " ").split())
