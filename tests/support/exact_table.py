"""The rows of exact arithmetic: for each rule, models in which it is used.

The notation is that of `exact_rows`. To a rule belong as many rows as show each number that it
gives: the scale and the shift, in every one of its alternatives.
"""

from __future__ import annotations

from exact_rows import build, check
from mutants import Rule, fault_in

from bnfold import fold

PAIR = "h = Conv(X[2,4,5,6], w[4,4,2,2]); k = Conv(Z[2,4,5,6], v[4,4,2,2], b[4])"
BESIDE = "a = BN(X[2,4,5,6], 4, {}); k = Conv(Z[2,4,5,6], w[4,4,1,1])"

ROWS: dict[str, list[str]] = {
    # ------------------------------------------------------------------ convolutions
    "backward Conv": [
        "h = Conv<group=2, pads=[1,0,1,2], strides=[2,1]>(X[2,4,5,6], w[6,2,3,2]); y = BN(h, 6)",
        'h = Conv<auto_pad="SAME_UPPER", dilations=[2]>(X[2,4,7], w[6,4,3], b[6]); y = BN(h, 6)',
        "h = Conv(X[1,2,3,4,3], w[4,2,2,2,2]); y = BN(h, 4)",
    ],
    "forward Conv": [
        "a = BN(X[2,4,5,6], 4); y = Conv<group=2, strides=[2,1]>(a, w[6,2,3,2])",
        "a = BN(X[2,4,5,6], 4, 0); y = Conv<group=2, pads=[1,1,1,1]>(a, w[6,2,3,3], b[6])",
        'a = BN(X[2,4,7], 4); y = Conv<dilations=[2], auto_pad="VALID">(a, w[6,4,3], b[6])',
        "a = BN(X[1,2,3,4,3], 2); y = Conv(a, w[4,2,2,2,2])",
    ],
    "backward com.microsoft.FusedConv": [
        "@rank=h:4 h = com.microsoft.FusedConv<pads=[1,1,1,1]>(X[2,4,5,5], w[6,4,3,3], b[6]); "
        "y = BN(h, 6)",
    ],
    "forward com.microsoft.FusedConv": [
        "a = BN(X[2,4,5,5], 4); y = com.microsoft.FusedConv(a, w[6,4,3,3])",
    ],
    "backward ConvTranspose": [
        "h = ConvTranspose<group=2, strides=[2,1], pads=[1,0,0,1], output_padding=[1,0]>"
        "(X[2,4,3,4], w[4,3,3,2]); y = BN(h, 6)",
        'h = ConvTranspose<dilations=[2,1], auto_pad="SAME_LOWER", strides=[2,2]>'
        "(X[2,4,3,4], w[4,3,2,3], b[3]); y = BN(h, 3)",
        "h = ConvTranspose<output_shape=[6,5], strides=[2,1]>(X[1,2,3,4], w[2,3,2,3]); "
        "y = BN(h, 3)",
    ],
    "forward ConvTranspose": [
        "a = BN(X[2,4,3,4], 4, 0); y = ConvTranspose<group=2, strides=[2,1]>(a, w[4,3,3,2], b[6])",
    ],
    # ----------------------------------------------------------------------- products
    "backward Gemm": [
        "h = Gemm<transB=1, alpha=0.5, beta=2.0>(X[3,4], w[5,4], c[5]); y = BN(h, 5)",
        "h = Gemm<transA=1>(X[4,3], w[4,5]); y = BN(h, 5)",
        "h = Gemm<beta=0.5>(X[3,4], w[4,5], c[3,1]); y = BN(h, 5)",
        "h = Gemm<beta=0.0>(X[3,4], w[4,5], c[3,5]); y = BN(h, 5)",
        "h = Gemm(w[5,4], X[4,3]); t = Transpose<perm=[1,0]>(h); y = BN(t, 5)",
    ],
    "forward Gemm": [
        "a = BN(X[3,4], 4); y = Gemm<transB=1, alpha=0.5, beta=2.0>(a, w[5,4], c[5])",
        "a = BN(X[3,4], 4); y = Gemm<alpha=2.0>(a, w[4,5])",
        "a = BN(X[3,4], 4); y = Gemm<transB=1>(w[5,4], a)",
        "a = BN(X[3,4], 4); y = Gemm<transB=1>(w[5,4], a, c[5,1])",
    ],
    "backward com.microsoft.FusedGemm": [
        "@rank=h:2 h = com.microsoft.FusedGemm<transB=1>(X[3,4], w[5,4], c[5]); y = BN(h, 5)",
    ],
    "forward com.microsoft.FusedGemm": [
        "a = BN(X[3,4], 4); y = com.microsoft.FusedGemm(a, w[4,5], c[5])",
    ],
    "backward MatMul": [
        "h = MatMul(X[3,4], w[4,5]); y = BN(h, 5)",
        "h = MatMul(X[2,3,4], w[4,5]); t = Transpose<perm=[0,2,1]>(h); y = BN(t, 5)",
        "h = MatMul(w[5,4], X[2,4,3]); y = BN(h, 5)",
        "h = MatMul(X[2,5,3,4], w[5,4,2]); y = BN(h, 5)",
        "v = MatMul(w[5,4], Z[2,4,3]); p = Softmax<axis=1>(X[2,3,6]); h = MatMul(v, p); "
        "y = BN(h, 5)",
    ],
    "forward MatMul": [
        "a = BN(X[3,4], 4); y = MatMul(a, w[4,5])",
        "a = BN(X[2,4,3], 4); y = MatMul(w[5,4], a)",
        "a = BN(X[2,4,3], 4); t = Transpose<perm=[0,2,1]>(a); y = MatMul(t, w[4,5])",
        "a = BN(X[2,4,3], 4, 0); h = MatMul(a, Z[2,3,5]); y = Conv(h, w[3,4,2])",
        "v = BN(Z[2,4,3], 4); p = Softmax<axis=1>(X[2,3,6]); h = MatMul(v, p); "
        "y = Conv(h, w[3,4,2])",
        "@left=1 a = BN(X[2,4,3], 4); h = MatMul(w[5,4], a); y = Add(h, b[5,1])",
    ],
    "backward com.microsoft.FusedMatMul": [
        "@rank=h:2 h = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(X[3,4], w[5,4]); "
        "y = BN(h, 5)",
    ],
    "forward com.microsoft.FusedMatMul": [
        "@rank=g:2 a = BN(X[3,4], 4); "
        "g = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(a, w[5,4]); y = Sigmoid(g)",
        "@rank=g:2 @left=1 a = BN(X[3,4], 4); "
        "g = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(a, w[5,4]); y = Add(g, b[5])",
    ],
    "backward Einsum": [
        'h = Einsum<equation="nchw,oc->nohw">(X[2,4,3,2], w[5,4]); y = BN(h, 5)',
        'h = Einsum<equation="bi,io->bo">(X[2,4], w[4,5]); y = BN(h, 5, 0)',
        "v = MatMul(w[5,4], Z[2,4,3]); p = Softmax(X[2,6,3]); "
        'h = Einsum<equation="bck,bqk->bcq">(v, p); y = BN(h, 5)',
    ],
    "forward Einsum": [
        'a = BN(X[2,4,3,2], 4); y = Einsum<equation="nchw,oc->nohw">(a, w[5,4])',
        "v = BN(Z[2,4,3], 4); p = Softmax(X[2,6,3]); "
        'h = Einsum<equation="bck,bqk->bcq">(v, p); y = Conv(h, w[3,4,2])',
        'a = BN(X[2,4,3], 4, 0); h = Einsum<equation="bct,btq->bcq">(a, Z[2,3,6]); '
        "y = Conv(h, w[3,4,2])",
        '@left=1 a = BN(X[2,4,3], 4); h = Einsum<equation="bct,cht->bht">(a, w[4,2,3]); '
        "y = Add(h, b[2,3])",
    ],
    "backward DequantizeLinear": [
        "q = DequantizeLinear<axis=0>(k:int8[6,4,3,3], s^[6]); h = Conv(X[2,4,5,5], q, b[6]);"
        "y = BN(h, 6, +)",
        "q = DequantizeLinear(k:uint8[6,4,1,1], s^[], z:uint8[]); h = Conv(X[2,4,5,5], q, b[6]);"
        "y = BN(h, 6, +1)",
    ],
    # ---------------------------------------------------------------------- recurrent
    "forward LSTM": [
        "a = BN(X[3,2,4], 2, 1); y, h, c = LSTM<hidden_size=2>(a, w[1,8,4], r[1,8,2])",
        "a = BN(X[3,4], 4); u = Unsqueeze(a, d{1}); y, h, c = LSTM<hidden_size=2,"
        ' direction="bidirectional">(u, w[2,8,4], r[2,8,2], b[2,16])',
        "t = Transpose<perm=[2,1,0]>(X[2,4,3]); p = BN(t, 4); q = Transpose<perm=[0,2,1]>(p);"
        'y, h, c = LSTM<hidden_size=2, direction="reverse">(q, w[1,8,4], r[1,8,2], b[1,16])',
    ],
    "forward GRU": [
        "a = BN(X[2,4,3], 4); q = Transpose<perm=[2,0,1]>(a); y, h = GRU<hidden_size=2,"
        " linear_before_reset=1>(q, w[1,6,4], r[1,6,2], b[1,12])",
        "a = BN(X[2,4,3], 4); q = Transpose<perm=[0,2,1]>(a); y, h = GRU<hidden_size=2, layout=1>"
        "(q, w[1,6,4], r[1,6,2])",
    ],
    "forward RNN": [
        "a = BN(X[2,4,3], 4); q = Transpose<perm=[2,0,1]>(a); y, h = RNN<hidden_size=2,"
        ' activations=["Relu"]>(q, w[1,2,4], r[1,2,2])',
    ],
    # ----------------------------------------------------------------- normalizations
    "backward BatchNormalization": [
        "@left=1 h = BN(X[2,4,3,3], 4); r = Relu(h); y = BN(r, 4, +0)",
        "@left=1 h = BN(X[2,4,3,3], 4); r = Clip(h, l=-0.5, m=1.5); y = BN(r, 4, +1)",
    ],
    "forward BatchNormalization": [
        "@left=1 a = BN(X[2,4,3,3], 4); y = BN(a, 4)",
    ],
    "backward LayerNormalization": [
        "h = LayerNormalization(X[2,3,4], s[4], b[4]); t = Transpose<perm=[0,2,1]>(h);"
        "y = BN(t, 4)",
        "h = LayerNormalization<axis=1>(X[2,4,3], s[4,3]); y = BN(h, 4)",
    ],
    "backward RMSNormalization": [
        "@opset=23 h = RMSNormalization<axis=1>(X[2,4,3], s[4,3]); y = BN(h, 4, 0)",
    ],
    "backward InstanceNormalization": [
        "h = InstanceNormalization(X[2,4,3,3], s[4], b[4]); y = BN(h, 4)",
    ],
    "backward GroupNormalization": [
        "@opset=21 h = GroupNormalization<num_groups=2>(X[2,4,3,3], s[4], b[4]); y = BN(h, 4)",
    ],
    # -------------------------------------------------------- sums, products, choices
    "backward Add": [
        f"{PAIR}; g = Add(h, k); y = BN(g, 4)",
        "h = Conv(X[2,4,5,6], w[4,4,2,2]); p = GlobalAveragePool(h); k = Conv(p, v[4,4,1,1]);"
        "j = Conv(Z[2,4,5,6], u[4,4,1,1]); g = Add(k, j); y = BN(g, 4)",
        "@keep=g h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Add(c[4,1,1], h); y = BN(g, 4)",
        f"{PAIR}; l = Abs(h); g = Add(l, k); y = BN(g, 4, +)",
    ],
    "forward Add": [
        f"{BESIDE.format('')}; g = Add(a, k); y = Conv(g, u[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4); g = Add(c[4,1,1], a); y = Conv(g, u[3,4,2,2])",
        "a = Add(X[2,4,5,6], c[4,1,1]); g = Add(Z[2,4,5,6], a); y = Conv(g, u[3,4,2,2])",
    ],
    "backward Sub": [
        f"{PAIR}; g = Sub(h, k); y = BN(g, 4)",
        f"{PAIR}; l = Abs(h); g = Sub(l, k); y = BN(g, 4, +)",
    ],
    "forward Sub": [
        f"{BESIDE.format('')}; g = Sub(a, k); y = Conv(g, u[3,4,2,2])",
        f"{BESIDE.format('')}; g = Sub(k, a); y = Conv(g, u[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4); g = Sub(c[4,1,1], a); y = Conv(g, u[3,4,2,2])",
        "a = Add(X[2,4,5,6], c[4,1,1]); g = Sub(Z[2,4,5,6], a); y = Conv(g, u[3,4,2,2])",
    ],
    "backward Sum": [f"{PAIR}; l = Conv(W[2,4,5,6], u[4,4,2,2]); g = Sum(h, k, l); y = BN(g, 4)"],
    "forward Sum": [
        f"{BESIDE.format('')}; l = Conv(W[2,4,5,6], v[4,4,1,1]); g = Sum(k, a, l);"
        "y = Conv(g, u[3,4,2,2])"
    ],
    "backward Mean": [
        f"{PAIR}; l = Conv(W[2,4,5,6], u[4,4,2,2]); g = Mean(h, k, l, h); y = BN(g, 4, 0)"
    ],
    "forward Mean": [f"{BESIDE.format('')}; g = Mean(a, k); y = Conv(g, u[3,4,2,2])"],
    "backward Mul": [
        f"{PAIR}; l = Sigmoid(k); g = Mul(l, h); y = BN(g, 4, 0)",
        "@keep=g h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Mul(h, c^[4,1,1]); y = BN(g, 4)",
        "h = Conv(X[2,4,1,1], w[4,4,1,1]); g = Mul(c[4,3,2], h); y = BN(g, 4, 0)",
    ],
    "forward Mul": [
        "a = BN(X[2,4,5,6], 4, 0); l = Sigmoid(X); g = Mul(l, a); y = Conv(g, u[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4); g = Mul(a, c[4,1,1]); y = Conv(g, u[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4, 0); g = Mul(a, a); y = Conv(g, u[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4, 0); k = Conv(Z[2,4,5,6], w[4,4,1,1]); g = Mul(a, k);y = Sigmoid(g)",
    ],
    "backward Div": [
        "h = Conv(X[2,4,5,6], w[4,4,1,1]); g = Div(h, Z+[2,4,5,6]); y = BN(g, 4, 0)",
        "h = Conv(X+[2,4,5,6], w+[4,4,1,1]); g = Div(X, h); y = BN(g, 4, 0)",
        "@keep=g h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Div(h, c^[4,1,1]); y = BN(g, 4)",
        "@keep=g h = Conv(X+[2,4,5,6], w+[4,4,2,2]); g = Div(c[4,1,1], h); y = BN(g, 4, 0)",
    ],
    "forward Div": [
        "a = BN(X[2,4,5,6], 4, 0); g = Div(a, Z+[2,4,5,6]); y = Conv(g, u[3,4,2,2])",
        "a = BN(X+[2,4,5,6], 4, 0); g = Div(Z[2,4,5,6], a); y = Conv(g, u[3,4,2,2])",
        "a = BN(X+[2,4,5,6], 4, 0); g = Div(c[4,1,1], a); y = Sigmoid(g)",
        "a = BN(X[2,4,5,6], 4); g = Div(a, c^[4,1,1]); y = Conv(g, u[3,4,2,2])",
    ],
    "backward Neg": ["@keep=g h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Neg(h); y = BN(g, 4)"],
    "forward Neg": ["@keep=g a = BN(X[2,4,5,6], 4); g = Neg(a); y = Conv(g, w[4,4,2,2])"],
    "backward Max": [
        f"{PAIR}; g = Max(h, k); y = BN(g, 4, +)",
        f"{PAIR}; g = Max(h, k, c[4,1,1]); y = BN(g, 4, -)",
    ],
    "forward Max": [
        f"{BESIDE.format('+')}; g = Max(k, a); y = Conv(g, u[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4, -); g = Max(a, c[4,1,1]); y = Conv(g, u[3,4,2,2])",
    ],
    "backward Min": [
        f"{PAIR}; g = Min(h, k); y = BN(g, 4, +)",
        f"{PAIR}; g = Min(h, k); y = BN(g, 4, -)",
    ],
    "forward Min": [f"{BESIDE.format('-')}; g = Min(k, a); y = Conv(g, u[3,4,2,2])"],
    "backward Where": [
        f"{PAIR}; g = Where(M:bool[2,1,4,5], h, k); y = BN(g, 4)",
        "h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Where(M:bool[2,1,4,5], h, c=0.5); y = BN(g, 4)",
    ],
    "forward Where": [
        f"{BESIDE.format('')}; g = Where(M:bool[2,4,5,6], k, a); y = Conv(g, u[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4); g = Where(M:bool[2,4,5,6], a, c=0.5); y = Conv(g, u[3,4,2,2])",
    ],
    # ---------------------------------------------------------- joined, cut and picked
    "backward Concat": [
        "h = Conv(X[2,4,5,6], w[3,4,2,2]); k = Conv(Z[2,4,5,6], v[4,4,2,2]);"
        "g = Concat<axis=1>(h, k); y = BN(g, 7)",
        f"{PAIR}; g = Concat<axis=-1>(h, k, c[2,4,4,1]); y = BN(g, 4)",
    ],
    "forward Concat": [
        "a = BN(X[2,4,5,6], 4); g = Concat<axis=1>(Z[2,3,5,6], a); y = Conv(g, w[5,7,2,2])",
        "a = BN(X[2,4,5,6], 4); g = Concat<axis=2>(a, a); y = Conv(g, w[5,4,2,2])",
    ],
    "backward Split": [
        "h = Conv(X[2,4,5,6], w[6,4,2,2]); p, q = Split<axis=1>(h, n{2,4}); y = BN(p, 2);"
        "z = Sigmoid(q)",
        "@opset=11 h = Conv(X[2,4,5,6], w[6,4,2,2]); p, q = Split<axis=1, split=[2,4]>(h);"
        "y = BN(q, 4); z = BN(p, 2)",
        "h = Conv(X[2,4,5,6], w[6,4,2,2]); s = SplitToSequence<axis=1>(h, n{2,4});"
        "p = SequenceAt(s, i:int64=0); q = SequenceAt(s, j:int64=-1); y = BN(p, 2);"
        "z = BN(q, 4)",
        "@opset=11 h = Conv(X[2,4,5,6], w[6,4,2,2]); s = SplitToSequence<axis=-3>(h, n{1,2,3});"
        "q = SequenceAt(s, i:int64=1); y = BN(q, 2); p = SequenceAt(s, j:int64=2); o = Sigmoid(p)",
    ],
    "forward Split": [
        "a = BN(X[2,6,5,6], 6); p, q, r = Split<axis=1, num_outputs=3>(a);"
        "y = Conv(p, w[3,2,2,2]); z = Conv(q, v[3,2,2,2]); o = Conv(r, u[3,2,2,2])",
        "a = BN(X[2,6,5,6], 6); s = SplitToSequence<axis=1>(a, n{2,4});"
        "p = SequenceAt(s, i:int64=1); y = Conv(p, w[3,4,2,2]); q = SequenceAt(s, j:int64=-2);"
        "z = Conv(q, v[3,2,2,2])",
    ],
    "backward Slice": [
        "h = Conv(X[2,4,5,6], w[6,4,2,2]); g = Slice(h, s{4}, e{-7}, x{1}, t{-2}); y = BN(g, 3)",
        "@opset=9 h = Conv(X[2,4,5,6], w[6,4,2,2]); g = Slice<axes=[2,1], starts=[1,-4],"
        " ends=[3,100]>(h); y = BN(g, 4)",
        "h = Conv(X[2,4,5,6], w[6,4,2,2]); g = Slice(h, s{3}, e{0}, x{2}, t{-1}); y = BN(g, 6)",
    ],
    "forward Slice": [
        "a = BN(X[2,6,5,6], 6); g = Slice(a, s{4}, e{-7}, x{1}, t{-2}); y = Conv(g, w[3,3,2,2])",
        "a = BN(X[2,6,5,6], 6); g = Slice(a, s{1,-4}, e{5,-1}, x{3,1}); y = Conv(g, w[3,3,2,2])",
    ],
    "backward Gather": [
        "g = Gather(t[7,4], I:int64[2,3]); u = Transpose<perm=[0,2,1]>(g); y = BN(u, 4)",
        "h = Conv(X[2,4,5,6], w[6,4,2,2]); g = Gather<axis=1>(h, i{-1,0,3}); y = BN(g, 3)",
        "h = Conv(X[2,4,5,6], w[6,4,2,2]); g = Gather<axis=2>(h, i{2,2}); y = BN(g, 6)",
    ],
    "forward Gather": [
        "a = BN(X[2,6,5,6], 6); g = Gather<axis=1>(a, i{-1,0,3,0}); y = Conv(g, w[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4); g = Gather<axis=2>(a, I:int64[2]); y = Conv(g, w[3,4,2,2])",
    ],
    "backward Expand": [
        "h = Conv(X[2,4,1,6], w[4,4,1,2]); g = Expand(h, s{2,4,3,5}); y = BN(g, 4)",
    ],
    "forward Expand": [
        "a = BN(X[2,4,1,6], 4); g = Expand(a, s{2,4,3,6}); y = Conv(g, w[3,4,2,2])",
    ],
    "backward Tile": [
        "h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Tile(h, r{2,1,1,2}); y = BN(g, 4)",
    ],
    "forward Tile": ["a = BN(X[2,4,5,6], 4); g = Tile(a, r{1,2,1,1}); y = Conv(g, w[3,8,2,2])"],
    "backward DepthToSpace": [
        "h = Conv(X[2,4,3,3], w[8,4,2,2]); g = DepthToSpace<blocksize=2>(h); y = BN(g, 2)",
        'h = Conv(X[2,4,3,3], w[8,4,2,2]); g = DepthToSpace<blocksize=2, mode="CRD">(h);'
        "y = BN(g, 2)",
    ],
    "forward DepthToSpace": [
        "a = BN(X[2,4,3,3], 4, 1); g = DepthToSpace<blocksize=2>(a); y = Conv(g, w[3,1,2,2])",
        "b = BN(X[2,2,6,6], 2); a = SpaceToDepth<blocksize=2>(b); "
        "g = DepthToSpace<blocksize=2>(a);"
        "y = Conv(g, w[3,2,2,2])",
    ],
    "backward SpaceToDepth": [
        "h = Conv(X[1,4,5,5], w[2,4,2,2]); g = SpaceToDepth<blocksize=2>(h); y = BN(g, 8, 1)",
        "h = Conv(X[1,4,5,5], w[2,4,2,2]); g = SpaceToDepth<blocksize=2>(h);"
        "d = DepthToSpace<blocksize=2>(g); y = BN(d, 2)",
    ],
    "forward SpaceToDepth": [
        "a = BN(X[1,2,4,4], 2); g = SpaceToDepth<blocksize=2>(a); y = Conv(g, w[3,8,2,2])",
    ],
    # ----------------------------------------------------------------------- reshaped
    "backward Transpose": [
        "h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Transpose<perm=[3,0,2,1]>(h);"
        "t = Transpose<perm=[1,3,2,0]>(g); y = BN(t, 4)",
        "h = MatMul(X[4,3], w[3,5]); g = Transpose(h); y = BN(g, 4, 1)",
    ],
    "forward Transpose": [
        "a = BN(X[2,4,5,6], 4); g = Transpose<perm=[0,2,3,1]>(a); y = MatMul(g, w[4,3])",
    ],
    "backward Reshape": [
        "h = Conv(X[2,4,5,6], w[6,4,2,2]); g = Reshape(h, s{0,3,2,-1}); f = Reshape(g, z{2,6,20});"
        "y = BN(f, 6)",
        "h = MatMul(X[6,3], w[3,4]); g = Reshape(h, s{2,3,4}); t = Transpose<perm=[0,2,1]>(g);"
        "y = BN(t, 4)",
    ],
    "forward Reshape": [
        "a = BN(X[2,4,3,2], 4); g = Reshape(a, s{2,-1}); y = Gemm(g, w[24,3])",
    ],
    "backward Flatten": ["h = Conv(X[2,4,2,2], w[3,4,2,2]); g = Flatten(h); y = BN(g, 3)"],
    "forward Flatten": [
        "a = BN(X[2,4,3,2], 4); g = Flatten(a); y = Gemm(g, w[24,3])",
        "a = BN(X[3,4], 4); u = Transpose(a); g = Flatten<axis=-1>(u); v = Transpose(g);"
        "y = Gemm(v, w[4,2])",
    ],
    "backward Squeeze": [
        "h = Conv(X[2,4,1,6], w[4,4,1,2]); g = Squeeze(h, d{2}); y = BN(g, 4)",
        "h = Conv(X[2,4,1,2], w[4,4,1,2]); g = Squeeze(h); y = BN(g, 4)",
    ],
    "forward Squeeze": [
        "@opset=11 a = BN(X[2,4,1,6], 4); g = Squeeze<axes=[-2]>(a); y = Conv(g, w[3,4,2])",
    ],
    "backward Unsqueeze": [
        "h = Conv(X[2,4,6], w[4,4,2]); g = Unsqueeze(h, d{-1,2}); y = BN(g, 4)",
    ],
    "forward Unsqueeze": [
        "@opset=11 a = BN(X[2,4,6], 4); g = Unsqueeze<axes=[-1]>(a); y = Conv(g, w[3,4,2,1])",
    ],
    # ---------------------------------------------------------------- pad and resize
    "backward Pad": [
        "h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Pad(h, p{0,0,1,-1,0,0,0,2}, v=0.5); "
        "y = BN(g, 4, 1)",
        'h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Pad<mode="reflect">(h, p{0,0,1,2,0,0,0,1});'
        "y = BN(g, 4)",
        'h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Pad<mode="edge">(h, p{1,2}, , x{-1}); y = BN(g, 4)',
        "h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Pad(h, p{0,1,0,0,0,0,0,0}, v=0.5); y = BN(g, 5)",
        "@opset=10 h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Pad<pads=[0,0,1,1,0,0,1,1]>(h);"
        "y = BN(g, 4, 0)",
        "@opset=10 h = Conv(X[2,4,5,6], w[4,4,2,2]); "
        "g = Pad<pads=[0,0,1,1,0,0,1,1], value=0.5>(h);"
        "y = BN(g, 4, 1)",
        '@opset=19 h = Conv(X[2,4,5,6], w[4,4,2,2]); g = Pad<mode="wrap">(h, p{0,0,1,2,0,0,0,1});'
        "y = BN(g, 4)",
    ],
    "forward Pad": [
        "a = BN(X[2,4,5,6], 4, 1); g = Pad(a, p{0,0,1,-1,0,0,0,2}, v=0.5); "
        "y = Conv(g, w[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4); g = Pad(a, p{0,1,0,0,0,2,0,0}, v=0.5); y = Conv(g, w[3,7,2,2])",
        'a = BN(X[2,4,5,6], 4); g = Pad<mode="edge">(a, p{0,0,1,-1,0,0,0,2});'
        "y = Conv(g, w[3,4,2,2])",
        "a = BN(X[2,4,5,6], 4, 0); g = Pad(a, p{0,0,1,1,0,0,0,2}); y = Conv(g, w[3,4,2,2])",
    ],
    "backward Resize": [
        "h = Conv(X[1,4,3,4], w[4,4,2,2]); g = Resize(h, , s:float{1,1,2,2}); y = BN(g, 4)",
        'h = Conv(X[1,4,3,5], w[4,4,2,2]); y0 = Resize<mode="linear">(h, , , z{1,4,4,2});'
        "y = BN(y0, 4)",
        'h = Conv(X[1,4,3,4], w[4,4,2,2]); g = Resize<mode="cubic">(h, , s:float{1,1,2,2});'
        "y = BN(g, 4)",
        'h = Conv(X[1,4,3,4], w[4,4,1,1]); y0 = Resize<mode="linear",'
        ' coordinate_transformation_mode="align_corners", axes=[2]>(h, , , z{5}); y = BN(y0, 4)',
    ],
    "forward Resize": [
        'a = BN(X[1,4,3,4], 4); g = Resize<mode="linear",'
        ' coordinate_transformation_mode="asymmetric">(a, , s:float{1,1,2,2});'
        "y = Conv(g, w[3,4,2,2])",
        '@opset=10 a = BN(X[1,4,3,4], 4); g = Resize<mode="nearest">(a, s:float{1,1,2,2});'
        "y = Conv(g, w[3,4,2,2])",
    ],
    "backward Upsample": [
        "@opset=9 h = Conv(X[1,4,3,4], w[4,4,2,2]); g = Upsample(h, s:float{1,1,2,2}); "
        "y = BN(g, 4)",
    ],
    "forward Upsample": [
        '@opset=9 a = BN(X[1,4,3,4], 4); g = Upsample<mode="linear">(a, s:float{1,1,2,2});'
        "y = Conv(g, w[3,4,2,2])",
    ],
    # ------------------------------------------------------------------- reductions
    "backward ReduceSum": [
        "h = Conv(X[2,4,5,5], w[4,4,2,2]); g = ReduceSum(h, x{-1}); y = BN(g, 4)",
        "h = Conv(X[2,4,5,5], w[4,4,2,2]); g = ReduceSum<keepdims=0>(h, x{2,3}); y = BN(g, 4)",
    ],
    "forward ReduceSum": [
        "a = BN(X[2,4,3,5], 4); g = ReduceSum<keepdims=0>(a, x{2}); y = Conv(g, w[3,4,2])",
    ],
}


def behind_conv(op: str, *flags: str) -> list[str]:
    """An operator of one value of four channels between a Conv and a BatchNormalization."""
    return [
        f"h = Conv(X[2,4,5,6], w[4,4,2,2]); g = {op.format('h')}; y = BN(g, 4, {f})" for f in flags
    ]


def before_conv(op: str, *flags: str) -> list[str]:
    """The same between a BatchNormalization and a Conv; `u` has no extent, `v` has one."""
    return [
        f"a = BN(X[2,4,5,6], 4, {f}); g = {op.format('a')}; y = Conv(g, w[3,4,1,1])" for f in flags
    ]


def both(name: str, op: str, *flags: str) -> None:
    """Rows in both directions for an operator that does not change the rank."""
    ROWS.setdefault(f"backward {name}", []).extend(behind_conv(op, *flags))
    ROWS.setdefault(f"forward {name}", []).extend(before_conv(op, *flags))


for name in ("Identity", "Dropout"):
    both(name, f"{name}({{}})", "")
both("Cast", "Cast<to=1>({})", "")
both("CastLike", "CastLike({}, X)", "")
both("Relu", "Relu({})", "+0")
both("LeakyRelu", "LeakyRelu<alpha=0.25>({})", "+0")
both("PRelu", "PRelu({}, s^[4,1,1])", "+0", "0")
both("PRelu", "PRelu({}, s^[1])", "+0", "0", "-01")
both("PRelu", "PRelu({}, s[4,1,1])", "+0")
both("Clip", "Clip({}, l=-0.5, m=0.5)", "+1")
both("Clip", "Clip({}, l=0.0)", "+0")
both("MaxPool", "MaxPool<kernel_shape=[2,3], strides=[1,2], pads=[1,1,0,1], ceil_mode=1>({})", "+")
both("GlobalMaxPool", "GlobalMaxPool({})", "+")
both("AveragePool", "AveragePool<kernel_shape=[2,3], pads=[1,1,0,1], ceil_mode=1>({})", "")
both(
    "AveragePool", "AveragePool<kernel_shape=[2,2], pads=[1,1,0,1], count_include_pad=1>({})", "0"
)
both("GlobalAveragePool", "GlobalAveragePool({})", "")
both("LpPool", "LpPool<kernel_shape=[2,3], pads=[1,1,0,1], p=1>({})", "+0")
both("GlobalLpPool", "GlobalLpPool<p=1>({})", "+0")
both("ReduceMean", "ReduceMean({}, x{{2}})", "")
both("ReduceMax", "ReduceMax({}, x{{2,3}})", "+", "-")
both("ReduceMin", "ReduceMin({}, x{{-1}})", "+", "-")
both("ReduceL1", "ReduceL1({}, x{{2,3}})", "+0")
PYTHAGORAS = "X@[2,4,3,2]"
ROWS["backward ReduceL2"] = [
    f"h = Conv<group=4>({PYTHAGORAS}, w^[4,1,1,1]); g = ReduceL2(h, x{{3}}); y = BN(g, 4, +0)"
]
ROWS["forward ReduceL2"] = [
    f"a = BN({PYTHAGORAS}, 4, 0); g = ReduceL2<keepdims=0>(a, x{{3}}); y = Conv(g, w[3,4,2])"
]
ROWS["backward Abs"] = behind_conv("Abs({})", "+0")
ROWS["forward Abs"] = before_conv("Abs({})", "0")
ROWS["forward LpPool"] += before_conv("LpPool<kernel_shape=[2,2], p=1>({})", "0")
ROWS["source Mul"] = ["h = Conv(X[2,4,5,6], w[4,4,2,2]); y = Mul(c[4,1,1], h)"]
ROWS["source Add"] = ["h = Conv(X[2,4,5,6], w[4,4,2,2]); y = Add(h, c[4,1,1])"]
ROWS["source Sub"] = [
    "h = Conv(X[2,4,5,6], w[4,4,2,2]); y = Sub(h, c[4,1,1])",
    "h = Conv(X[2,4,5,6], w[4,4,2,2]); y = Sub(c[4,1,1], h)",
]
ROWS["source Div"] = ["h = Conv(X[2,4,5,6], w[4,4,2,2]); y = Div(h, c^[4,1,1])"]
ROWS["source Neg"] = ["h = Conv(X[2,4,5,6], w[4,4,2,2]); y = Neg(h)"]
ROWS["source BatchNormalization"] = [
    "h = Conv(X[2,4,5,6], w[4,4,2,2]); y = BN(h, 4, z)",
    "@opset=6 h = Conv(X[2,4,5,6], w[4,4,2,2]); y = BN<is_test=1, epsilon=0.25>(h, 4)",
]

TABLE = [(key, row) for key, rows in ROWS.items() for row in rows]


def rule_of(key: str) -> Rule:
    """`backward com.microsoft.FusedConv` -> the entry of the table."""
    table, name = key.split(" ")
    domain, _, op_type = name.rpartition(".")
    return Rule(table, domain, op_type)


def faults_of(key: str) -> list[str]:
    """All numbers that could be wrong in what the rule says of its rows. Raises AssertionError."""
    found: set[str] = set()
    for row in ROWS[key]:
        with fault_in(rule_of(key)) as seen:
            check(build(row))
        assert seen, f"this row does not use the rule: {row}"
        found |= seen
    return sorted(found)


def is_caught(key: str, fault: str) -> bool:
    """Whether a row of the rule fails; also True for a fault that changes no row's model.

    That is one in an alternative which was tried, and given up for another.
    """
    changes = False
    for row in ROWS[key]:
        model = build(row)
        honest = fold(model.proto, keep=model.keep).model
        with fault_in(rule_of(key), fault):
            try:
                changes |= check(model).model != honest
            except AssertionError:
                return True
    return not changes
