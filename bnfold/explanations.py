"""What does a reason mean for the one who reads it, and what can be done about it?"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent, fill, indent

from bnfold.reasons import Reason

HEADER = '<ir_version: 10, opset_import: ["": 21]>'
"""What stands before each example; with it onnx.parser.parse_model reads them."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A paragraph, and a small graph in which the reason arises (None: no graph alone does it)."""

    text: str
    example: str | None = None


def explain(code: str) -> str:
    """The explanation of a reason, given by its code or name. KeyError when there is none."""
    reason = Reason.of(code)
    explanation = EXPLANATIONS[reason]
    parts = [f"{reason.code} {reason.slug}", fill(explanation.text, 88)]
    if explanation.example is not None:
        parts += ["A graph in which it happens:", indent(explanation.example, "  ")]
    return parts[0] + "\n" + "\n\n".join(parts[1:])


def to_dict(reason: Reason) -> dict[str, str | None]:
    """A reason and its explanation for JSON."""
    explanation = EXPLANATIONS[reason]
    return {
        "code": reason.code,
        "name": reason.slug,
        "help": reason.help,
        "explanation": " ".join(explanation.text.split()),
        "example": None if explanation.example is None else f"{HEADER}\n{explanation.example}",
    }


def _explained(text: str, example: str | None = None) -> Explanation:
    graph = None if example is None else dedent(example).strip()
    return Explanation(" ".join(text.split()), graph)


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.TRAINING_MODE: _explained(
        """
        The node normalizes by the mean and variance of the batch that it is given, so it is no
        fixed scale and shift, and there is nothing that a weight could take in. Usually the model
        was exported while in training mode: call model.eval() before the export, and export with
        training=TrainingMode.EVAL (PyTorch) or training=False (Keras). Dropout in training mode
        stops a fold in the same way.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] zero = {0, 0}> {
          h = Conv(x, w)
          y, mean, var = BatchNormalization <training_mode = 1> (h, one, zero, zero, one)
        }
        """,
    ),
    Reason.NOT_CONSTANT: _explained(
        """
        A scale, bias, statistic or weight that the fold would have to change is not known before
        the model runs: it is an input of the model or computed from one. If it is an input only
        because the exporter lists weights so, give it a value as an initializer; with
        --keep-overridable such weights count as inputs too, so leave that option out.
        """,
        """
        example (float[2,2,4] x, float[2] scale) => (float[2,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] zero = {0, 0}> {
          h = Conv(x, w)
          y = BatchNormalization(h, scale, zero, zero, one)
        }
        """,
    ),
    Reason.BAD_STATISTIC: _explained(
        """
        The variance plus epsilon is negative or zero, or a parameter is infinite or not a number,
        or the parameters do not have one value a channel. The model gives NaN or infinity there,
        or does not run at all. Look at the parameters of this node: most often the checkpoint was
        damaged, or the training had diverged.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] zero = {0, 0},
         float[2] var = {-1, 1}> {
          h = Conv(x, w)
          y = BatchNormalization(h, one, zero, zero, var)
        }
        """,
    ),
    Reason.KEPT_BY_REQUEST: _explained(
        """
        You named the node's output with --keep (keep= in the library), so it was left alone.
        """
    ),
    Reason.NOT_EVALUATED: _explained(
        """
        A scale, bias, statistic or weight that the fold would have to change follows from
        constants alone, and yet is not known here: an operator on the way to it is not evaluated,
        or what it makes would be too large to hold. A normalization of a weight by its own
        statistics is one too; it is no mistake of the export. Let a tool that evaluates constants
        (onnxslim, or a session of ONNX Runtime that saves its optimized model) do that first.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] zero = {0, 0}> {
          h = Conv(x, w)
          scale = Hardmax(one)
          y = BatchNormalization(h, scale, zero, zero, one)
        }
        """,
    ),
    Reason.GRAPH_OUTPUT: _explained(
        """
        A tensor between the node and the weight is an output of the model, and folding would
        change what comes out there. If nobody needs that output, remove it from the model and
        fold again, for example with onnx.utils.extract_model, naming the outputs to keep.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] h, float[2,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] two = {2, 2}> {
          h = Conv(x, w)
          y = BatchNormalization(h, two, one, one, two)
        }
        """,
    ),
    Reason.SHARED_VALUE: _explained(
        """
        The tensor between the linear operator and this node has another reader. Folding would
        change what that reader sees, and it has no constant that could undo the change. Nothing
        is wrong with the model: this is how networks with skip connections before the
        normalization are built. A copy of the linear operator would free the node, at the price
        of computing it twice, which costs more than the node does.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y, float[2,2,4] z)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] two = {2, 2}> {
          h = Conv(x, w)
          z = Sigmoid(h)
          y = BatchNormalization(h, two, one, one, two)
        }
        """,
    ),
    Reason.OPAQUE_OP: _explained(
        """
        On the way to the next weight stands an operator that is not linear and does not commute
        with a scale and shift either, such as Sigmoid, Softmax or LayerNormalization, or one that
        bnfold has no rule for. If you train the model yourself, put the normalization directly
        after the linear operator, before the activation: then it folds.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] two = {2, 2}> {
          h = Conv(x, w)
          a = Sigmoid(h)
          b = BatchNormalization(a, two, one, one, two)
          y = Sigmoid(b)
        }
        """,
    ),
    Reason.NO_PRODUCER: _explained(
        """
        The value that is normalized comes from an input of the model, so there is no weight
        before it, and no weight after it could take it in either. You could apply the same scale
        and shift to your data before you feed it, and remove the node.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2] one = {1, 1}, float[2] two = {2, 2}> {
          b = BatchNormalization(x, two, one, one, two)
          s = Add(b, x)
          y = Sigmoid(s)
        }
        """,
    ),
    Reason.NOT_HOMOGENEOUS: _explained(
        """
        On the way stands an operator through which a scale may be moved but no shift: for
        example Relu, since Relu(a * x) = a * Relu(x) for a > 0, while Relu(x + t) is something
        else. This is what happens to a normalization after an activation whose other side has no
        weight. If you train the model yourself, put the normalization before the activation.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] two = {2, 2}> {
          h = Conv(x, w)
          a = Relu(h)
          b = BatchNormalization(a, two, one, one, two)
          y = Sigmoid(b)
        }
        """,
    ),
    Reason.NEGATIVE_SCALE: _explained(
        """
        A channel has a negative scale, and on the way stands an operator through which only a
        positive one may be moved: a negative factor turns the largest value into the smallest,
        which Relu or MaxPool would then treat differently. Negative scales are rare in trained
        networks but right; the node is kept because of those channels.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,2] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] gamma = {-1, 1}, float[2] one = {1, 1},
         float[2] zero = {0, 0}> {
          h = Conv(x, w)
          a = MaxPool <kernel_shape = [2], strides = [2]> (h)
          y = BatchNormalization(a, gamma, zero, zero, one)
        }
        """,
    ),
    Reason.CHANNEL_LOST: _explained(
        """
        An operator on the way mixes what the node tells apart: it joins, splits or reorders the
        channels so that one value on its other side would need several scales. A Reshape that
        moves part of the channels into another axis is the usual case. If the Reshape keeps the
        channels but the model hides that behind sizes computed at run time, simplify the shapes
        first (for example with onnxslim) and fold again.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,2] y)
        <float[4] s = {1, 2, 3, 4}> {
          b = Mul(x, s)
          y = MaxPool <kernel_shape = [2], strides = [2]> (b)
        }
        """,
    ),
    Reason.UNKNOWN_SHAPE: _explained(
        """
        Whether the fold is right depends on a rank or a size that the model does not tell.
        Give the model's inputs fixed shapes (onnx.tools.update_model_dims, or the exporter's own
        options), run onnx.shape_inference on it, and fold again.
        """,
        """
        example (float[n,m] x, int64[k] shape) => (float[p,q] y)
        <float[2] s = {1, 2}> {
          a = Reshape(x, shape)
          b = Mul(a, s)
          y = Squeeze(b)
        }
        """,
    ),
    Reason.CAPTURED: _explained(
        """
        A tensor that would change is also read inside the body of an If, Loop or Scan, or the
        weight is in the enclosing graph while the node is in a body. Folding across that border
        would change what the body sees. If the condition is fixed in your use, simplify the
        model first so that the If disappears.
        """,
        """
        example (float[2,2,4] x, bool c) => (float[2,2,4] y, float[2,2,4] z)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] two = {2, 2}> {
          h = Conv(x, w)
          y = BatchNormalization(h, two, one, one, two)
          z = If (c) <then_branch = t () => (float[2,2,4] a) { a = Abs(h) },
                      else_branch = e () => (float[2,2,4] b) { b = Exp(h) }>
        }
        """,
    ),
    Reason.UNREAD: _explained(
        """
        Nothing reads the node's output, so there is nothing after it that could take it in, and
        before it there is no weight either. The node does no work that anybody sees: a runtime
        removes it, and so can you.
        """
    ),
    Reason.ZERO_SCALE: _explained(
        """
        To move the node's scale to the other side of an operator, it would have to be divided by
        a scale that is zero in some channel, which cannot be undone. Such channels carry a
        constant: pruning them removes the obstacle.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2] gamma = {0, 1}, float[2] one = {1, 1}> {
          b = BatchNormalization(x, gamma, one, one, one)
          c = Sigmoid(x)
          y = Add(b, c)
        }
        """,
    ),
    Reason.SEARCH_LIMIT: _explained(
        """
        Between the node and the weights lie more operators than bnfold is willing to rewrite for
        one node, usually because the value spreads through a whole network of residual sums.
        The fold might exist; it was not searched to its end.
        """
    ),
    Reason.TOO_LARGE: _explained(
        """
        On the way to the weights the affine would have to tell apart many more elements than the
        model's own tensors do: a Tile repeats it, a Slice cuts a few channels out of billions, or
        one affine differs along rows and another along columns. Such a model is hardly real; if
        it is, nothing is lost but this fold.
        """
    ),
    Reason.CONFLICT: _explained(
        """
        Two paths lead from the node to one operator and ask different things of it, so no change
        of that operator can be right for both. Typical are sums or joins that get the same value
        along two ways of which only one passes through an operator that changes it.
        """,
        """
        example (float[2,2,2] x) => (float[2,2,2] y)
        <float[2] one = {1, 1}, float[2] two = {2, 2}> {
          b = BatchNormalization(x, two, one, one, two)
          y = MatMul(b, b)
        }
        """,
    ),
    Reason.CONTRADICTION: _explained(
        """
        An operator on the way cannot run on what it reads: a weight is for another number of
        channels, sizes do not broadcast, or the shape that the model tells of a tensor is not
        what follows. The sentence says what does not fit. Most often the file was edited by a tool
        that did not keep it whole: export it again, or drop its value infos.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2,3,1] w = {1, 2, 3, 4, 5, 6}, float[2] one = {1, 1}, float[2] zero = {0, 0}> {
          h = Conv(x, w)
          y = BatchNormalization(h, one, zero, zero, one)
        }
        """,
    ),
    Reason.GEMM_BIAS: _explained(
        """
        The product before the node has no bias that could take the shift in: its addend is
        computed at run time, or it multiplies two computed values. Where the addend is only
        computed because the exporter left it so, simplify the model first.
        """,
        """
        example (float[3,2] a, float[2,2] b) => (float[3,2] y)
        <float[2] one = {1, 1}, float[2] two = {2, 2}> {
          h = MatMul(a, b)
          y = BatchNormalization(h, two, one, one, two)
        }
        """,
    ),
    Reason.PADDED_SHIFT: _explained(
        """
        The node comes before an operator that pads its input with zeros. The padding is added
        after the node, so it is not shifted; folded into the weights, the shift would count it
        too and the border of the result would be wrong. The scale alone could be folded, the
        shift could not. If you train the model yourself, put the normalization after the
        convolution, or pad with `valid`.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2,2,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
         float[2] one = {1, 1}, float[2] two = {2, 2}> {
          b = BatchNormalization(x, two, one, one, two)
          y = Conv <pads = [1, 1]> (b, w)
        }
        """,
    ),
    Reason.UNSUPPORTED_DTYPE: _explained(
        """
        A parameter that would change is of a type in which bnfold does not compute, for example
        an 8-bit float. Fold the model before it is converted to that type.
        """
    ),
    Reason.OVERFLOW: _explained(
        """
        The weight times the scale is larger than the weight's type can hold, or a value on the
        way would be; for float16 that is 65,504. The model's own values may well be in range: a
        tiny variance makes the scale large, and a scale in front of a sum keeps the sum small.
        Fold the float32 model and convert it to float16 afterwards.
        """,
        """
        example (float16[2,2,4] x) => (float16[2,2,4] y)
        <float[2,2,1] w = {1000, 2, 3, 4}, float[2] gamma = {90, 90}> {
          weight = Cast <to = 10> (w)
          scale = Cast <to = 10> (gamma)
          one = Div(scale, scale)
          h = Conv(x, weight)
          y = BatchNormalization(h, scale, one, one, one)
        }
        """,
    ),
    Reason.UNDERFLOW: _explained(
        """
        The weight times the scale is smaller than its type can hold, and too much of a channel
        would become zero: one thousandth of it is the limit, unless the statistics tell that the
        channel carries nothing. In float16 it is met early: fold the float32 model and convert
        it to float16 afterwards.
        """,
        """
        example (float16[2,2,4] x) => (float16[2,2,4] y)
        <float[2,2,1] w = {0.001, 0.002, 0.003, 0.004}, float[2] gamma = {0.00001, 0.00001}> {
          weight = Cast <to = 10> (w)
          scale = Cast <to = 10> (gamma)
          one = Div(scale, scale)
          h = Conv(x, weight)
          y = BatchNormalization(h, scale, one, one, one)
        }
        """,
    ),
    Reason.WRONG_AXIS: _explained(
        """
        The node's scale varies along an axis for which the weight has none: for example along
        the sequence in a product over the features, or along the batch. Sizes may agree by
        chance; what counts is where the axes come from. Check that the normalization stands on
        the axis you meant: in PyTorch, BatchNorm1d after a Linear on (N, L, C) normalizes L.
        """,
        """
        example (float[2,2,2] x) => (float[2,2,2] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] s = {1, 2}> {
          h = Conv(x, w)
          y = Mul(h, s)
        }
        """,
    ),
    Reason.NO_GAIN: _explained(
        """
        The fold is possible, but it would add as much work as it removes: for example a bias
        that was not there before in exchange for one addition. Nothing is lost by leaving it.
        """,
        """
        example (float[2,3,2] x) => (float[2,3,2] y)
        <float[2,2] w = {1, 2, 3, 4}, float[2] t = {1, 2}> {
          a = Add(x, t)
          h = MatMul(a, w)
          y = Sigmoid(h)
        }
        """,
    ),
    Reason.QUANTIZED: _explained(
        """
        The weight is quantized, and its integers and scales cannot hold the factor exactly, or
        the value between is quantized and has no room for a shift. Fold the float model first
        and quantize it afterwards; the ranges that calibration finds are better then, too.
        """,
        """
        example (float[2,2] x) => (float[2,2] y)
        <float s = {0.1}, int8 z = {0}, float[2] t = {1, 2}> {
          q = QuantizeLinear(x, s, z)
          d = DequantizeLinear(q, s, z)
          y = Add(d, t)
        }
        """,
    ),
    Reason.ILL_CONDITIONED: _explained(
        """
        The fold would be right over the real numbers, but it would add and subtract numbers so
        much larger than the result that most digits are lost. It happens where a scale is very
        near to zero and would have to be divided by, and where a value that others read as well
        would be stored with a shift many times its own size. The statistics tell that size, up
        to what float16 can hold: a variance far beyond is a fault of the file. In 16 bits it
        happens early: a mean far above the standard deviation, subtracted in float32 in front of
        a Cast, would have to be subtracted behind it.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y, float[2,2,4] z)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2] one = {1, 1}, float[2] zero = {0, 0},
         float[2] beta = {0, 100}> {
          h = Conv(x, w)
          z = Conv(h, w)
          y = BatchNormalization(h, one, beta, zero, one)
        }
        """,
    ),
    Reason.INEXACT: _explained(
        """
        The network computes with whole numbers, or with others that its type holds exactly, and
        behind the node a Floor, a Round, a comparison or a Cast to whole numbers looks at the
        result. Folded, the weights would be rounded and an exact 5.0 become a 4.9999995, of which
        a Floor makes 4. Powers of two and small whole factors are folded, and so is everything
        behind which no step stands. A scale of 1/40 can be folded where the weights are
        quantized anew.
        """,
        """
        example (float[2,2,4] x) => (float[2,2,4] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float forty = {40}> {
          h = Conv(x, w)
          d = Div(h, forty)
          y = Floor(d)
        }
        """,
    ),
    Reason.NOT_EQUIVALENT: _explained(
        """
        The fold was made, the model was run, and the result was farther from the original than
        the original's own rounding explains, so this fold was taken back and the rest proven
        again. The model that was written is equivalent. Please report the model: either a rule
        of bnfold is wrong, or the runtime is.
        """
    ),
}
