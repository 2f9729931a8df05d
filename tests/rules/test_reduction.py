"""Reductions carry an affine that is uniform over what they reduce."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "ReduceSum/forward/an axis named twice": """@runtime
        x = Add(X[N,K], q[1,1]); g = ReduceSum<keepdims=1>(x, a{1,-1}); y = MatMul(g, w[1,O])""",
    "ReduceMean/backward/an axis named twice": """@runtime
        h = Conv(X[N,C,H,W], w[O,C,1,1]); g = ReduceMean<keepdims=0>(h, a{3,-1,2});
        y = BN[O](g)""",
    "ReduceSum/backward/an axis named twice": """@runtime
        h = Conv(X[N,C,H,W], w[O,C,1,1]); g = ReduceSum<keepdims=0>(h, a{3,-1,2});
        y = BN[O](g)""",
    "ReduceMean/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceMean(h, a{2,3}); y = BN[O](r)""",
    "ReduceMean/backward/dimensions that go": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceMean<keepdims=0>(h, a{-1,2}); y = BN[O](r)""",
    "ReduceMean/backward/axes as an attribute": """
        @opset=13 h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceMean<axes=[-2,-1], keepdims=0>(h);
        y = BN[O](r)""",
    "ReduceMean/backward/over everything": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceMean(h); y = Mul(r, s[])""",
    "ReduceMean/backward/over nothing": """
        @since=1.24 h = Conv(X[N,C,H,W], w[O,C,3,3]);
        r = ReduceMean<noop_with_empty_axes=1>(h); y = BN[O](r)""",
    "ReduceMean/backward/before the channels": """
        h = Gemm(X[N,C], w[C,O]); u = Unsqueeze(h, a{0}); r = ReduceMean<keepdims=0>(u, b{1});
        y = BN[O](r)""",
    "ReduceMean/forward": """
        x = BN[C](X[N,C,H,W]); r = ReduceMean<keepdims=0>(x, a{2,3}); y = Gemm(r, w[C,O])""",
    "ReduceMean/forward/symbolic": """
        x = BN[C](X[n,C,h,w]); r = ReduceMean<keepdims=1>(x, a{2,3}); y = Conv(r, w[O,C,1,1])""",
    "ReduceSum/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceSum(h, a{2,3}); y = BN[O](r)""",
    "ReduceSum/backward/dimensions that go, opset 11": """
        @opset=11 h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceSum<axes=[3,2], keepdims=0>(h);
        y = BN[O](r)""",
    "ReduceSum/backward/no shift, symbolic": """
        h = Conv(X[N,C,h,w], w[O,C,3,3]); r = ReduceSum(h, a{2,3}); y = BN[O,0](r)""",
    "ReduceSum/forward": """
        x = BN[C](X[N,C,H,W]); r = ReduceSum<keepdims=0>(x, a{2,3}); y = Gemm(r, w[C,O])""",
    "ReduceSum/forward/along the width": """
        x = BN[C](X[N,C,H,W]); r = ReduceSum(x, a{3}); y = Conv(r, w[O,C,3,1])""",
    "ReduceMax/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceMax(h, a{2,3}); y = BN[O,+,z](r)""",
    "ReduceMax/backward/negative scales": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceMax<keepdims=0>(h, a{2,3}); y = BN[O,-](r)""",
    "ReduceMax/forward": """
        x = BN[C,+](X[N,C,H,W]); r = ReduceMax<keepdims=0>(x, a{2,3}); y = Gemm(r, w[C,O])""",
    "ReduceMax/forward/negative scales": """
        x = BN[C,-](X[N,C,H,W]); r = ReduceMax(x, a{2,3}); y = Conv(r, w[O,C,1,1])""",
    "ReduceMin/backward": """
        @opset=17 h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceMin<axes=[2]>(h); y = BN[O,+](r)""",
    "ReduceMin/backward/negative scales": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceMin(h, a{2,3}); y = BN[O,-](r)""",
    "ReduceMin/forward": """
        x = BN[C,+](X[N,C,H,W]); r = ReduceMin<keepdims=0>(x, a{2,3}); y = Gemm(r, w[C,O])""",
    "ReduceMin/forward/negative scales": """
        x = BN[C,-](X[N,C,H,W]); r = ReduceMin(x, a{3}); y = Conv(r, w[O,C,3,1])""",
    "ReduceL1/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceL1(h, a{2,3}); y = BN[O,+,0,z](r)""",
    "ReduceL1/forward": """
        x = BN[C,0](X[N,C,H,W]); r = ReduceL1<keepdims=0>(x, a{2,3}); y = Gemm(r, w[C,O])""",
    "ReduceL2/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceL2<keepdims=0>(h, a{2,3}); y = BN[O,+,0](r)
        """,
    "ReduceL2/forward": """
        x = BN[C,0](X[N,C,H,W]); r = ReduceL2(x, a{2,3}); y = Conv(r, w[O,C,1,1])""",
}

REFUSALS = {
    "a norm over no axis": (
        Reason.OPAQUE_OP,
        """x = Mul(X[N,C,H], k-[1]); g = ReduceL1<noop_with_empty_axes=1>(x);
        y = Conv(g, w[O,C,1])""",
    ),
    "a sum over nothing": (
        Reason.OPAQUE_OP,
        """h = Conv(X[N,C,H], w[O,C,1]); f = Slice(h, s{0}, e{0}, a{2});
        g = ReduceSum<keepdims=0>(f, a{2}); y = BN[O](g)""",
    ),
    "a maximum over nothing": (
        Reason.OPAQUE_OP,
        """h = Conv(X[N,C,H], w[O,C,1]); f = Slice(h, s{0}, e{0}, a{2});
        g = ReduceMax<keepdims=0>(f, a{2}); y = BN[O,+](g)""",
    ),
    "a mean over the channels": (
        Reason.CHANNEL_LOST,
        "x = BN[C](X[N,C,H,W]); r = ReduceMean(x, a{1}); y = Conv(r, w[O,1,3,3])",
    ),
    "a shift before a sum of unknown length": (
        Reason.UNKNOWN_SHAPE,
        "x = BN[C](X[N,C,H,w]); r = ReduceSum(x, a{2,3}); y = Conv(r, w[O,C,1,1])",
    ),
    "a mean over axes computed at run time": (
        Reason.NOT_CONSTANT,
        "x = BN[C,0](X[N,C,H,W]); r = ReduceMean(x, A:int64%4[1]); y = Conv(r, w[O,C,1,1])",
    ),
    "scales of both signs before a maximum": (
        Reason.NEGATIVE_SCALE,
        "x = BN[C](X[N,C,H,W]); r = ReduceMax(x, a{2,3}); y = Conv(r, w[O,C,1,1])",
    ),
    "a negative scale behind a norm": (
        Reason.NEGATIVE_SCALE,
        "h = Conv(X[N,C,H,W], w[O,C,3,3]); r = ReduceL2(h, a{2,3}); y = BN[O,0](r)",
    ),
    "a shift before a norm": (
        Reason.NOT_HOMOGENEOUS,
        "x = BN[C](X[N,C,H,W]); r = ReduceL1(x, a{2,3}); y = Sin(r)",
    ),
    "a sum of squares": (
        Reason.OPAQUE_OP,
        "h = Sin(X[N,C,H,W]); x = BN[C,0](h); y = ReduceSumSquare(x, a{2,3})",
    ),
}


class TestReduction(RowTests):
    """ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceL1, ReduceL2."""
