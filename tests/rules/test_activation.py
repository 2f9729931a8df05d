"""Functions of each element carry some affines: those that they commute with."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "Identity/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Identity(h); y = BN[O](m)""",
    "Identity/forward": "x = BN[C](X[N,C,H,W]); m = Identity(x); y = Conv(m, w[O,C,3,3])",
    "Dropout/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Dropout(h); y = BN[O](m)""",
    "Dropout/backward/opset 7, a mask that nobody reads": """
        @opset=7 h = Conv(X[N,C,H,W], w[O,C,3,3]); m, _q = Dropout<ratio=0.3>(h); y = BN[O](m)""",
    "Dropout/backward/opset 10": """
        @opset=10 h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Dropout<ratio=0.3>(h); y = BN[O](m)""",
    "Dropout/backward/training mode given as false": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        m, _q = Dropout<seed=1>(h, ratio:float=0.3, train:bool=0); y = BN[O](m)""",
    "Dropout/backward/opset 22": """
        @opset=22 h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Dropout(h, r:float=0.1); y = BN[O](m)""",
    "Dropout/forward": "x = BN[C](X[N,C,H,W]); m = Dropout(x); y = Conv(m, w[O,C,3,3])",
    "Dropout/forward/opset 6": """
        @opset=6 @judge x = BN[C]<is_test=1>(X[N,C,H,W]); m = Dropout<is_test=1>(x);
        y = Conv(m, w[O,C,3,3])""",
    "Cast/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Cast<to=11>(h); y = Mul(m, s:double[O,1,1])""",
    "Cast/backward/shift, from float16": """
        @type=float16 h = Conv(X[N,C,H,W], w[O,C,3,3]); m = Cast<to=1>(h);
        y = Add(m, s:float[O,1,1])""",
    "Cast/forward": """
        x = Mul(X:double[N,C,H,W], s:double[C,1,1]); m = Cast<to=1>(x); y = Conv(m, w[O,C,3,3])""",
    "CastLike/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); m = CastLike(h, Z:double[1]); y = Mul(m, s:double[O,1,1])
        """,
    "CastLike/forward": """
        x = Mul(X:double[N,C,H,W], s:double[C,1,1]); m = CastLike(x, Z[D]);
        y = Conv(m, w[O,C,3,3])""",
    "Relu/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Relu(h); y = BN[O,+,0](r)""",
    "Relu/backward/a zero scale": """
        h = Gemm(X[N,C], w[C,O], c[O]); r = Relu(h); y = BN[O,+,0,z](r)""",
    "Relu/backward/a zero scale with a shift": """
        h = Gemm(X[N,C], w[C,4]); r = Relu(h); y = BatchNormalization(r, g:float{0.5,0,2,0},
        b:float{0,0.3,0,0}, m:float{0,5,0,7}, v:float{1,2,0.5,1})""",
    "Relu/forward": "x = BN[C,+,0](X[N,C,H,W]); r = Relu(x); y = Conv(r, w[O,C,3,3])",
    "Relu/forward/a zero scale with a shift": """
        x = BatchNormalization(X[N,4], g:float{0.5,0,2,0}, b:float{0,0.3,0,-0.4},
        m:float{0,5,0,7}, v:float{1,2,0.5,1}); r = Relu(x); y = Gemm(r, w[4,O])""",
    "LeakyRelu/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = LeakyRelu<alpha=0.3>(h); y = BN[O,+,0](r)""",
    "LeakyRelu/forward": """
        x = BN[C,+,0](X[N,C,H,W]); r = LeakyRelu(x); y = Conv(r, w[O,C,3,3])""",
    "LeakyRelu/forward/a zero scale with a shift": """
        x = BatchNormalization(X[N,4], g:float{0.5,0,2,0}, b:float{0,0.3,0,-0.4},
        m:float{0,5,0,7}, v:float{1,2,0.5,1}); r = LeakyRelu<alpha=0.5>(x); y = Gemm(r, w[4,O])""",
    "PRelu/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = PRelu(h, a[O,1,1]); y = BN[O,+,0](r)""",
    "PRelu/backward/negative scales": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = PRelu(h, a+[O,1,1]); y = BN[O,-,0](r)""",
    "PRelu/backward/scales of both signs, one slope": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = PRelu(h, a+[1]); y = BN[O,0](r)""",
    "PRelu/backward/scales of both signs, slope a scalar": """
        h = Gemm(X[N,C], w[C,O]); r = PRelu(h, a+[]); y = BN[O,!,0](r)""",
    "PRelu/forward": """
        x = BN[C,+,0](X[N,C,H,W]); r = PRelu(x, a[C,1,1]); y = Conv(r, w[O,C,3,3])""",
    "PRelu/forward/scales of both signs": """
        x = BN[C,0](X[N,C,H,W]); r = PRelu(x, a+[C,1,1]); y = Conv(r, w[O,C,3,3])""",
    "PRelu/forward/scales of both signs, one slope": """
        x = BN[C,!,0](X[N,C,H,W]); r = PRelu(x, a+[1]); y = Conv(r, w[O,C,3,3])""",
    "Abs/backward": "h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Abs(h); y = BN[O,+,0](r)",
    "Abs/forward": "x = BN[C,0](X[N,C,H,W]); r = Abs(x); y = Conv(r, w[O,C,3,3])",
    "Clip/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Clip(h, lo:float=-0.5, hi:float=0.75);
        y = BN[O,+,1](r)""",
    "Clip/backward/attributes": """
        @opset=10 h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Clip<min=-0.5, max=0.75>(h);
        y = BN[O,+,1](r)""",
    "Clip/backward/no upper bound": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Clip(h, lo:float=-0.5); y = BN[O,+,1](r)""",
    "Clip/backward/from zero on, several scales": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Clip(h, lo:float=0); y = BN[O,+,0](r)""",
    "Clip/backward/no bound at all": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Clip(h); y = BN[O,+](r)""",
    "Clip/forward": """
        x = BN[C,+,1](X[N,C,H,W]); r = Clip(x, lo:float=-0.5, hi:float=0.75);
        y = Conv(r, w[O,C,3,3])""",
    "Clip/forward/attributes": """
        @opset=10 x = BN[C,+,1](X[N,C,H,W]); r = Clip<max=0.75>(x); y = Conv(r, w[O,C,3,3])""",
    "Clip/forward/from zero on, several scales": """
        x = BN[C,+,0](X[N,C,H,W]); r = Clip(x, lo:float=0); y = Conv(r, w[O,C,3,3])""",
    "Clip/forward/up to zero, a zero scale": """
        x = BN[C,+,0,z](X[N,C,H,W]); r = Clip(x, _, hi:float=0); y = Conv(r, w[O,C,3,3])""",
}

REFUSALS = {
    "a bound that float32 does not hold": (
        Reason.UNSUPPORTED_DTYPE,
        """@opset=10 @type=double h = Conv(X[N,C,H], w[O,C,1]); g = Clip<min=-0.5,max=0.5>(h);
        y = BN[O,+,1](g)""",
    ),
    "a shift through Relu": (
        Reason.NOT_HOMOGENEOUS,
        "x = BN[C,+](X[N,C,H,W]); r = Relu(x); y = Sin(r)",
    ),
    "a negative scale through Relu": (
        Reason.NEGATIVE_SCALE,
        "h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Relu(h); y = BN[O,0](r)",
    ),
    "a negative scale through LeakyRelu": (
        Reason.NEGATIVE_SCALE,
        "x = BN[C,0](X[N,C,H,W]); r = LeakyRelu(x); y = Conv(r, w[O,C,3,3])",
    ),
    "a negative scale through a PRelu that cuts off": (
        Reason.NEGATIVE_SCALE,
        "h = Gemm(X[N,C], w[C,O]); r = PRelu(h, a-[O]); y = BN[O,-,0](r)",
    ),
    "a negative scale through a PRelu with slopes along the width": (
        Reason.WRONG_AXIS,
        """h = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[O,C,3,3]); r = PRelu(h, a+[W]);
        y = BN[O,-,0](r)""",
    ),
    "a negative scale through Abs": (
        Reason.NEGATIVE_SCALE,
        "h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Abs(h); y = BN[O,0](r)",
    ),
    "a shift through Abs": (
        Reason.NOT_HOMOGENEOUS,
        "x = Add(X[N,C,H,W], t[C,1,1]); r = Abs(x); y = Sin(r)",
    ),
    "several scales through Clip": (
        Reason.CHANNEL_LOST,
        """x = BN[C,+,0](X[N,C,H,W]); r = Clip(x, lo:float=0, hi:float=6);
        y = Conv(r, w[O,C,3,3])""",
    ),
    "a negative scale through Clip": (
        Reason.NEGATIVE_SCALE,
        "x = BN[C,-,1](X[N,C,H,W]); r = Clip(x, lo:float=0); y = Conv(r, w[O,C,3,3])",
    ),
    "a bound computed at run time": (
        Reason.NOT_CONSTANT,
        "x = BN[C,+,1](X[N,C,H,W]); r = Clip(x, Z[]); y = Conv(r, w[O,C,3,3])",
    ),
    "a Dropout in training": (
        Reason.TRAINING_MODE,
        """x = Mul(X[N,C,H,W], s[C,1,1]); r = Dropout(x, p:float=0.5, t:bool=1);
        y = Conv(r, w[O,C,3,3])""",
    ),
    "a Dropout that may train": (
        Reason.NOT_CONSTANT,
        """x = Mul(X[N,C,H,W], s[C,1,1]); r = Dropout(x, p:float=0.5, T:bool[]);
        y = Conv(r, w[O,C,3,3])""",
    ),
    "a Cast to integers": (
        Reason.OPAQUE_OP,
        "x = Mul(X[N,C], s[C]); i = Cast<to=7>(x); y = Cast<to=1>(i)",
    ),
    "an activation that is not homogeneous": (
        Reason.OPAQUE_OP,
        "h = Sigmoid(X[N,C,H,W]); x = BN[C,+,0](h); y = Tanh(x)",
    ),
}


class TestActivation(RowTests):
    """Identity, Dropout, Cast, Relu and its kin, Abs, Clip."""
