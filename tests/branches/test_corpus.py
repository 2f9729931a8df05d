"""Networks of the corpus as their libraries train them: each block becomes its deploy form.

The counts are those of timm's own `reparameterize_model` where it has the network, and of the
papers' deploy forms otherwise.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest

import bnfold

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "zoo"

DEPLOYED = {
    "hand__acnet_vgg_train__ts17": 5,
    "hand__mobileone_s0_like_train__ts17": 25,
    "hand__replknet_train__ts17": 24,
    "timm__fastvit_ma36__ts17_dyn": 151,
    "timm__fastvit_mci0__ts_cf17": 95,
    "timm__fastvit_s12__dynamo_opt18": 60,
    "timm__fastvit_s12__ts17": 60,
    "timm__fastvit_sa12__ts_kiai9": 59,
    "timm__fastvit_t8__ts17_dyn": 52,
    "timm__lcnetv2_base__ts17_dyn": 46,
    "timm__mobileone_s0__ts17": 43,
    "timm__mobileone_s1__ts_cf17": 43,
}
"""Convolutions of the deploy form."""

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here"),
]


def filled(name: str) -> onnx.ModelProto:
    """A network of the corpus with random weights."""
    spec = importlib.util.spec_from_file_location("fill", CORPUS / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill(CORPUS / f"{name}.onnx.gz", 1)


@pytest.mark.parametrize("name", DEPLOYED)
def test_a_network_has_the_operators_of_its_deploy_form(name: str) -> None:
    """One convolution a block, no batch normalization anywhere."""
    result = bnfold.fold(filled(name))
    count = Counter(node.op_type for node in result.model.graph.node)
    assert count["Conv"] == DEPLOYED[name]
    assert count["BatchNormalization"] == 0
    assert all(site.verdict == "folded" for site in result.normalizations)
    assert not bnfold.fold(result.model).merged
