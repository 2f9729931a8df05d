"""Sums, products and choices of values carry an affine into their operands, or on."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "Add/source": "h = Conv(X[N,C,H,W], w[O,C,3,3]); y = Add(h, t[O,1,1])",
    "Add/source/constant first": "h = Conv(X[N,C,H,W], w[O,C,3,3]); y = Add(t[1,O,1,1], h)",
    "Sub/source": "h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = Sub(h, t[O,1,1])",
    "Sub/source/constant minus value": """
        h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = Sub(t[O,1,1], h)""",
    "Mul/source": "h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = Mul(h, s[O,1,1])",
    "Mul/source/constant first": "h = Gemm(X[N,C], w[C,O], b[O]); y = Mul(s[O], h)",
    "Mul/source/twice, between": """
        h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); m = Mul(h, s[O,1,1]); y = Add(m, t[O,1,1])""",
    "Div/source": "h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = Div(h, s+[O,1,1])",
    "Neg/source": "h = Conv(X[N,C,H,W], w[O,C,3,3], b[O]); y = Neg(h)",
    "Add/backward": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[O,D,3,3]);
        h = Add(a, b); y = BN[O](h)""",
    "Add/backward/an operand that is broadcast": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,1,1], v[O,D,1,1]);
        h = Add(b, a); y = BN[O](h)""",
    "Add/backward/an operand of lower rank": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = MatMul(v[O,D], Z[D,1]); c = Reshape(b, r{O,1,1});
        h = Add(a, c); y = BN[O](h)""",
    "Add/backward/a constant": """
        @keep=m h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Add(h, c[O,1,1]); y = BN[O](m)""",
    "Add/backward/a constant that grows": """
        @keep=m h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Add(c[], h); y = BN[O](m)""",
    "Add/backward/a constant along the width": """
        @kept=m h = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[O,C,3,3]); m = Add(c[W], h);
        y = BN[O](m)""",
    "Add/backward/the same value twice": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Add(h, h); y = BN[O,0](m)""",
    "Add/forward": """
        x = BN[C,!](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        m = Add(x, z); y = Conv(m, w[O,C,3,3])""",
    "Add/forward/into the constant": """
        @keep=m x = BN[C,!](X[N,C,H,W]); m = Add(c[C,1,1], x); y = Conv(m, w[O,C,3,3])""",
    "Add/forward/pure scale": """
        x = BN[C,!,0](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        m = Add(z, x); y = Conv(m, w[O,C,3,3])""",
    "Add/forward/pure shift": """
        x = Add(X[N,C,H,W], t[C,1,1]); m = Add(Z[N,C,H,W], x); y = Conv(m, w[O,C,3,3])""",
    "Add/forward/a row beside a matrix": """
        x = BN[C,!](X[1,C]); z = Gemm(Z[N,D], v[D,C]); m = Add(x, z); y = Gemm(m, w[C,O])""",
    "Sub/backward": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[O,D,3,3]);
        h = Sub(a, b); y = BN[O](h)""",
    "Sub/backward/the shift into the subtrahend": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); g = Sigmoid(G[N,O,1,1]); a = Mul(h, g);
        b = Conv(Z[N,D,H,W], v[O,D,3,3]); m = Sub(a, b); y = BN[O](m)""",
    "Sub/backward/a constant minuend": """
        @keep=m h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Sub(c[O,1,1], h); y = BN[O](m)""",
    "Sub/forward": """
        x = BN[C,!](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        m = Sub(x, z); y = Conv(m, w[O,C,3,3])""",
    "Sub/forward/subtrahend": """
        x = BN[C,!](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        m = Sub(z, x); y = Conv(m, w[O,C,3,3])""",
    "Sum/backward": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[O,D,3,3]);
        c = Conv(X, u[O,C,3,3]); h = Sum(a, b, c); y = BN[O](h)""",
    "Sum/backward/a constant": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); h = Sum(a, c[O,1,1]); y = BN[O](h)""",
    "Sum/forward": """
        x = BN[C,!](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        u = Conv<pads=[0,0,0,0]>(Z, r[C,D,1,1]); m = Sum(z, x, u); y = Conv(m, w[O,C,3,3])""",
    "Mean/backward": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[O,D,3,3]);
        c = Conv(X, u[O,C,3,3]); h = Mean(a, b, c); y = BN[O](h)""",
    "Mean/forward": """
        x = BN[C,!](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        m = Mean(x, z); y = Conv(m, w[O,C,3,3])""",
    "Mul/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); g = Sigmoid(Z[N,O,H-2,W-2]); m = Mul(h, g);
        y = BN[O,0](m)""",
    "Mul/backward/a gate that is broadcast, first": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); g = Sigmoid(Z[N,O,1,1]); m = Mul(g, h);
        y = BN[O,0](m)""",
    "Mul/backward/into a constant": """
        @kept=m h = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[O,C,3,3]); m = Mul(h, c[O,H,W]);
        y = BN[O,0](m)""",
    "Mul/backward/a shift through a constant": """
        @keep=m h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Mul(c+[O,1,1], h); y = BN[O](m)""",
    "Mul/forward": """
        x = BN[C,0](X[N,C,H,W]); g = Sigmoid(Z[N,C,H,W]); m = Mul(g, x);
        y = Conv(m, w[O,C,3,3])""",
    "Mul/forward/into the gate": """
        x = BN[C,0](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]); m = Mul(x, z);
        y = Tanh(m)""",
    "Mul/forward/a square": "x = BN[C,0](X[N,C,H,W]); m = Mul(x, x); y = Conv(m, w[O,C,3,3])",
    "Mul/forward/a constant for each element": """
        x = BN[C](X[N,C,H,W]); m = Mul(c[C,H,W], x); f = Flatten(m); y = Gemm(f, w[C*H*W,O])""",
    "Mul/forward/a constant": """
        @keep=m x = BN[C](X[N,C,H,W]); m = Mul(x, c[C,1,1]); y = Conv(m, w[O,C,3,3])""",
    "Div/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); d = Exp(Z[N,O,H-2,W-2]); m = Div(h, d);
        y = BN[O,0](m)""",
    "Div/backward/a constant numerator": """
        d = Exp(Z[N,O,H,W]); m = Div(c[O,1,1], d); y = BN[O,0](m)""",
    "Div/backward/into the denominator": """
        h = Conv(X+[N,C,H,W], w+[O,C,3,3]); d = Exp(Z[N,O,H-2,W-2]); m = Div(d, h);
        y = BN[O,!,0](m)""",
    "Div/backward/into a constant denominator": """
        @kept=m h = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[O,C,3,3]); m = Div(h, c+[O,H,W]);
        y = BN[O,!,0](m)""",
    "Div/backward/a shift over a constant": """
        @keep=m h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Div(h, c+[O,1,1]); y = BN[O](m)""",
    "Div/forward": """
        x = BN[C,0](X[N,C,H,W]); g = Exp(Z[N,C,H,W]); m = Div(x, g); y = Conv(m, w[O,C,3,3])""",
    "Div/forward/denominator": """
        x = BN[C,!,0](X+[N,C,H,W]); m = Div(c[C,1,1], x); y = Conv(m, w[O,C,3,3])""",
    "Div/forward/denominator, on to the result": """
        x = BN[C,!,0](X+[N,C,H,W]); m = Div(Z[N,C,H,W], x); y = Conv(m, w[O,C,3,3])""",
    "Div/forward/over a constant": """
        @keep=m x = BN[C](X[N,C,H,W]); m = Div(x, c+[C,1,1]); y = Conv(m, w[O,C,3,3])""",
    "Div/forward/over a constant, no zero": """
        @keep=m x = BN[C,!](X[N,C,H,W]); m = Div(x, c+[C,1,1]); y = Conv(m, w[O,C,3,3])""",
    "Neg/backward": "@keep=n h = Conv(X[N,C,H,W], w[O,C,3,3]); n = Neg(h); y = BN[O](n)",
    "Neg/forward": "@keep=n x = BN[C](X[N,C,H,W]); n = Neg(x); y = Conv(n, w[O,C,3,3])",
    "Max/backward": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[O,D,3,3]);
        h = Max(a, b); y = BN[O,+](h)""",
    "Max/backward/negative scales": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[O,D,3,3]);
        h = Max(a, b); y = BN[O,-](h)""",
    "Max/backward/three, one constant": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,1,1], v[O,D,1,1]);
        h = Max(a, b, c[]); y = BN[O,+,z](h)""",
    "Max/forward": """
        x = BN[C,+](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        m = Max(z, x); y = Conv(m, w[O,C,3,3])""",
    "Max/forward/negative scales": """
        x = BN[C,-](X[N,C,H,W]); m = Max(x, c[C,1,1]); y = Conv(m, w[O,C,3,3])""",
    "Min/backward": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); h = Min(a, c[O,1,1]); y = BN[O,+](h)""",
    "Min/backward/negative scales": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); h = Min(a, c[1]); y = BN[O,-](h)""",
    "Min/forward": "x = BN[C,+](X[N,C,H,W]); m = Min(x, c[]); y = Conv(m, w[O,C,3,3])",
    "Min/forward/negative scales": """
        x = BN[C,-](X[N,C,H,W]); m = Min(x, c[C,1,1]); y = Conv(m, w[O,C,3,3])""",
    "Where/backward": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[O,D,3,3]);
        h = Where(M:bool[N,O,H-2,W-2], a, b); y = BN[O](h)""",
    "Where/backward/a constant, a mask that is broadcast": """
        a = Conv(X[N,C,H,W], w[O,C,3,3]); h = Where(M:bool[N,1,1,1], c[], a); y = BN[O](h)""",
    "Where/forward": """
        x = BN[C,!](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        m = Where(M:bool[N,1,H,W], x, z); y = Conv(m, w[O,C,3,3])""",
    "Where/forward/a constant": """
        x = BN[C,!](X[N,C,H,W]); m = Where(M:bool[1,C,1,1], c[C,1,1], x);
        y = Conv(m, w[O,C,3,3])""",
}

REFUSALS = {
    "constant over value": (
        Reason.NOT_HOMOGENEOUS,
        "x = BN[C,!](X+[N,C,H,W]); d = Div(c[C,1,1], x); y = Conv(d, w[O,C,3,3])",
    ),
    "a shift into a gate": (
        Reason.NOT_HOMOGENEOUS,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); g = Sigmoid(Z[N,O,H-2,W-2]); m = Mul(h, g);
        y = Add(m, t[O,1,1])""",
    ),
    "a shift before a gate": (
        Reason.NOT_HOMOGENEOUS,
        """x = Add(X[N,C,H,W], t[C,1,1]); g = Sigmoid(Z[N,C,H,W]); m = Mul(x, g);
        y = Conv(m, w[O,C,3,3])""",
    ),
    "a zero scale before a sum": (
        Reason.ZERO_SCALE,
        """x = BN[C](X[N,C,H,W]); z = Conv<pads=[1,1,1,1]>(Z[N,D,H,W], v[C,D,3,3]);
        m = Add(x, z); y = Conv(m, w[O,C,3,3])""",
    ),
    "scales of both signs through Max": (
        Reason.NEGATIVE_SCALE,
        """a = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(Z[N,D,H,W], v[O,D,3,3]);
        h = Max(a, b); y = BN[O,0](h)""",
    ),
    "a sum with a branch that takes nothing": (
        Reason.GRAPH_OUTPUT,
        "h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Add(h, Z[N,O,H-2,W-2]); y = BN[O,0](m)",
    ),
    "a sum with a branch that is broadcast along the channels": (
        Reason.CHANNEL_LOST,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); b = Conv(X, v[1,C,3,3]); m = Add(h, b);
        y = BN[O,0](m)""",
    ),
    "a Where with a branch that takes nothing": (
        Reason.GRAPH_OUTPUT,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Where(M:bool[N,1,1,1], h, Z[N,O,H-2,W-2]);
        y = BN[O,0](m)""",
    ),
}


class TestElementwise(RowTests):
    """Add, Sub, Sum, Mean, Mul, Div, Neg, Max, Min, Where."""
