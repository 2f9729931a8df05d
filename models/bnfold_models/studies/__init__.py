"""Which studies are there? By name, each imported when it is run."""

from __future__ import annotations

STUDIES = {
    "speedup": "Does BN speed training up?",
    "layers": "What do more BN layers do?",
    "optimizer": "BN and an adaptive optimizer",
    "batch-size": "BN and the size of the batch",
    "statistics": "Which moving statistics?",
    "placement": "Before or after the activation, and the useless bias",
    "shift": "Internal covariate shift, seen",
    "networks": "The Fashion-MNIST perceptron, and images of cats and dogs",
}
"""Name -> its title. Each is a module of this package with a function `run`."""
