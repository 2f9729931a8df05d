"""Why was something not folded? Every "no" has a code, a slug and a sentence."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """A stop of the calculus: `code` is stable, `slug` is the name people use, `help` one line."""

    TRAINING_MODE = ("BNF101", "training-mode", "the node uses the statistics of the batch")
    NOT_CONSTANT = ("BNF102", "not-constant", "a parameter is computed at run time")
    BAD_STATISTIC = ("BNF103", "bad-statistic", "a statistic is negative, zero or not finite")
    KEPT_BY_REQUEST = ("BNF104", "kept-by-request", "the caller asked to keep this node")
    NOT_EVALUATED = (
        "BNF105",
        "not-evaluated",
        "a parameter follows from constants, and is not computed here",
    )
    GRAPH_OUTPUT = ("BNF201", "graph-output", "a tensor that would change is a model output")
    SHARED_VALUE = ("BNF202", "shared-value", "a tensor that would change has another reader")
    OPAQUE_OP = ("BNF203", "opaque-op", "an operator neither absorbs the affine nor carries it")
    NO_PRODUCER = ("BNF204", "no-producer", "the walk reached an input of the graph")
    NOT_HOMOGENEOUS = ("BNF205", "not-homogeneous", "an operator carries a scale but no shift")
    NEGATIVE_SCALE = ("BNF206", "negative-scale", "an operator needs a scale that is positive")
    CHANNEL_LOST = (
        "BNF207",
        "channel-lost",
        "an operator mixes what the affine tells apart",
    )
    UNKNOWN_SHAPE = ("BNF208", "unknown-shape", "a rank or size that matters is not known")
    CAPTURED = ("BNF209", "captured", "a tensor that would change is read inside a subgraph")
    UNREAD = ("BNF210", "unread", "nothing reads the value, so nothing can take the affine in")
    ZERO_SCALE = ("BNF211", "zero-scale", "the fold would have to divide by a zero scale")
    SEARCH_LIMIT = ("BNF212", "search-limit", "the walk was ended before it was complete")
    CONFLICT = ("BNF213", "conflict", "two paths ask different things of one operator")
    TOO_LARGE = ("BNF214", "too-large", "the affine would hold far more numbers than the model")
    CONTRADICTION = (
        "BNF215",
        "contradiction",
        "a node does not fit what it reads, so that no runtime can run it",
    )
    GEMM_BIAS = ("BNF301", "gemm-bias", "the product has no bias that can take the shift")
    PADDED_SHIFT = (
        "BNF302",
        "padded-shift",
        "zero padding is read that the shift would move",
    )
    UNSUPPORTED_DTYPE = ("BNF303", "unsupported-dtype", "the weight is not of a float type")
    OVERFLOW = ("BNF304", "overflow", "a folded parameter or value is beyond what its type holds")
    UNDERFLOW = ("BNF305", "underflow", "too much of a folded weight would be lost to underflow")
    WRONG_AXIS = (
        "BNF306",
        "wrong-axis",
        "the affine differs along an axis of no weight",
    )
    NO_GAIN = ("BNF307", "no-gain", "the fold would not lower the work")
    QUANTIZED = ("BNF308", "quantized", "a quantized weight cannot hold the factor exactly")
    ILL_CONDITIONED = ("BNF309", "ill-conditioned", "the fold would cancel most digits")
    INEXACT = ("BNF310", "inexact", "a step looks at exact numbers that the fold would round")
    NOT_EQUIVALENT = (
        "BNF401",
        "not-equivalent",
        "the proof failed, the fold was taken back",
    )

    def __init__(self, code: str, slug: str, help: str) -> None:
        self.code = code
        self.slug = slug
        self.help = help

    @classmethod
    def of(cls, code: str) -> Reason:
        """The reason with this code or slug; KeyError when there is none."""
        for reason in cls:
            if code.upper() == reason.code or code.lower() == reason.slug:
                return reason
        raise KeyError(code)


class Refusal(Exception):
    """A rule's "no". Not an error: the search catches it and the report shows it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
