"""Plans name networks that exist, and the shipped files are rows of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bnfold_models import REGISTRY
from bnfold_models.data import Dataset
from bnfold_models.recipes import DIGITS_OPTIONS, MNIST_OPTIONS
from bnfold_models.studies import STUDIES, plans
from bnfold_models.studies.plans import Setting
from bnfold_models.studies.probes import Gradients
from bnfold_models.studies.running import Workshop, file_name
from bnfold_models.trained import RECIPES, remake

PLANS = (
    plans.speedup,
    plans.layers,
    plans.optimizer,
    plans.batch_size,
    plans.statistics,
    plans.placement,
    plans.shift,
    plans.fashion,
    plans.images,
)


@pytest.mark.parametrize("family", ["digits", "mnist"])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
def test_rows_are_networks_with_files_of_their_own(plan, family: str) -> None:
    rows = plan(Setting(family=family))
    assert rows
    assert {recipe.network for recipe in rows.values()} <= set(REGISTRY)
    assert len({file_name(label) for label in rows}) == len(rows)
    assert all(re.fullmatch(r"[a-z0-9-]+", file_name(label)) for label in rows)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_module(name: str) -> None:
    folder = Path(plans.__file__).parent
    assert (folder / f"{name.replace('-', '_')}.py").exists()


def test_the_textbook_s_settings_hold_where_the_data_is_mnist() -> None:
    """784-512-256-128-64-10, SGD, batches of 128, 10 epochs; the small data has its own."""
    row = plans.speedup(Setting(data="somewhere", family="mnist"))["sigmoid, 1 BN"]
    assert (row.network, row.options) == ("mnist-sigmoid-bn1", MNIST_OPTIONS)
    assert (MNIST_OPTIONS.epochs, MNIST_OPTIONS.batch_size) == (10, 128)
    assert plans.speedup(Setting())["sigmoid, 1 BN"].options == DIGITS_OPTIONS


def test_epochs_and_seed_of_the_caller_reach_every_row() -> None:
    setting = Setting(epochs=3, seed=5)
    for plan in PLANS:
        for recipe in plan(setting).values():
            assert (recipe.options.epochs, recipe.options.seed, recipe.seed) == (3, 5, 5)


def test_shipped_files_are_rows_of_studies() -> None:
    """At the studies' own settings: same network, data, options and seed."""
    rows = {recipe.network: recipe for plan in PLANS for recipe in plan(Setting()).values()}
    textbook = plans.placement(Setting())
    for name, recipe in RECIPES.items():
        assert recipe in (*rows.values(), *textbook.values(), *plans.layers(Setting()).values())
        assert name == recipe.network


def test_a_study_makes_the_bytes_of_the_shipped_file(tmp_path: Path, digits: Dataset) -> None:
    """The file in a study's folder is the one that `trained` writes, also where it was watched."""
    shop = Workshop(tmp_path, Setting(), digits)
    (run,) = shop.train({"relu, before": Setting().textbook("relu")}, probe=Gradients)
    (path,) = remake(tmp_path, ["textbook-relu"])
    assert run.model.read_bytes() == path.read_bytes()
