"""Elements that are moved, joined, cut, repeated or picked take their part of an affine along."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "Slice/forward/a start before the beginning": """
        x = Mul(X[N,K], k[1,K]); g = Slice(x, s{-99}, e{-99}, a{1}, t{-1});
        y = MatMul(g, w[1,O])""",
    "Slice/backward/a start before the beginning": """
        h = MatMul(X[N,C], w[C,K]); g = Slice(h, s{-99}, e{-99}, a{1}, t{-2});
        y = Mul(g, k[1])""",
    "Slice/forward/clamped on both sides": """
        x = BN[C,0](X[N,C,H]); g = Slice(x, s{99}, e{-9223372036854775808}, a{1}, t{-1});
        y = Conv(g, w[O,C,1])""",
    "Slice/backward/clamped on both sides": """
        h = Conv(X[N,C,H], w[O,C,1]); g = Slice(h, s{-99}, e{9223372036854775807}, a{1}, t{2});
        y = BN[O//2](g)""",
    "Squeeze/backward/an axis named twice": """@runtime
        h = Conv(X[N,C,1], w[O,C,1]); g = Squeeze(h, a{2,-1}); y = BN[O](g)""",
    "Split/backward/a part of nothing": """
        h = Conv(X[N,C,H], w[O,C,1]); g, _e = Split<axis=1>(h, s{O,0}); y = BN[O](g)""",
    "Concat/forward/beside nothing": """
        x = BN[C,0](X[N,C,H]); g = Concat<axis=1>(x, E[N,0,H]); y = Conv(g, w[O,C,1])""",
    "Transpose/backward": """
        h = MatMul(X[N,H,W,C], w[C,O]); t = Transpose<perm=[0,3,1,2]>(h); y = Mul(t, s[O,1,1])""",
    "Transpose/backward/all reversed": """
        h = Gemm(X[N,C], w[C,O]); t = Transpose(h); y = Mul(t, s[O,1])""",
    "Transpose/forward": """
        x = BN[C](X[N,C,H]); t = Transpose<perm=[0,2,1]>(x); y = MatMul(t, w[C,O])""",
    "Transpose/forward/all reversed": """
        x = BN[C](X[N,C]); t = Transpose(x); y = Gemm<transA=1>(t, w[C,O])""",
    "Concat/backward": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[K,D,3,3], c[K]);
        h = Concat<axis=1>(a, b); y = BN[O+K](h)""",
    "Concat/backward/along the height, symbolic": """
        a = Conv(X[N,C,h,W], w[O,C,3,3]); b = Conv(Z[N,D,h,W], v[O,D,3,3]);
        h = Concat<axis=-2>(a, b); y = BN[O](h)""",
    "Concat/backward/three, one constant": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[K,C,3,3]);
        h = Concat<axis=1>(a, k[N,2,H-2,W-2], b); y = BN[O+2+K](h)""",
    "Concat/forward": """
        x = BN[C](X[N,C,H,W]); m = Concat<axis=1>(Z[N,D,H,W], x); y = Conv(m, w[O,D+C,3,3])""",
    "Concat/forward/two": """
        x = BN[C](X[N,C,H,W]); z = BN[D](Z[N,D,H,W]); m = Concat<axis=1>(x, z);
        y = Conv(m, w[O,C+D,3,3])""",
    "Split/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); a, b = Split<axis=1>(h, s{2,O-2}); y = BN[O-2](b)""",
    "Split/backward/both": """
        h = Conv(X[N,C,H,W], w[D,C,3,3]); a, b = Split<axis=1, num_outputs=2>(h);
        y = BN[(D+1)//2](a); z = BN[D//2](b)""",
    "Split/backward/sizes as an attribute": """
        @opset=11 h = Conv(X[N,C,H,W], w[4,C,3,3]); a, b = Split<axis=1, split=[1,3]>(h);
        y = BN[3](b)""",
    "Split/forward": """
        x = BN[C](X[N,C,H,W]); a, b = Split<axis=-3>(x, s{1,C-1}); y = Conv(a, w[O,1,3,3]);
        z = Conv(b, v[K,C-1,3,3])""",
    "Split/forward/along the width": """
        x = BN[C](X[N,C,H,W]); a, b = Split<axis=3>(x, s{1,W-1}); y = Conv(a, w[O,C,3,1]);
        z = Conv(b, v[K,C,3,3])""",
    "Slice/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); c = Slice(h, s{1}, e{O-1}, a{1}); y = BN[O-2](c)""",
    "Slice/backward/counting down": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        c = Slice(h, s{-1}, e{-9223372036854775807}, a{-3}, d{-1}); y = BN[O](c)""",
    "Slice/backward/of the image": """
        h = Conv(X[N,C,h,W], w[O,C,3,3]); c = Slice(h, s{0,1}, e{9223372036854775807,2}, a{2,3});
        y = BN[O](c)""",
    "Slice/backward/computed bounds": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); c = Slice(h, S:int64%2[1], e{3}, a{2}); y = BN[O](c)""",
    "Slice/forward": """
        x = BN[C](X[N,C,H,W]); c = Slice(x, s{1,0}, e{C,3}, a{1,2}, d{2,1});
        y = Conv(c, w[O,C//2,3,3])""",
    "Slice/forward/attributes": """
        @opset=9 x = BN[C](X[N,C,H,W]); c = Slice<axes=[1], starts=[1], ends=[1000]>(x);
        y = Conv(c, w[O,C-1,3,3])""",
    "Slice/forward/no axes": """
        x = BN[C](X[N,C]); c = Slice(x, s{0,1}, e{N,C}); y = Gemm(c, w[C-1,O])""",
    "Gather/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); g = Gather<axis=1>(h, i{2,0,-1}); y = BN[3](g)""",
    "Gather/backward/one index": """
        h = MatMul(X[N,T,C], w[C,O]); g = Gather<axis=1>(h, i=1); y = Mul(g, s[O])""",
    "Gather/backward/a table": """
        h = Gather(t[M,O], I:int64%4[N,T]); m = Mul(h, s[O]); y = Add(m, r[O])""",
    "Gather/backward/a table, columns": """
        h = Gather<axis=1>(t[O,M], I:int64%4[T]); y = Mul(h, s[O,1])""",
    "Gather/backward/a table, one index": """
        h = Gather(t[M,T,O], I:int64%4[]); y = Mul(h, s[O])""",
    "Gather/forward": """
        x = BN[C](X[N,C,H,W]); g = Gather<axis=1>(x, i{2,-1,0,2}); y = Conv(g, w[O,4,3,3])""",
    "Gather/forward/one index": """
        x = BN[C](X[N,C,H,W]); g = Gather<axis=2>(x, i=1); y = Conv(g, w[O,C,3])""",
    "Gather/forward/computed indices": """
        x = BN[C](X[N,C,H,W]); g = Gather<axis=-1>(x, I:int64%4[D]); y = Conv(g, w[O,C,3,3])""",
    "Gather/forward/a matrix of indices": """
        x = Mul(X[C,N], s[C,1]); g = Gather(x, i:int64%4[T,E]); y = Einsum<equation="ten,teo->no">(
        g, w[T,E,O])""",
    "Expand/backward": """
        h = Conv(Z[N,D,1,1], v[O,D,1,1]); m = Expand(h, s{N,O,H,W}); y = BN[O](m)""",
    "Expand/backward/another rank": """
        h = Gemm(X[T,C], w[C,O]); m = Expand(h, e{N,1,1}); y = Mul(m, s[O])""",
    "Expand/forward": """
        x = BN[C](X[1,C,1,1]); m = Expand(x, s{N,1,H,W}); y = Conv(m, w[O,C,3,3])""",
    "Expand/forward/another rank": """
        x = BN[C](X[T,C]); m = Expand(x, e{N,T,C}); y = MatMul(m, w[C,O])""",
    "Tile/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Tile(h, r{1,1,2,3}); y = BN[O](m)""",
    "Tile/forward": """
        x = BN[C](X[N,C,H,W]); m = Tile(x, r{1,2,1,1}); y = Conv(m, w[O,2*C,3,3])""",
    "Tile/forward/computed": """
        @kept=y x = Div(X[N,C,H,W], s[]); m = Tile(x, R+:int64%3[4]); y = Mul(m, t[])""",
    "DepthToSpace/backward": """
        h = Conv(X[N,C,H,W], w[4*O,C,3,3]); d = DepthToSpace<blocksize=2>(h); y = BN[O](d)""",
    "DepthToSpace/backward/CRD": """
        h = Conv(X[N,C,H,W], w[4*O,C,3,3]); d = DepthToSpace<blocksize=2, mode="CRD">(h);
        y = BN[O](d)""",
    "DepthToSpace/forward": """
        k = Tile(c[1,C,1,1], r{1,4,1,1}); x = Mul(X[N,4*C,H,W], k);
        d = DepthToSpace<blocksize=2, mode="DCR">(x); y = Conv(d, w[O,C,3,3])""",
    "DepthToSpace/forward/CRD": """
        e = Expand(c[C,1], a{C,9}); k = Reshape(e, b{9*C,1,1}); x = Add(X[N,9*C,H,W], k);
        d = DepthToSpace<blocksize=3, mode="CRD">(x); y = Conv(d, w[O,C,3,3])""",
    "SpaceToDepth/backward": """
        h = Conv(X[N,C,2*H,2*W], w[O,C,1,1]); d = SpaceToDepth<blocksize=2>(h);
        k = Tile(c[1,O,1,1], r{1,4,1,1}); y = Mul(d, k)""",
    "SpaceToDepth/forward": """
        x = BN[C](X[N,C,2*H,2*W]); d = SpaceToDepth<blocksize=2>(x); y = Conv(d, w[O,4*C,3,3])""",
    "SpaceToDepth/forward/and back": """
        x = BN[C](X[N,C,2*H,2*W]); d = SpaceToDepth<blocksize=2>(x);
        q = DepthToSpace<blocksize=2>(d); y = Conv(q, w[O,C,3,3])""",
}

REFUSALS = {
    "a Slice that counts down to the largest number": (
        Reason.OPAQUE_OP,
        """x = BN[C,0](X[N,C,H]); g = Slice(x, s{-1}, e{9223372036854775807}, a{1}, t{-1});
        y = Relu(g)""",
    ),
    "one part of a join takes nothing": (
        Reason.GRAPH_OUTPUT,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Concat<axis=1>(h, Z[N,D,H-2,W-2]);
        y = BN[O+D,0](m)""",
    ),
    "one part of a cut takes nothing": (
        Reason.OPAQUE_OP,
        """x = BN[C](X[N,C,H,W]); a, b = Split<axis=1>(x, s{1,C-1}); y = Conv(a, w[O,1,3,3]);
        z = Sin(b)""",
    ),
    "one channel picked twice": (
        Reason.CHANNEL_LOST,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); g = Gather<axis=1>(h, i{0,0,1});
        y = Mul(g, s[3,1,1])""",
    ),
    "channels picked at run time": (
        Reason.NOT_CONSTANT,
        """x = BN[C,0](X[N,C,H,W]); g = Gather<axis=1>(x, I:int64%4[D]);
        y = Conv(g, w[O,D,3,3])""",
    ),
    "sub-pixels that differ": (
        Reason.CHANNEL_LOST,
        """x = Mul(X[N,4*C,H,W], s[4*C,1,1]); d = DepthToSpace<blocksize=2>(x);
        y = Conv(d, w[O,C,3,3])""",
    ),
    "a batch that differs": (
        Reason.CHANNEL_LOST,
        """h = Conv(X[2,C,H,W], w[8,C,3,3]); d = DepthToSpace<blocksize=2, mode="CRD">(h);
        y = Mul(d, s[2,1,1,1])""",
    ),
    "sub-pixels that are ordered otherwise": (
        Reason.CHANNEL_LOST,
        """k = Tile(c[1,C,1,1], r{1,4,1,1}); x = Mul(X[N,4*C,H,W], k);
        d = DepthToSpace<blocksize=2, mode="CRD">(x); y = Conv(d, w[O,C,3,3])""",
    ),
    "channels that are broadcast": (
        Reason.CHANNEL_LOST,
        "h = Conv(X[N,C,H,W], w[1,C,3,3]); m = Expand(h, s{1,O,1,1}); y = BN[O](m)",
    ),
    "a transpose that moves nothing": (
        Reason.GRAPH_OUTPUT,
        "h = Gemm(X[N,C], w[C,O]); t = Transpose<perm=[0,1]>(h); y = Mul(t, s[N,1])",
    ),
}


class TestMovement(RowTests):
    """Transpose, Concat, Split, Slice, Gather, Expand, Tile, DepthToSpace, SpaceToDepth."""
