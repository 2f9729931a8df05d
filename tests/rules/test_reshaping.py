"""Dimensions that are split, joined, dropped or added take an affine along."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "Reshape/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Reshape(h, s{N,O,-1}); y = BN[O](r)""",
    "Reshape/backward/symbolic batch": """
        h = Gemm(X[n,C], w[C,O*D]); r = Reshape(h, s{-1,O,D}); y = BN[O](r)""",
    "Reshape/backward/zeros that copy": """
        h = Conv(X[N,C,h,w], w[O,C,3,3]); r = Reshape(h, s{0,0,-1}); y = BN[O](r)""",
    "Reshape/backward/channels in groups": """
        h = Conv(X[N,C,H,W], w[K,C,3,3]); r = Reshape(h, s{N,2,K//2,H-2,W-2});
        t = Transpose<perm=[0,2,1,3,4]>(r); u = Reshape(t, v{N,K,H-2,W-2}); y = BN[K](u)""",
    "Reshape/backward/the batch joined with a dimension": """
        h = MatMul(X[N,T,C], w[C,O]); r = Reshape(h, s{N*T,O}); y = Mul(r, c[O])""",
    "Reshape/forward": """
        x = BN[C](X[N,C,H,W]); r = Reshape(x, s{0,-1}); y = Gemm(r, w[C*H*W,O])""",
    "Reshape/forward/symbolic batch": """
        x = BN[C](X[n,C,H,W]); r = Reshape(x, s{-1,C*H*W}); y = Gemm(r, w[C*H*W,O], b[O])""",
    "Reshape/forward/symbolic image": """
        x = BN[C](X[N,C,h,w]); r = Reshape(x, s{N,C,-1}); y = Conv(r, w[O,C,3])""",
    "Reshape/forward/allowzero": """
        x = BN[C](X[N,C,H,W]); r = Reshape<allowzero=1>(x, s{N,C,-1}); y = Conv(r, w[O,C,3])""",
    "Reshape/forward/channels in groups": """
        x = BN[K](X[N,K,H,W]); r = Reshape(x, s{N,2,K//2,H,W});
        t = Transpose<perm=[0,2,1,3,4]>(r); u = Reshape(t, v{N,K,H,W}); y = Conv(u, w[O,K,3,3])""",
    "Reshape/forward/dimensions of one": """
        x = BN[C](X[N,C,1,1]); r = Reshape(x, s{N,1,C,1}); q = Reshape(r, t{N,C});
        y = Gemm(q, w[C,O])""",
    "Flatten/backward": """
        h = Conv(X[N,C,1,1], w[O,C,1,1]); f = Flatten(h); y = BN[O](f)""",
    "Flatten/backward/axis from behind": """
        h = MatMul(X[N,T,C], w[C,O]); f = Flatten<axis=-1>(h); y = Mul(f, s[O])""",
    "Flatten/forward": "x = BN[C](X[N,C,H,W]); f = Flatten(x); y = Gemm(f, w[C*H*W,O])",
    "Flatten/forward/symbolic batch": """
        x = BN[C](X[n,C,H,W]); f = Flatten<axis=1>(x); y = MatMul(f, w[C*H*W,O])""",
    "Flatten/forward/axis 2": """
        x = BN[C](X[1,C,L]); f = Flatten<axis=2>(x); y = Gemm(w[O,C], f)""",
    "Squeeze/backward": """
        h = Conv(X[N,C,1,1], w[O,C,1,1]); q = Squeeze(h, a{2,-1}); y = BN[O](q)""",
    "Squeeze/backward/axes as an attribute": """
        @opset=11 h = Conv(X[N,C,H,1], w[O,C,3,1]); q = Squeeze<axes=[3]>(h); y = BN[O](q)""",
    "Squeeze/backward/all ones": """
        h = Conv(X[N,C,1,W], w[O,C,1,3]); q = Squeeze(h); y = BN[O](q)""",
    "Squeeze/forward": "x = BN[C](X[N,C,1,W]); q = Squeeze(x, a{2}); y = Conv(q, w[O,C,3])",
    "Unsqueeze/backward": """
        h = Gemm(X[N,C], w[C,O]); u = Unsqueeze(h, a{2,3}); y = BN[O](u)""",
    "Unsqueeze/backward/axes as an attribute": """
        @opset=11 h = Gemm(X[N,C], w[C,O]); u = Unsqueeze<axes=[-1]>(h); y = BN[O](u)""",
    "Unsqueeze/forward": """
        x = BN[C](X[N,C,W]); u = Unsqueeze(x, a{2}); y = Conv(u, w[O,C,1,3])""",
    "Unsqueeze/forward/before the batch": """
        x = BN[C](X[N,C]); u = Unsqueeze(x, a{0,-1}); q = Squeeze(u, b{3}); y = MatMul(q, w[C,O])
        """,
}

REFUSALS = {
    "channels joined with the batch": (
        Reason.CHANNEL_LOST,
        "h = Gemm(X[n,C], w[C,O]); r = Reshape(h, s{-1,O//2}); y = BN[O//2,0](r)",
    ),
    "a square matrix on its side": (
        Reason.WRONG_AXIS,
        "h = Conv(X[N,C,H], w[W,C,1]); r = Transpose<perm=[0,2,1]>(h); y = BN[H,0](r)",
    ),
    "channels on the other side of a square matrix": (
        Reason.GRAPH_OUTPUT,
        "h = MatMul(X[T,C], w[C,T]); t = Transpose(h); y = BN[T,0](t)",
    ),
    "a shape computed at run time": (
        Reason.CHANNEL_LOST,
        """x = Mul(X[N,C,H,W], s[C,1,1]); r = Reshape(x, S:int64[3]); f = Flatten(r);
        y = Gemm(f, w[C*H*W,O])""",
    ),
}


class TestReshaping(RowTests):
    """Reshape, Flatten, Squeeze, Unsqueeze."""
