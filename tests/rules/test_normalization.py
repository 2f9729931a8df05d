"""Normalizations take an affine of their result into their own scale and bias."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "BatchNormalization/source": """
        h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = BN[O]<epsilon=0.01>(h)""",
    "BatchNormalization/source/no epsilon": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O]<epsilon=0.0>(h)""",
    "BatchNormalization/source/momentum": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O]<momentum=0.5, epsilon=0.001>(h)""",
    "BatchNormalization/source/opset 1": """
        @opset=1 @judge h = Conv(X[N,C,H,W], w[O,C,3,3]);
        y[N,O,H-2,W-2] = BN[O]<is_test=1, consumed_inputs=[0,0,0,0,0]>(h)""",
    "BatchNormalization/source/opset 6": """
        @opset=6 @judge h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O]<is_test=1, spatial=1>(h)""",
    "BatchNormalization/source/opset 7": """
        @opset=7 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O]<spatial=1>(h)""",
    "BatchNormalization/source/opset 7, a value an element": """
        @opset=7 @judge x = BatchNormalization<spatial=0>(
        X[N,C,H,W], g[C,H,W], b[C,H,W], m[C,H,W], v+[C,H,W]); f = Flatten(x);
        y = Gemm(f, w[C*H*W,O], c[O])""",
    "BatchNormalization/source/opset 8, a value an element": """
        @opset=8 @judge h = Gemm(X[N,C], w[C,O], c[O]); y = BatchNormalization<spatial=0>(
        h, g[O], b[O], m[O], v+[O])""",
    "BatchNormalization/source/opset 9": """
        @opset=9 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)""",
    "BatchNormalization/source/opset 14": """
        @opset=14 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O]<training_mode=0>(h)""",
    "BatchNormalization/source/opset 14, float16 with float statistics": """
        @opset=14 @type=float16 @stats=float h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)""",
    "BatchNormalization/source/opset 15, float16 with float parameters": """
        @opset=15 @type=float16 @stats=float h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)""",
    "BatchNormalization/source/opset 22, bfloat16 with float parameters": """
        @opset=22 @type=bfloat16 @stats=float @judge h = Conv(X[N,C,H,W], w[O,C,3,3]);
        y = BN[O](h)""",
    "BatchNormalization/source/opset 15, float with double parameters": """
        @opset=15 @stats=double @judge h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)""",
    "BatchNormalization/source/double": "@type=double h = Gemm(X[N,C], w[C,O]); y = BN[O](h)",
    "BatchNormalization/source/newest opset": """
        @opset=23 @since=1.23 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)""",
    "BatchNormalization/backward": """
        @kept=x,m x = BN[C](X[N,C,H,W]); m = Mul(x, s[C,1,1])""",
    "BatchNormalization/backward/of a difference": """
        @kept=x,y x = BN[C](X[N,C,H,W]); y = Sub(t[C,1,1], x)""",
    "BatchNormalization/backward/opset 7, a value an element": """
        @opset=7 @judge @kept=x,y x = BatchNormalization<spatial=0>(
        X[N,C,H,W], g[C,H,W], b[C,H,W], m[C,H,W], v+[C,H,W]); y = Mul(x, s[C,1,1])""",
    "BatchNormalization/backward/opset 8, a value an element, along the height": """
        @opset=8 @judge @kept=x,y x = BatchNormalization<spatial=0>(
        X[N,C,H,W], g[C,H,W], b[C,H,W], m[C,H,W], v+[C,H,W]); y = Add(s[H,1], x)""",
    "BatchNormalization/forward/opset 7, a value an element": """
        @opset=7 @judge @kept=y a = Mul(X[N,C,H,W], s[C,1,1]); x = Add(a, t[W]);
        y = BatchNormalization<spatial=0>(x, g[C,H,W], b[C,H,W], m[C,H,W], v+[C,H,W])""",
    "BatchNormalization/forward": "@kept=y x = BN[C](X[N,C,H,W]); y = BN[C](x)",
    "BatchNormalization/forward/through Relu": """
        @kept=y x = BN[C,+,0](X[N,C,H,W]); r = Relu(x); y = BN[C]<epsilon=0.1>(r)""",
    "LayerNormalization/backward": """
        n = LayerNormalization(X[N,T,C], g[C], b[C]); m = Mul(n, s[C]); y = Add(m, t[C])""",
    "LayerNormalization/backward/no bias": """
        n = LayerNormalization<axis=2, epsilon=0.1>(X[N,T,C], g[C]); m = Mul(n, s[C]);
        y = Add(m, t[C])""",
    "LayerNormalization/backward/two axes": """
        n = LayerNormalization<axis=1>(X[N,T,C], g[T,C], b[T,C]); m = Mul(n, s[T,1]);
        y = Add(m, t[C])""",
    "LayerNormalization/backward/channels first": """
        n = LayerNormalization(X[N,H,C], g[C], b[C]); t = Transpose<perm=[0,2,1]>(n);
        y = BN[C](t)""",
    "RMSNormalization/backward": """
        @opset=23 @judge n = RMSNormalization(X[N,T,C], g[C]); y = Mul(n, s[C])""",
    "GroupNormalization/backward": """
        @opset=21 n[N,C,H,W] = GroupNormalization<num_groups=2, epsilon=0.01>(X[N,C,H,W], g[C],
        b[C]); y = BN[C](n)""",
    "InstanceNormalization/backward": """
        n = InstanceNormalization<epsilon=0.01>(X[N,C,H,W], g[C], b[C]); y = BN[C](n)""",
}

REFUSALS = {
    "training mode": (
        Reason.TRAINING_MODE,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); y, rm, rv = BN[O]<training_mode=1>(h)""",
    ),
    "training mode, one output": (
        Reason.TRAINING_MODE,
        """@opset=15 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O]<training_mode=1>(h)""",
    ),
    "training mode of opset 9: more outputs, that nobody reads": (
        Reason.TRAINING_MODE,
        """@opset=9 h = Conv(X[N,C,H,W], w[O,C,3,3]); y, _m, _v, _sm, _sv = BN[O](h)""",
    ),
    "training mode of opset 7: more outputs": (
        Reason.TRAINING_MODE,
        """@opset=7 h = Conv(X[N,C,H,W], w[O,C,3,3]); y, m, v, sm, sv = BN[O](h)""",
    ),
    "training mode of opset 6: not a test": (
        Reason.TRAINING_MODE,
        "@opset=6 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O]<is_test=0>(h)",
    ),
    "training mode of opset 6: not said": (
        Reason.TRAINING_MODE,
        "@opset=6 h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BN[O](h)",
    ),
    "a variance below minus epsilon": (
        Reason.BAD_STATISTIC,
        """h = Conv(X[N,C,H,W], w[4,C,3,3]); y = BatchNormalization(h, g[4], b[4], m[4],
        v:float{1,1,-0.1,1})""",
    ),
    "a variance of zero and epsilon zero": (
        Reason.BAD_STATISTIC,
        """h = Conv(X[N,C,H,W], w[4,C,3,3]); y = BatchNormalization<epsilon=0.0>(h, g[4], b[4],
        m[4], v:float{1,1,0,1})""",
    ),
    "a variance that is not a number": (
        Reason.BAD_STATISTIC,
        """h = Conv(X[N,C,H,W], w[4,C,3,3]); y = BatchNormalization(h, g[4], b[4], m[4],
        v:float{1,nan,1,1})""",
    ),
    "a variance that is infinite": (
        Reason.BAD_STATISTIC,
        """h = Conv(X[N,C,H,W], w[4,C,3,3]); y = BatchNormalization(h, g[4], b[4], m[4],
        v:float{1,inf,1,1})""",
    ),
    "a mean that is infinite": (
        Reason.BAD_STATISTIC,
        """h = Conv(X[N,C,H,W], w[4,C,3,3]); y = BatchNormalization(h, g[4], b[4],
        m:float{0,-inf,0,0}, v+[4])""",
    ),
    "a gamma that is not a number": (
        Reason.BAD_STATISTIC,
        """h = Conv(X[N,C,H,W], w[4,C,3,3]); y = BatchNormalization(h, g:float{1,nan,1,1}, b[4],
        m[4], v+[4])""",
    ),
    "a gamma computed at run time": (
        Reason.NOT_CONSTANT,
        """g = Sigmoid(G[O]); h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BatchNormalization(
        h, g, b[O], m[O], v+[O])""",
    ),
    "statistics that are inputs": (
        Reason.NOT_CONSTANT,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); y = BatchNormalization(
        h, g[O], b[O], M[O], V+[O])""",
    ),
    "a LayerNormalization with another axis": (
        Reason.CHANNEL_LOST,
        "n = LayerNormalization(X[N,T,C], g[C], b[C]); y = Mul(n, s[T,1])",
    ),
    "a shift behind an RMSNormalization": (
        Reason.NOT_HOMOGENEOUS,
        "@opset=23 n = RMSNormalization(X[N,T,C], g[C]); m = Add(n, t[C]); y = Sin(m)",
    ),
    "before a normalization": (
        Reason.OPAQUE_OP,
        """a = Sigmoid(X[N,C,H,W]); x = BN[C,0](a); y = InstanceNormalization(x, g[C], b[C])""",
    ),
}


class TestNormalization(RowTests):
    """BatchNormalization of every opset, and Layer-, RMS-, Group- and InstanceNormalization."""
