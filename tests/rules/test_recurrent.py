"""Recurrent layers take an affine of their input into W and the input bias."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "LSTM/forward": """
        a = Mul(X[T,N,C], s[C]); x = Add(a, t[C]);
        y, _h, _c = LSTM<hidden_size=K>(x, w[1,4*K,C], r[1,4*K,K], b[1,8*K])""",
    "LSTM/forward/a normalization": """
        h = BN[C](X[N,C,T]); x = Transpose<perm=[2,0,1]>(h);
        y = LSTM<hidden_size=K>(x, w[1,4*K,C], r[1,4*K,K], b[1,8*K])""",
    "LSTM/forward/no bias, reverse": """
        a = Mul(X[T,N,C], s[C]); x = Add(a, t[C]);
        y = LSTM<hidden_size=K, direction="reverse">(x, w[1,4*K,C], r[1,4*K,K])""",
    "LSTM/forward/both directions, states, peepholes": """
        a = Mul(X[T,2,C], s[C]); x = Sub(a, t[C]);
        y, h, c = LSTM<hidden_size=K, direction="bidirectional">(x, w[2,4*K,C], r[2,4*K,K],
        b[2,8*K], _, i[2,2,K], j[2,2,K], p[2,3*K])""",
    "LSTM/forward/batch first": """
        @judge a = Mul(X[N,T,C], s[C]); x = Add(a, t[C]);
        y = LSTM<hidden_size=K, layout=1>(x, w[1,4*K,C], r[1,4*K,K], b[1,8*K])""",
    "GRU/forward": """
        a = Mul(X[T,N,C], s[C]); x = Add(a, t[C]);
        y = GRU<hidden_size=K>(x, w[1,3*K,C], r[1,3*K,K], b[1,6*K])""",
    "GRU/forward/reset behind, no bias": """
        a = Mul(X[T,N,C], s[C]); x = Add(a, t[C]);
        y = GRU<hidden_size=K, linear_before_reset=1>(x, w[1,3*K,C], r[1,3*K,K])""",
    "GRU/forward/both directions": """
        a = Mul(X[T,N,C], s[C]); x = Add(a, t[C]); y, h = GRU<hidden_size=K,
        direction="bidirectional">(x, w[2,3*K,C], r[2,3*K,K], b[2,6*K])""",
    "RNN/forward": """
        a = Mul(X[T,N,C], s[C]); x = Add(a, t[C]);
        y = RNN<hidden_size=K>(x, w[1,K,C], r[1,K,K], b[1,2*K])""",
    "RNN/forward/no bias, Relu": """
        a = Mul(X[T,N,C], s[C]); x = Add(a, t[C]);
        y = RNN<hidden_size=K, activations=["Relu"]>(x, w[1,K,C], r[1,K,K])""",
    "RNN/forward/both directions": """
        a = Mul(X[T,N,C], s[C]); x = Add(a, t[C]); y, h = RNN<hidden_size=K,
        direction="bidirectional">(x, w[2,K,C], r[2,K,K], b[2,2*K])""",
}

REFUSALS = {
    "an affine along the time": (
        Reason.WRONG_AXIS,
        """x = Mul(X[T,N,C], s[T,1,1]);
        y = LSTM<hidden_size=K>(x, w[1,4*K,C], r[1,4*K,K], b[1,8*K])""",
    ),
    "an affine along the batch": (
        Reason.WRONG_AXIS,
        "x = Add(X[T,N,C], s[N,1]); y = GRU<hidden_size=K>(x, w[1,3*K,C], r[1,3*K,K])",
    ),
    "an affine of the state": (
        Reason.OPAQUE_OP,
        """h = Mul(X[1,N,K], s[K]); y = RNN<hidden_size=K>(Z[T,N,C], w[1,K,C], r[1,K,K],
        b[1,2*K], _, h)""",
    ),
    "an affine of the result": (
        Reason.OPAQUE_OP,
        """y, _h = RNN<hidden_size=K>(Z[T,N,C], w[1,K,C], r[1,K,K]); m = Mul(y, s[K]);
        z = Sin(m)""",
    ),
    "weights computed at run time": (
        Reason.NOT_CONSTANT,
        """w = Sin(Z[1,K,C]); x = Add(X[T,N,C], t[C]); y = RNN<hidden_size=K>(x, w, r[1,K,K])""",
    ),
}


class TestRecurrent(RowTests):
    """LSTM, GRU, RNN."""
