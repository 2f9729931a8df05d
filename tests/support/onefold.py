"""The smallest network with a fold in it, where a test is about what runs it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import parser

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[N,2,3] x) => (float[N,2,3] y)
<float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 2}, float[2] zero = {0, 0}> {
  h = Conv(x, w)
  y = BatchNormalization(h, one, zero, zero, one)
}
"""
FEEDS = {"x": np.ones((1, 2, 3), np.float32)}


def network() -> onnx.ModelProto:
    """`y[N,2,3]` of `x[N,2,3]`, a convolution and its normalization."""
    return parser.parse_model(TEXT)
