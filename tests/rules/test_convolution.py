"""Convolutions take an affine in, by output channel and by input channel."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "Conv/backward": "h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)",
    "Conv/backward/bias, pads, strides": """
        h = Conv<pads=[1,1,1,1], strides=[2,1]>(X[N,C,H,W], w[O,C,3,3], b[O]); y = BN[O](h)""",
    "Conv/backward/1-D, dilations": """
        h = Conv<dilations=[2], pads=[2,1]>(X[N,C,H], w[O,C,3]); y = BN[O](h)""",
    "Conv/backward/3-D": "h = Conv(X[N,C,H,W,T], w[O,C,3,2,1], b[O]); y = BN[O](h)",
    "Conv/backward/grouped": """
        h = Conv<group=2>(X[N,C,H,W], w[O,C//2,3,3], b[O]); y = BN[O](h)""",
    "Conv/backward/depthwise": "h = Conv<group=C>(X[N,C,H,W], w[C,1,3,3]); y = BN[C](h)",
    "Conv/backward/depthwise, two for each": """
        h = Conv<group=C>(X[N,C,H,W], w[2*C,1,3,3]); y = BN[2*C](h)""",
    "Conv/backward/auto_pad": """
        h = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)""",
    "Conv/backward/scale of one number": """
        h = Conv<group=2>(X[N,C,H,W], w[O,C//2,3,3], b[O]); y = Mul(h, s[])""",
    "Conv/backward/shift of one number": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); y = Add(h, t[1])""",
    "Conv/backward/symbolic batch and size": """
        h = Conv(X[n,C,h,w], w[O,C,3,3], b[O]); y = BN[O](h)""",
    "Conv/backward/float16": """
        @type=float16 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)""",
    "Conv/backward/opset 9": "@opset=9 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)",
    "Conv/backward/opset 22": "@opset=22 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)",
    "Conv/forward": "x = BN[C](X[N,C,H,W]); y = Conv(x, w[O,C,3,3])",
    "Conv/forward/bias, strides, dilations": """
        x = BN[C](X[N,C,H,W]); y = Conv<strides=[2,1], dilations=[1,2], auto_pad="VALID">(
            x, w[O,C,3,1], b[O])""",
    "Conv/forward/1-D": "x = BN[C](X[N,C,H]); y = Conv(x, w[O,C,3])",
    "Conv/forward/3-D": "x = BN[C](X[N,C,H,W,T]); y = Conv(x, w[O,C,3,2,1])",
    "Conv/forward/grouped": """
        x = BN[C](X[N,C,H,W]); y = Conv<group=2>(x, w[O,C//2,3,3], b[O])""",
    "Conv/forward/depthwise": "x = BN[C](X[N,C,H,W]); y = Conv<group=C>(x, w[2*C,1,3,3])",
    "Conv/forward/pads and no shift": """
        x = BN[C,0](X[N,C,H,W]); y = Conv<pads=[1,1,1,1]>(x, w[O,C,3,3], b[O])""",
    "Conv/forward/auto_pad and no shift": """
        x = Mul(X[N,C,H,W], s[C,1,1]); y = Conv<auto_pad="SAME_LOWER">(x, w[O,C,3,3])""",
    "Conv/forward/auto_pad that pads nothing": """
        x = BN[C](X[N,C,H,W]); y = Conv<auto_pad="SAME_UPPER">(x, w[O,C,1,1])""",
    "Conv/forward/one number, grouped": """
        x = Sub(X[N,C,H,W], t[]); y = Conv<group=2>(x, w[O,C//2,3,3])""",
    "Conv/forward/symbolic": "x = BN[C](X[n,C,h,w]); y = Conv(x, w[O,C,3,3])",
    "ConvTranspose/backward": "h = ConvTranspose(X[N,C,H,W], w[C,O,3,3]); y = BN[O](h)",
    "ConvTranspose/backward/bias, strides, output_padding": """
        h = ConvTranspose<strides=[2,3], output_padding=[1,2], pads=[1,0,0,1]>(
            X[N,C,H,W], w[C,O,3,3], b[O]); y = BN[O](h)""",
    "ConvTranspose/backward/grouped": """
        h = ConvTranspose<group=2>(X[N,C,H,W], w[C,O//2,3,3]); y = BN[O](h)""",
    "ConvTranspose/backward/depthwise": """
        h = ConvTranspose<group=C>(X[N,C,H,W], w[C,1,3,3], b[C]); y = BN[C](h)""",
    "ConvTranspose/backward/depthwise, two for each": """
        h = ConvTranspose<group=C>(X[N,C,H,W], w[C,2,3,3]); y = BN[2*C](h)""",
    "ConvTranspose/backward/1-D, dilations": """
        h = ConvTranspose<dilations=[2]>(X[N,C,H], w[C,O,3], b[O]); y = BN[O](h)""",
    "ConvTranspose/backward/3-D": """
        h = ConvTranspose(X[N,C,H,W,T], w[C,O,2,3,1]); y = BN[O](h)""",
    "ConvTranspose/backward/auto_pad": """
        h = ConvTranspose<auto_pad="SAME_UPPER", strides=[2,2]>(X[N,C,H,W], w[C,O,3,3]);
        y = BN[O](h)""",
    "ConvTranspose/backward/output_shape": """
        h = ConvTranspose<output_shape=[H,W]>(X[N,C,H,W], w[C,O,3,3]);
        y = BN[O](h)""",
    "ConvTranspose/forward": """
        x = BN[C,0](X[N,C,H,W]); y = ConvTranspose(x, w[C,O,3,3], b[O])""",
    "ConvTranspose/forward/grouped, strides": """
        x = BN[C,0](X[N,C,H,W]);
        y = ConvTranspose<group=2, strides=[2,2]>(x, w[C,O//2,3,3])""",
    "ConvTranspose/forward/depthwise": """
        x = Mul(X[N,C,H], s[C,1]); y = ConvTranspose<group=C>(x, w[C,2,3])""",
    "com.microsoft.FusedConv/backward": """
        h[N,O,H-2,W-2] = com.microsoft.FusedConv(X[N,C,H,W], w[O,C,3,3], b[O]); y = BN[O](h)""",
    "com.microsoft.FusedConv/forward": """
        x = BN[C](X[N,C,H,W]); y[N,O,H-2,W-2] = com.microsoft.FusedConv(x, w[O,C,3,3])""",
}

REFUSALS = {
    "a shift before zero padding": (
        Reason.PADDED_SHIFT,
        "x = BN[C](X[N,C,H,W]); y = Conv<pads=[0,0,1,0]>(x, w[O,C,3,3])",
    ),
    "a shift before SAME_UPPER": (
        Reason.PADDED_SHIFT,
        'x = BN[C](X[N,C,H,W]); y = Conv<auto_pad="SAME_UPPER">(x, w[O,C,3,3])',
    ),
    "a shift before a ConvTranspose": (
        Reason.PADDED_SHIFT,
        "x = BN[C](X[N,C,H,W]); y = ConvTranspose(x, w[C,O,3,3])",
    ),
    "a weight computed at run time": (
        Reason.NOT_CONSTANT,
        "v = Sigmoid(Z[O,C,3,3]); h = Conv(X[N,C,H,W], v); y = BN[O](h)",
    ),
    "a weight that is an input": (
        Reason.NOT_CONSTANT,
        "h = Conv(X[N,C,H,W], Z[O,C,3,3]); y = BN[O](h)",
    ),
    "an affine along the width": (
        Reason.WRONG_AXIS,
        "h = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[O,C,3,3]); y = Mul(h, s[W])",
    ),
    "an affine along the height": (
        Reason.WRONG_AXIS,
        "h = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[O,C,3,3]); y = Add(h, s[1,H,1])",
    ),
    "an affine along the batch": (
        Reason.WRONG_AXIS,
        "h = Conv(X[N,C,H,W], w[O,C,3,3]); y = Mul(h, s[N,1,1,1])",
    ),
    "an affine along the height, forward": (
        Reason.WRONG_AXIS,
        "x = Mul(X[N,C,H,W], s[1,H,1]); y = Conv(x, w[O,C,3,3])",
    ),
    "a FusedConv with an activation": (
        Reason.OPAQUE_OP,
        """h[N,O,H-2,W-2] = com.microsoft.FusedConv<activation="Relu">(X[N,C,H,W], w[O,C,3,3]);
        m = Mul(h, s[O,1,1]); y = Sigmoid(m)""",
    ),
    "a FusedConv with a sum": (
        Reason.OPAQUE_OP,
        """h[N,O,H-2,W-2] = com.microsoft.FusedConv(X[N,C,H,W], w[O,C,3,3], b[O], Z[N,O,H-2,W-2]);
        m = Mul(h, s[O,1,1]); y = Sigmoid(m)""",
    ),
}


class TestConvolution(RowTests):
    """Conv, ConvTranspose and com.microsoft's FusedConv."""
