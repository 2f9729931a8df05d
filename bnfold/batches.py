"""Which sizes does a batch of so many mean? Those of the dimension that inputs share in front."""

from __future__ import annotations

import onnx

from bnfold.errors import InputError


def batch_dims(model: onnx.ModelProto, batch: int) -> dict[str, int]:
    """The symbol in front of each input that has one, at this size.

    Raises InputError for a size below one, and where no input leaves its first size open by name.
    """
    if batch < 1:
        raise InputError(f"a batch of {batch} holds nothing", "give sizes of 1 or more")
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in given]
    fronts = [dims[0] for port in inputs if (dims := port.type.tensor_type.shape.dim)]
    symbols = {dim.dim_param for dim in fronts if dim.HasField("dim_param") and dim.dim_param}
    if not symbols:
        names = ", ".join(port.name for port in inputs) or "it has no inputs"
        raise InputError(
            f"the model has no named open dimension in front of an input ({names})",
            "leave the batch out, and give shapes by --input NAME=8x3x224x224 where they are open",
        )
    return dict.fromkeys(sorted(symbols), batch)
