"""Sentences say what the numbers say, and say so when these say nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnfold_models.recipes import Recipe
from bnfold_models.studies import batch_size, layers, shift
from bnfold_models.studies.curves import Finished
from bnfold_models.studies.findings import differs, epochs_to, race
from bnfold_models.train import Epoch, Score, TrainOptions


def finished(*accuracies: float, label: str = "run") -> Finished:
    history = tuple(
        Epoch(number, Score(1.0, a), Score(1.0, a)) for number, a in enumerate(accuracies, 1)
    )
    return Finished(label, Recipe("n", "d", TrainOptions()), history, Path("m.onnx"), {})


FAST, SLOW = finished(0.5, 0.9, 0.95), finished(0.2, 0.3, 0.94)


def test_the_faster_one_is_named() -> None:
    text = race("relu", FAST, SLOW, 10_000)
    assert "90.2 % is reached after 3 epochs with BN and after 3 epochs" in text
    text = race("relu", finished(0.9, 0.93, 0.95), SLOW, 10_000)
    assert "after 2 epochs with BN and after 3 epochs without" in text
    assert text.endswith("Here BN speeds training up.")


def test_the_other_way_round_is_said_too() -> None:
    text = race("relu", SLOW, finished(0.9, 0.93, 0.95), 10_000)
    assert text.endswith("Here BN does **not** speed training up.")


def test_a_draw_is_a_draw() -> None:
    assert "makes no difference" in race("relu", FAST, FAST, 10_000)


def test_a_goal_that_one_never_reaches() -> None:
    text = race("relu", FAST, finished(0.1, 0.1, 0.1), 10_000)
    assert "never without" in text
    assert "cannot tell apart" not in text


@pytest.mark.parametrize(("images", "expected"), [(100, False), (100_000, True)])
def test_few_images_tell_little_apart(images: int, expected: bool) -> None:
    """A difference of one percent: chance among 100 images, none among 100,000."""
    assert differs(0.95, 0.94, images) is expected


def test_the_first_epoch_counts() -> None:
    assert epochs_to(FAST, 0.9) == 2
    assert epochs_to(FAST, 0.99) is None


def test_more_layers_that_help_and_that_do_not() -> None:
    better = [finished(0.1, 0.5, 0.9), finished(0.2, 0.9, 0.91), finished(0.9, 0.95, 0.95)]
    first, second = layers.told("relu", better, 1_000_000)
    assert "that of 2 BN" in first
    assert "No further BN slows it down" in second
    worse = layers.told("relu", better[::-1], 1_000_000)
    assert "that of 0 BN" in worse[0]
    assert "not always faster" in worse[1]


def test_a_batch_too_small_harms() -> None:
    kinds = {1: [finished(0.5), *[FAST] * 3], 0: [finished(0.9), *[FAST] * 3]}
    spread = {count: [(0.25, 0.1), (0.02, 0.1), (0.01, 0.1), (0.001, 0.1)] for count in (1, 0)}
    told = batch_size.told(kinds, spread, [0.25, 0.02, 0.01, 0.001], 10_000)
    assert told[0].endswith("BN harms.")
    assert "as those of independent images do" in told[-1]
    wrong = batch_size.told(kinds, spread, [0.5, 0.02, 0.01, 0.001], 10_000)
    assert "otherwise than expected" in wrong[-1]


def test_shift_is_measured_in_widths() -> None:
    """A median that goes from 0 to 3, where the middle half is 2 wide."""
    still = np.array([[-2, -1, 0, 1, 2]] * 4, float)
    moving = still + np.arange(4)[:, np.newaxis]
    assert shift.wander(moving) == pytest.approx(1.5)
    told = shift.told({"without BN": moving, "4 BN": still}, ((0, 1), (0, 1)))
    assert "holds it in place" in told[0]
    told = shift.told({"without BN": still, "4 BN": moving}, ((0, 1), (0, 1)))
    assert "does **not**" in told[0]
