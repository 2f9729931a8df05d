"""Resizing and padding carry an affine that is uniform where they make elements from others."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "Resize/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Resize(h, _, s:float{1,1,2,3}); y = BN[O](r)""",
    "Resize/backward/linear, to a size": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        r = Resize<mode="linear", coordinate_transformation_mode="align_corners">(
        h, _, _, z{N,O,11,12}); y = BN[O](r)""",
    "Resize/backward/cubic": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        r = Resize<mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1>(h, _, s:float{1,1,2,1.5});
        y = BN[O](r)""",
    "Resize/backward/shrinking, antialias": """
        h = Conv(X[N,C,H,W], w[O,C,1,1]);
        r = Resize<mode="linear", antialias=1>(h, _, s:float{1,1,0.5,0.75}); y = BN[O](r)""",
    "Resize/backward/axes": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        r = Resize<mode="linear", axes=[2,3]>(h, _, s:float{2,1.5}); y = BN[O](r)""",
    "Resize/backward/nearest, each way to round": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p = Resize<nearest_mode="ceil", coordinate_transformation_mode="asymmetric">(
        h, _, s:float{1,1,1.5,2}); q = Resize<nearest_mode="round_prefer_ceil">(
        p, _, t:float{1,1,1.5,2}); y = BN[O](q)""",
    "Resize/backward/a crop, no shift": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        r = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(
        h, roi:float{0,0,-0.5,0.1,1,1,0.9,1.5}, s:float{1,1,2,2}); y = BN[O,0](r)""",
    "Resize/backward/opset 10": """
        @opset=10 h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Resize(h, s:float{1,1,2,2});
        y = BN[O](r)""",
    "Resize/forward": """
        x = BN[C](X[N,C,H,W]); r = Resize<mode="linear">(x, _, s:float{1,1,2,2});
        y = Conv(r, w[O,C,3,3])""",
    "Resize/forward/symbolic, to a size": """
        x = BN[C](X[n,C,h,w]); a = Shape<end=2>(x); z = Concat<axis=0>(a, b{11,12});
        r = Resize<mode="linear">(x, _, _, z); y = Conv(r, w[O,C,3,3])""",
    "Upsample/backward": """
        @opset=9 h = Conv(X[N,C,H,W], w[O,C,3,3]); r = Upsample(h, s:float{1,1,2,2});
        y = BN[O](r)""",
    "Upsample/backward/attribute": """
        @opset=7 h = Conv(X[N,C,H,W], w[O,C,3,3]);
        r = Upsample<mode="nearest", scales=[1.0,1.0,2.0,3.0]>(h); y = BN[O](r)""",
    "Upsample/forward": """
        @opset=9 x = BN[C](X[N,C,H,W]); r = Upsample<mode="nearest">(x, s:float{1,1,2,2});
        y = Conv(r, w[O,C,3,3])""",
    "Pad/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = Pad(h, a{0,0,1,2,0,0,2,1}); y = BN[O,0](p)""",
    "Pad/backward/reflect": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = Pad<mode="reflect">(h, a{0,0,1,1,0,0,1,1});
        y = BN[O](p)""",
    "Pad/backward/edge, opset 10": """
        @opset=10 h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p = Pad<mode="edge", pads=[0,0,1,1,0,0,1,2]>(h); y = BN[O](p)""",
    "Pad/backward/wrap": """
        @opset=19 h = Conv(X[N,C,H,W], w[O,C,3,3]); p = Pad<mode="wrap">(h, a{0,0,1,1,0,0,1,1});
        y = BN[O](p)""",
    "Pad/backward/a value, one affine": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = Pad(h, a{0,0,1,1,0,0,1,1}, v:float=0.5);
        y = BN[O,1](p)""",
    "Pad/backward/a value, one affine, opset 10": """
        @opset=10 h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p = Pad<pads=[0,0,1,1,0,0,1,2], value=0.5>(h); y = BN[O,1](p)""",
    "Pad/backward/axes": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = Pad(h, a{1,1,2,1}, _, b{-1,2}); y = BN[O,0](p)""",
    "Pad/backward/cutting off": """
        @runtime h = Conv(X[N,C,H,W], w[O,C,1,1]); p = Pad(h, a{0,0,-1,0,0,0,-1,0});
        y = BN[O,0](p)""",
    "Pad/backward/channels": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = Pad(h, a{0,1,0,0,0,2,0,0}); y = BN[O+3,0](p)""",
    "Pad/forward": """
        x = BN[C,!,0](X[N,C,H,W]); p = Pad(x, a{0,0,1,2,0,0,2,1}); y = Conv(p, w[O,C,3,3])""",
    "Pad/forward/reflect": """
        x = BN[C](X[N,C,H,W]); p = Pad<mode="reflect">(x, a{0,0,1,1,0,0,1,1});
        y = Conv(p, w[O,C,3,3])""",
    "Pad/forward/a value, one affine": """
        x = BN[C,1,!](X[N,C,H,W]); p = Pad(x, a{0,0,1,1,0,0,1,1}, v:float=0.5);
        y = Conv(p, w[O,C,3,3])""",
    "Pad/forward/a value, one affine, opset 10": """
        @opset=10 x = BN[C,1,!](X[N,C,H,W]); p = Pad<pads=[0,0,1,1,0,0,1,2], value=0.5>(x);
        y = Conv(p, w[O,C,3,3])""",
    "Pad/forward/channels": """
        x = BN[C](X[N,C,H,W]); p = Pad(x, a{0,1,0,0,0,2,0,0}, v:float=0.5);
        y = Conv(p, w[O,C+3,3,3])""",
}

REFUSALS = {
    "a fill that float32 does not hold": (
        Reason.UNSUPPORTED_DTYPE,
        """@opset=10 @type=double h = Conv(X[N,C,H], w[O,C,1]);
        g = Pad<pads=[0,0,1,0,0,1],value=0.5>(h); y = BN[O,+,1](g)""",
    ),
    "a shift through a crop": (
        Reason.NOT_HOMOGENEOUS,
        """x = Add(X[N,C,H,W], t[C,1,1]);
        r = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(
        x, roi:float{0,0,-0.5,0.1,1,1,0.9,1.5}, s:float{1,1,2,2}); y = Sin(r)""",
    ),
    "a resize along the channels": (
        Reason.CHANNEL_LOST,
        """x = Mul(X[N,C,H,W], s[C,1,1]); r = Resize<mode="linear">(x, _, z:float{1,2,1,1});
        y = Conv(r, w[O,2*C,3,3])""",
    ),
    "channels that are sampled, though as many come out": (
        Reason.CHANNEL_LOST,
        """x = BN[C,0](X[N,C,H,W]); r = Resize<coordinate_transformation_mode="asymmetric">(
        x, _, z:float{1,1.1,2,2}); y = Conv(r, w[O,C,3,3])""",
    ),
    "channels that are turned over": (
        Reason.CHANNEL_LOST,
        """x = BN[C,0](X[N,C,H,W]);
        r = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(
        x, roi:float{0,1,0,0,1,0,1,1}, z:float{1,1,2,2}); y = Conv(r, w[O,C,3,3])""",
    ),
    "a region computed at run time": (
        Reason.CHANNEL_LOST,
        """x = BN[C,0](X[N,C,H,W]);
        r = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(
        x, R[8], z:float{1,1,2,2}); y = Conv(r, w[O,C,3,3])""",
    ),
    "a shift before zeros": (
        Reason.PADDED_SHIFT,
        "x = Add(X[N,C,H,W], t[C,1,1]); p = Pad(x, a{0,0,1,1,0,0,1,1}); y = Conv(p, w[O,C,3,3])",
    ),
    "a shift behind zeros": (
        Reason.PADDED_SHIFT,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); p = Pad(h, a{0,0,1,1,0,0,1,1}, v:float=0);
        y = BN[O](p)""",
    ),
    "channels that are padded with others": (
        Reason.CHANNEL_LOST,
        """x = Mul(X[N,C,H,W], s[C,1,1]); p = Pad<mode="reflect">(x, a{0,1,0,0,0,1,0,0});
        y = Conv(p, w[O,C+2,3,3])""",
    ),
    "pads computed at run time": (
        Reason.NOT_CONSTANT,
        """x = BN[C,0](X[N,C,H,W]); p = Pad<mode="edge">(x, A:int64%2[8]);
        y = Conv(p, w[O,C,3,3])""",
    ),
}


class TestResampling(RowTests):
    """Resize, Upsample, Pad."""
