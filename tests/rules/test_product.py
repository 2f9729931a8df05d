"""Matrix products take an affine in, by the axes that their constant factor has."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "Einsum/forward/a weight that is broadcast along what is summed": """
        @kept=y x = Add(X[N,C], q[1]); h = Einsum<equation="nc,co->no">(x, w[1,O]);
        y = Add(h, b[O])""",
    "Gemm/backward": "h = Gemm(X[N,C], w[C,O]); y = BN[O](h)",
    "Gemm/backward/alpha and beta": """
        h = Gemm<alpha=0.5, beta=-2.0>(X[N,C], w[C,O], c[O]); y = BN[O](h)""",
    "Gemm/backward/transposed": """
        h = Gemm<transA=1, transB=1>(X[C,N], w[O,C], c[O]); y = BN[O](h)""",
    "Gemm/backward/beta and no addend": """
        h = Gemm<alpha=3.0, beta=0.25>(X[N,C], w[C,O]); y = BN[O](h)""",
    "Gemm/backward/beta zero": """
        h = Gemm<beta=0.0>(X[N,C], w[C,O], c[O]); y = BN[O](h)""",
    "Gemm/backward/scalar addend": "h = Gemm<beta=0.5>(X[N,C], w[C,O], c[]); y = BN[O](h)",
    "Gemm/backward/addend of one": """
        h = Gemm<beta=0.5, transB=1>(X[N,C], w[O,C], c[1]); y = BN[O](h)""",
    "Gemm/backward/addend of 1 by 1": "h = Gemm(X[N,C], w[C,O], c[1,1]); y = BN[O](h)",
    "Gemm/backward/addend a row": "h = Gemm<beta=2.0>(X[N,C], w[C,O], c[1,O]); y = BN[O](h)",
    "Gemm/backward/addend a column": "h = Gemm<beta=2.0>(X[N,C], w[C,O], c[N,1]); y = BN[O](h)",
    "Gemm/backward/addend a matrix": "h = Gemm<alpha=2.0>(X[N,C], w[C,O], c[N,O]); y = BN[O](h)",
    "Gemm/backward/pure scale": """
        h = Gemm<beta=0.5>(X[N,C], w[C,O], c[N,1]); y = Mul(h, s[O])""",
    "Gemm/backward/pure shift": "h = Gemm<transB=1>(X[N,C], w[O,C]); y = Sub(h, t[1,O])",
    "Gemm/backward/weight on the left": """
        h = Gemm<alpha=0.5>(w[M,C], X[C,O]); y = Mul(h, s[M,1])""",
    "Gemm/backward/weight on the left, transposed": """
        h = Gemm<transA=1>(w[C,M], X[C,O], c[O]); y = Mul(h, s[M,1])""",
    "Gemm/backward/weight on the left, one number": """
        h = Gemm(w[M,C], X[C,O], c[O]); y = Div(h, s[])""",
    "Gemm/backward/symbolic batch": "h = Gemm(X[n,C], w[C,O], c[O]); y = BN[O](h)",
    "Gemm/backward/opset 9": "@opset=9 h = Gemm(X[N,C], w[C,O], c[]); y = BN[O](h)",
    "Gemm/backward/double": "@type=double h = Gemm(X[N,C], w[C,O]); y = BN[O](h)",
    "Gemm/backward/float16": "@type=float16 h = Gemm(X[N,C], w[C,O], c[O]); y = BN[O](h)",
    "Gemm/backward/bfloat16": """
        @type=bfloat16 @judge h = Gemm(X[N,C], w[C,O], c[O]); y = BN[O](h)""",
    "Gemm/forward": "x = BN[C](X[N,C]); y = Gemm(x, w[C,O])",
    "Gemm/forward/alpha and beta": """
        x = BN[C](X[N,C]); y = Gemm<alpha=0.5, beta=-2.0>(x, w[C,O], c[O])""",
    "Gemm/forward/alpha, beta and no addend": """
        x = BN[C](X[N,C]); y = Gemm<alpha=-3.0, beta=0.5>(x, w[C,O])""",
    "Gemm/forward/beta zero": "x = BN[C](X[N,C]); y = Gemm<beta=0.0>(x, w[C,O], c[O])",
    "Gemm/forward/transB": "x = BN[C](X[N,C]); y = Gemm<transB=1>(x, w[O,C], c[1,O])",
    "Gemm/forward/scalar addend": "x = BN[C](X[N,C]); y = Gemm<beta=0.5>(x, w[C,O], c[])",
    "Gemm/forward/addend of one": "x = BN[C](X[N,C]); y = Gemm(x, w[C,O], c[1])",
    "Gemm/forward/addend a column": "x = BN[C](X[N,C]); y = Gemm<beta=2.0>(x, w[C,O], c[N,1])",
    "Gemm/forward/addend a matrix": "x = BN[C](X[N,C]); y = Gemm<alpha=2.0>(x, w[C,O], c[N,O])",
    "Gemm/forward/transA": """
        a = Sub(X[C,N], t[C,1]); x = Mul(a, s[C,1]); y = Gemm<transA=1>(x, w[C,O], c[O])""",
    "Gemm/forward/weight on the left": """
        a = Sub(X[C,O], t[C,1]); x = Mul(a, s[C,1]); y = Gemm<alpha=0.5>(w[M,C], x, c[O])""",
    "Gemm/forward/weight on the left, both transposed": """
        x = BN[C](X[O,C]); y = Gemm<alpha=2.0, transA=1, transB=1>(w[C,M], x)""",
    "Gemm/forward/symbolic batch": "x = BN[C](X[n,C]); y = Gemm(x, w[C,O], c[O])",
    "MatMul/backward": "h = MatMul(X[N,C], w[C,O]); y = BN[O](h)",
    "MatMul/backward/symbolic batch": "h = MatMul(X[n,C], w[C,O]); y = BN[O](h)",
    "MatMul/backward/weight on the left": "h = MatMul(w[O,C], X[N,C,L]); y = BN[O](h)",
    "MatMul/backward/weight on the left, rank 2": """
        h = MatMul(w[O,C], X[C,L]); y = Mul(h, s[O,1])""",
    "MatMul/backward/scale, ranks 3 and 2": "h = MatMul(X[N,T,C], w[C,O]); y = Mul(h, s[O])",
    "MatMul/backward/one number": "h = MatMul(X[N,T,C], w[C,O]); y = Div(h, s[1])",
    "MatMul/backward/transposed": """
        h = MatMul(X[N,T,C], w[C,O]); m = Transpose<perm=[0,2,1]>(h); y = BN[O](m)""",
    "MatMul/backward/ranks 4 and 2": """
        h = MatMul(X[N,H,W,C], w[C,O]); m = Transpose<perm=[0,3,1,2]>(h); y = BN[O](m)""",
    "MatMul/backward/ranks 4 and 3": "h = MatMul(X[N,C,H,W], w[C,W,O]); y = BN[C](h)",
    "MatMul/backward/ranks 2 and 3": """
        h = MatMul(X[T,C], w[D,C,O]); y = Mul(h, s[D,1,O])""",
    "MatMul/backward/left of ranks 3 and 4": "h = MatMul(w[C,M,H], X[N,C,H,W]); y = BN[C](h)",
    "MatMul/backward/left, scale of rows": "h = MatMul(w[C,M,H], X[N,C,H,W]); y = Mul(h, s[M,1])",
    "MatMul/backward/two computed factors": """
        a = MatMul(X[N,T,C], w[C,K]); b = MatMul(Z[N,K,D], v[D,O]);
        h = MatMul(a, b); y = Mul(h, s[O])""",
    "MatMul/backward/two computed factors, rows": """
        a = MatMul(w[M,T], X[N,T,K]); h = MatMul(a, Z[N,K,D]); y = Mul(h, s[M,1])""",
    "MatMul/backward/float16": "@type=float16 h = MatMul(X[N,C], w[C,O]); y = BN[O](h)",
    "MatMul/forward": "x = BN[C](X[N,C]); y = MatMul(x, w[C,O])",
    "MatMul/forward/symbolic batch": "x = BN[C](X[n,C]); y = MatMul(x, w[C,O])",
    "MatMul/forward/weight on the left": "x = BN[C](X[N,C,L]); y = MatMul(w[O,C], x)",
    "MatMul/forward/scale, ranks 3 and 2": "x = Mul(X[N,T,C], s[C]); y = MatMul(x, w[C,O])",
    "MatMul/forward/transposed": """
        x = BN[C](X[N,C,T]); t = Transpose<perm=[0,2,1]>(x); y = MatMul(t, w[C,O])""",
    "MatMul/forward/then a bias": """
        @kept=y x = BN[C](X[N,C,T]); t = Transpose<perm=[0,2,1]>(x); h = MatMul(t, w[C,O]);
        y = Add(h, b[O])""",
    "MatMul/forward/ranks 4 and 3": "x = BN[C](X[N,C,H,W]); y = MatMul(x, w[C,W,O])",
    "MatMul/forward/ranks 2 and 3": """
        a = Mul(X[T,C], s[C]); y = MatMul(a, w[D,C,O])""",
    "MatMul/forward/free axis, to the next": """
        x = Mul(X[N,T,C], s[T,1]); h = MatMul(x, w[C,O]); y = MatMul(v[M,T], h)""",
    "MatMul/forward/two computed factors": """
        x = Mul(X[N,T,C], s[C]); z = MatMul(Z[N,C,D], w[D,O]); y = MatMul(x, v[C,C]);
        q = MatMul(y, z)""",
    "MatMul/forward/into the other factor": """
        x = Mul(X[N,T,C], s[C]); z = MatMul(w[C,D], Z[N,D,O]); y = MatMul(x, z)""",
    "MatMul/forward/right factor of two": """
        x = Mul(X[N,C,O], s[C,1]); z = MatMul(Z[N,T,D], w[D,C]); y = MatMul(z, x)""",
    "MatMul/backward/weights that sum to one": """
        v = MatMul(Z[N,T,K], w[K,O]); p = Softmax(X[N,L,T]); h = MatMul(p, v);
        m = Transpose<perm=[0,2,1]>(h); y = BN[O](m)""",
    "MatMul/backward/weights that sum to one, on the right": """
        v = MatMul(w[O,K], Z[N,K,T]); p = Softmax(X[N,L,T]); q = Transpose<perm=[0,2,1]>(p);
        h = MatMul(v, q); y = BN[O](h)""",
    "MatMul/backward/weights that sum to one, in heads": """
        v = MatMul(Z[N,C,T,K], w[C,K,O]); p = Softmax<axis=-1>(X[N,C,L,T]);
        d = Identity(p); h = MatMul(d, v); y = BN[C](h)""",
    "MatMul/backward/weights that sum to one, reshaped": """
        v = MatMul(Z[T,K], w[K,O]); s = Softmax(X[N,L,T]); p = Reshape(s, d{-1,T});
        h = MatMul(p, v); y = BN[O](h)""",
    "MatMul/backward/weights that sum to one, opset 11": """
        @opset=11 v = MatMul(Z[N,T,K], w[K,O]); p = Softmax<axis=2>(X[N,L,T]);
        h = MatMul(p, v); m = Transpose<perm=[0,2,1]>(h); y = BN[O](m)""",
    "MatMul/backward/weights of one and zero": """
        v = MatMul(Z[N,T,K], w[K,O]); p = Hardmax(X[N,L,T]); h = MatMul(p, v);
        m = Transpose<perm=[0,2,1]>(h); y = BN[O](m)""",
    "MatMul/forward/weights that sum to one": """
        v = BN[T](Z[N,T,O]); u = Transpose<perm=[0,2,1]>(v); p = Softmax(X[N,L,O]);
        h = MatMul(p, u); y = MatMul(h, w[T,K])""",
    "MatMul/forward/weights that sum to one, on the right": """
        v = BN[C](Z[N,C,T]); p = Softmax<axis=-2>(X[N,T,L]); h = MatMul(v, p);
        y = MatMul(w[O,C], h)""",
    "com.microsoft.FusedMatMul/backward/weights that sum to one": """
        @runtime v = MatMul(Z[N,T,K], w[K,O]); p = Softmax(X[N,L,T]);
        h[N,L,O] = com.microsoft.FusedMatMul<alpha=0.5>(p, v);
        m = Transpose<perm=[0,2,1]>(h); y = BN[O](m)""",
    "com.microsoft.FusedMatMul/forward/weights that sum to one": """
        @runtime v = BN[C](Z[N,C,T]); u = Transpose<perm=[0,2,1]>(v); p = Softmax(X[N,L,T]);
        h[N,L,C] = com.microsoft.FusedMatMul<alpha=-2.0>(p, u);
        y = MatMul(h, w[C,O])""",
    "com.microsoft.FusedMatMul/backward": """
        @runtime h[N,O] = com.microsoft.FusedMatMul<alpha=0.5, transB=1>(X[N,C], w[O,C]);
        y = BN[O](h)""",
    "com.microsoft.FusedMatMul/backward/transA, rank 3": """
        @runtime h[N,T,O] = com.microsoft.FusedMatMul<transA=1>(X[N,C,T], w[C,O]);
        y = Mul(h, s[O])""",
    "com.microsoft.FusedMatMul/backward/left, transposed": """
        @runtime h[N,O,T] = com.microsoft.FusedMatMul<transA=1, alpha=2.0>(w[N,C,O], X[N,C,T]);
        y = BN[O](h)""",
    "com.microsoft.FusedMatMul/forward": """
        @runtime x = BN[C](X[N,C]);
        y[N,O] = com.microsoft.FusedMatMul<alpha=0.5, transB=1>(x, w[O,C])""",
    "com.microsoft.FusedMatMul/forward/transA": """
        @runtime x = BN[C](X[N,C,T]);
        y[N,T,O] = com.microsoft.FusedMatMul<alpha=0.5, transA=1>(x, w[C,O])""",
    "com.microsoft.FusedMatMul/forward/left": """
        @runtime x = BN[C](X[N,C,T]);
        y[N,O,T] = com.microsoft.FusedMatMul<alpha=-1.0, transA=1>(w[N,C,O], x)""",
    "com.microsoft.FusedGemm/backward": """
        @judge h[N,O] = com.microsoft.FusedGemm<alpha=0.5, beta=2.0>(X[N,C], w[C,O], c[O]);
        y = BN[O](h)""",
    "com.microsoft.FusedGemm/forward": """
        @judge x = BN[C](X[N,C]);
        y[N,O] = com.microsoft.FusedGemm<alpha=0.5, beta=2.0, transB=1>(x, w[O,C], c[O])""",
    "Einsum/backward": """
        h = Einsum<equation="btc,co->bto">(X[N,T,C], w[C,O]); y = Mul(h, s[O])""",
    "Einsum/backward/channels in the middle": """
        h = Einsum<equation="oc,bct->bot">(w[O,C], X[N,C,T]); y = BN[O](h)""",
    "Einsum/backward/batched": """
        h = Einsum<equation="bhid,hde->bhie">(X[N,C,H,D], w[C,D,E]); y = BN[C](h)""",
    "Einsum/backward/implicit result": """
        h = Einsum<equation="ij, jk">(X[N,C], w[C,O]); y = BN[O](h)""",
    "Einsum/backward/exchanged result": """
        h = Einsum<equation="btc,co->bot">(X[N,T,C], w[C,O]); y = BN[O](h)""",
    "Einsum/backward/two computed operands": """
        z = MatMul(Z[N,C,D], w[D,O]); h = Einsum<equation="btc,bco->bto">(X[N,T,C], z);
        y = Mul(h, s[O])""",
    "Einsum/backward/weights that sum to one": """
        v = MatMul(w[C,O,E], Z[N,C,E,T]); p = Softmax(X[N,C,L,T]);
        h = Einsum<equation="bhqk,bhdk->bdqh">(p, v); y = BN[O](h)""",
    "Einsum/forward/weights that sum to one": """
        v = BN[C](Z[N,C,T]); p = Softmax(X[N,L,T]);
        h = Einsum<equation="bck,bqk->bqc">(v, p); y = MatMul(h, w[C,O])""",
    "Einsum/forward/two computed operands": """
        x = Mul(X[N,T,C], s[C]); z = MatMul(w[C,D], Z[N,D,O]);
        y = Einsum<equation="btc,bco->bto">(x, z)""",
    "Einsum/forward/free label, to the next": """
        x = Mul(X[N,T,C], s[T,1]); h = Einsum<equation="btc,co->bto">(x, w[C,O]);
        y = MatMul(v[M,T], h)""",
    "Einsum/forward/free label beside a shift": """
        x = BN[C](X[N,C,T]);
        h = Einsum<equation="bct,to->bco">(x, w[T,O]); y = MatMul(v[M,C], h)""",
    "Einsum/forward": """
        x = Mul(X[N,T,C], s[C]); y = Einsum<equation="btc,co->bto">(x, w[C,O])""",
    "Einsum/forward/shift, channels in the middle": """
        x = BN[C](X[N,C,T]); y = Einsum<equation="bct,co->bto">(x, w[C,O])""",
    "Einsum/forward/second operand": """
        x = BN[C](X[N,C,T]); y = Einsum<equation="oc,bct->bot">(w[O,C], x)""",
    "Einsum/forward/all contracted": """
        x = BN[C](X[N,C,T]); y = Einsum<equation="bct,cto->bo">(x, w[C,T,O])""",
    "Einsum/forward/label summed over alone": """
        x = BN[C](X[N,C,T]); y = Einsum<equation="bct,co->bo">(x, w[C,O])""",
}

REFUSALS = {
    "a weight of 1 beside an axis of any size": (
        Reason.UNKNOWN_SHAPE,
        """x = Add(X[N,c], q[1]); y = Einsum<equation="nc,co->no">(x, w[1,O])""",
    ),
    "an attention to nothing": (
        Reason.WRONG_AXIS,
        """v = Conv(X[N,C,H], w[O,C,1]); f = Slice(v, s{0}, e{0}, a{2});
        p = Softmax<axis=1>(Q[N,0,H]); h = MatMul(f, p); y = BN[O](h)""",
    ),
    "a constant along the rows": (
        Reason.GRAPH_OUTPUT,
        "h = MatMul(X[N,T,C], w[C,O]); y = Mul(h, s[T,1])",
    ),
    "a BN over the rows": (Reason.GRAPH_OUTPUT, "h = MatMul(X[N,C,T], w[T,O]); y = BN[C,0](h)"),
    "a BN over the rows, forward": (
        Reason.WRONG_AXIS,
        "x = BN[C](X[N,C,T]); y = MatMul(x, w[T,O])",
    ),
    "a BN over the columns, weight on the left": (
        Reason.GRAPH_OUTPUT,
        "h = Gemm(w[M,C], X[C,O]); y = BN[O,0](h)",
    ),
    "a BN before a transposed Gemm": (
        Reason.WRONG_AXIS,
        "x = BN[N](X[C,N]); y = Gemm<transA=1>(x, w[C,O])",
    ),
    "a BN over the batch of a product": (
        Reason.GRAPH_OUTPUT,
        "h = MatMul(X[N,C,H,W], w[W,O]); y = BN[C,0](h)",
    ),
    "a constant along the batch": (
        Reason.GRAPH_OUTPUT,
        "h = MatMul(X[N,T,C], w[C,O]); y = Mul(h, s[N,1,1])",
    ),
    "an addend that is computed": (
        Reason.GEMM_BIAS,
        "c = Sigmoid(Z[O]); h = Gemm(X[N,C], w[C,O], c); y = BN[O](h)",
    ),
    "an Einsum with an ellipsis": (
        Reason.OPAQUE_OP,
        'h = Einsum<equation="...c,co->...o">(X[N,T,C], w[C,O]); m = Mul(h, s[O]); y = Sin(m)',
    ),
    "an Einsum over the rows": (
        Reason.OPAQUE_OP,
        """x = Sin(X[N,T,C]); h = Einsum<equation="btc,co->bto">(x, w[C,O]); m = Mul(h, s[T,1]);
        y = Sin(m)""",
    ),
    "an Einsum of two values": (
        Reason.GEMM_BIAS,
        """h = Einsum<equation="btc,bco->bto">(X[N,T,C], Z[N,C,O]); m = Sub(h, t[O]);
        y = Sin(m)""",
    ),
    "weights that sum to one along another axis": (
        Reason.GEMM_BIAS,
        """v = MatMul(Z[N,T,K], w[K,O]); p = Softmax<axis=1>(X[N,L,T]); h = MatMul(p, v);
        m = Sub(h, t[O]); y = Sin(m)""",
    ),
    "weights that sum to one over two axes, opset 11": (
        Reason.GEMM_BIAS,
        """@opset=11 v = MatMul(Z[N,T,K], w[K,O]); p = Softmax<axis=1>(X[N,L,T]);
        h = MatMul(p, v); m = Sub(h, t[O]); y = Sin(m)""",
    ),
    "weights that summed to one once": (
        Reason.GEMM_BIAS,
        """v = MatMul(Z[N,T,K], w[K,O]); s = Softmax(X[N,L,T]); p = Sin(s); h = MatMul(p, v);
        m = Sub(h, t[O]); y = Sin(m)""",
    ),
    "rows of another length than those that sum to one": (
        Reason.GEMM_BIAS,
        """v = MatMul(Z[M,K], w[K,O]); s = Softmax(X[N,M,L]); q = Transpose<perm=[0,2,1]>(s);
        p = Reshape(q, d{-1,M}); h = MatMul(p, v); m = Sub(h, t[O]); y = Sin(m)""",
    ),
    "weights that sum to one, and a shift along their rows": (
        Reason.WRONG_AXIS,
        """v = MatMul(Z[N,T,K], w[K,O]); p = Softmax(X[N,L,T]); h = MatMul(p, v);
        m = Add(h, t[L,1]); y = Sin(m)""",
    ),
    "a FusedGemm with an activation": (
        Reason.OPAQUE_OP,
        """h[N,O] = com.microsoft.FusedGemm<activation="Relu">(X[N,C], w[C,O], c[O]);
        m = Mul(h, s[O]); y = Sin(m)""",
    ),
    "a FusedMatMul that moves the batch": (
        Reason.OPAQUE_OP,
        """h[T,N,O] = com.microsoft.FusedMatMul<transBatchA=1>(X[N,T,C], w[T,C,O]);
        m = Mul(h, s[O]); y = Sin(m)""",
    ),
}


class TestProduct(RowTests):
    """Gemm, MatMul, Einsum and com.microsoft's fused forms."""
