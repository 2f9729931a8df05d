"""All that is known of operators. Importing this fills the tables in `registry`."""

from bnfold.rules import (  # noqa: F401
    activation,
    convolution,
    elementwise,
    movement,
    normalization,
    pooling,
    product,
    quantized,
    recurrent,
    reduction,
    resampling,
    reshaping,
    sources,
)
