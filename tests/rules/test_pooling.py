"""Pools carry an affine that is uniform over their windows."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "MaxPool/backward/gaps that padding cannot fill": """
        h = Conv(X[N,C,T+3], w[O,C,1]);
        g = MaxPool<kernel_shape=[2],dilations=[2],pads=[1,1]>(h); y = BN[O,+](g)""",
    "MaxPool/forward/of any size": """
        x = BN[C,+](X[N,C,h,w]);
        g = MaxPool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]>(x);
        y = Conv(g, w[O,C,1,1])""",
    "MaxPool/backward/same padding with gaps": """
        h = Conv(X[N,C,T+3], w[O,C,1]);
        g = MaxPool<kernel_shape=[3],dilations=[2],auto_pad="SAME_UPPER">(h); y = BN[O,+](g)""",
    "AveragePool/backward/a mean of nothing is scaled": """
        @opset=19 @teeth="all of it is 0" h = Conv(X[N,C,2], w[O,C,2]);
        g = AveragePool<kernel_shape=[2],dilations=[2],pads=[1,1]>(h); y = BN[O,+,0](g)""",
    "MaxPool/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = MaxPool<kernel_shape=[2,2]>(h); y = BN[O,+,z](p)""",
    "MaxPool/backward/pads, strides, dilations": """
        h = Conv<pads=[1,1,1,1]>(X[N,C,H,W], w[O,C,3,3]);
        p = MaxPool<kernel_shape=[2,2], pads=[1,0,1,1], strides=[2,1], dilations=[2,2]>(h);
        y = BN[O,+](p)""",
    "MaxPool/backward/ceil_mode, unused indices": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p, _i = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(h); y = BN[O,+,z](p)""",
    "MaxPool/backward/indices that are read": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p, i = MaxPool<kernel_shape=[2,2], storage_order=1>(h); y = BN[O,+](p)""",
    "MaxPool/backward/auto_pad, 1-D": """
        h = Conv(X[N,C,H], w[O,C,3]);
        p = MaxPool<kernel_shape=[2], auto_pad="SAME_UPPER">(h); y = BN[O,+](p)""",
    "MaxPool/backward/3-D": """
        h = Conv<pads=[1,1,1,1,1,1]>(X[N,C,H,T,T], w[O,C,3,3,3]);
        p = MaxPool<kernel_shape=[2,3,2]>(h); y = BN[O,+](p)""",
    "MaxPool/backward/opset 7": """
        @opset=7 h = Conv(X[N,C,H,W], w[O,C,3,3]); p = MaxPool<kernel_shape=[2,2]>(h);
        y = BN[O,+](p)""",
    "MaxPool/forward": """
        x = BN[C,+](X[N,C,H,W]); p = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1]>(x);
        y = Conv(p, w[O,C,3,3])""",
    "MaxPool/forward/indices that are read": """
        x = BN[C,+](X[N,C,H,W]); p, i = MaxPool<kernel_shape=[2,2]>(x);
        y = Conv(p, w[O,C,3,3])""",
    "GlobalMaxPool/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = GlobalMaxPool(h); y = BN[O,+,z](p)""",
    "GlobalMaxPool/forward": """
        x = BN[C,+](X[N,C,H,W]); p = GlobalMaxPool(x); y = Conv(p, w[O,C,1,1])""",
    "AveragePool/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = AveragePool<kernel_shape=[2,2]>(h);
        y = BN[O](p)""",
    "AveragePool/backward/pads that are not counted": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p = AveragePool<kernel_shape=[3,2], pads=[1,0,1,1], strides=[2,1]>(h); y = BN[O](p)""",
    "AveragePool/backward/pads that are counted, no shift": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>(h);
        y = BN[O,0](p)""",
    "AveragePool/backward/counting where there are no pads": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p = AveragePool<kernel_shape=[2,2], count_include_pad=1>(h); y = BN[O](p)""",
    "AveragePool/backward/ceil_mode": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(h); y = BN[O](p)""",
    "AveragePool/backward/auto_pad, 1-D": """
        h = Conv(X[N,C,H], w[O,C,3]);
        p = AveragePool<kernel_shape=[2], auto_pad="SAME_LOWER">(h); y = BN[O](p)""",
    "AveragePool/forward": """
        x = BN[C](X[N,C,H,W]); p = AveragePool<kernel_shape=[2,2], pads=[1,0,0,1]>(x);
        y = Conv(p, w[O,C,3,3])""",
    "AveragePool/forward/pads that are counted, no shift": """
        x = BN[C,0](X[N,C,H,W]);
        p = AveragePool<kernel_shape=[2,2], auto_pad="SAME_UPPER", count_include_pad=1>(x);
        y = Conv(p, w[O,C,3,3])""",
    "GlobalAveragePool/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = GlobalAveragePool(h); y = BN[O](p)""",
    "GlobalAveragePool/backward/symbolic": """
        h = Conv(X[n,C,h,w], w[O,C,3,3]); p = GlobalAveragePool(h); y = BN[O](p)""",
    "GlobalAveragePool/forward": """
        x = BN[C](X[N,C,H,W]); p = GlobalAveragePool(x); f = Flatten(p); y = Gemm(f, w[C,O])""",
    "LpPool/backward": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = LpPool<kernel_shape=[2,2], pads=[1,1,0,0]>(h);
        y = BN[O,+,0](p)""",
    "LpPool/backward/p=1": """
        h = Conv(X[N,C,H,W], w[O,C,3,3]); p = LpPool<kernel_shape=[2,2], p=1>(h);
        y = BN[O,+,0,z](p)""",
    "LpPool/forward": """
        x = BN[C,0](X[N,C,H,W]); p = LpPool<kernel_shape=[2,2], strides=[2,2]>(x);
        y = Conv(p, w[O,C,1,1])""",
    "GlobalLpPool/backward": """
        @runtime h = Conv(X[N,C,H,W], w[O,C,3,3]); p = GlobalLpPool(h); y = BN[O,+,0](p)""",
    "GlobalLpPool/forward": """
        @runtime x = BN[C,0](X[N,C,H,W]); p = GlobalLpPool<p=3>(x); y = Conv(p, w[O,C,1,1])""",
}

REFUSALS = {
    "a maximum of padding alone": (
        Reason.PADDED_SHIFT,
        """h = Conv(X[N,C,2], w[O,C,2]);
        g = MaxPool<kernel_shape=[2],dilations=[2],pads=[1,1]>(h); y = BN[O,+,0](g)""",
    ),
    "a maximum of padding alone, forward": (
        Reason.PADDED_SHIFT,
        """x = BN[C,+,0](X[N,C,2]); g = MaxPool<kernel_shape=[2],dilations=[3],pads=[1,1]>(x);
        y = Conv(g, w[O,C,1])""",
    ),
    "gaps over an axis of any size": (
        Reason.PADDED_SHIFT,
        """x = BN[C,+](X[N,C,l]); y = MaxPool<kernel_shape=[2],dilations=[2],pads=[1,1]>(x);
        z = Conv(y, w[O,C,1])""",
    ),
    "a mean of padding alone": (
        Reason.PADDED_SHIFT,
        """@opset=19 h = Conv(X[N,C,2], w[O,C,2]);
        g = AveragePool<kernel_shape=[2],dilations=[2],pads=[1,1]>(h); y = BN[O,+](g)""",
    ),
    "a last window behind the end": (
        Reason.PADDED_SHIFT,
        """h = Conv(X[N,C,3], w[O,C,1]);
        g = MaxPool<kernel_shape=[2],strides=[4],pads=[1,1],ceil_mode=1>(h); y = BN[O,+,0](g)""",
    ),
    "a negative scale through MaxPool": (
        Reason.NEGATIVE_SCALE,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); p = MaxPool<kernel_shape=[2,2]>(h);
        y = BN[O,0](p)""",
    ),
    "a negative scale through MaxPool, forward": (
        Reason.NEGATIVE_SCALE,
        """x = Mul(X[N,C,H,W], s-[C,1,1]); p = MaxPool<kernel_shape=[2,2]>(x);
        y = Conv(p, w[O,C,3,3])""",
    ),
    "a zero scale, and the indices are read": (
        Reason.ZERO_SCALE,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); p, i = MaxPool<kernel_shape=[2,2]>(h);
        y = BN[O,+,z,0](p)""",
    ),
    "an affine along the window": (
        Reason.CHANNEL_LOST,
        """x = Mul(X[N,C,H,W], s+[1,H,1]); p = MaxPool<kernel_shape=[2,2]>(x);
        y = Conv(p, w[O,C,3,3])""",
    ),
    "an affine along the window of an average": (
        Reason.CHANNEL_LOST,
        """x = Add(X[N,C,H,W], s[W]); p = GlobalAveragePool(x); y = Conv(p, w[O,C,1,1])""",
    ),
    "a shift beside zeros that are counted": (
        Reason.PADDED_SHIFT,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]);
        p = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1>(h);
        y = Add(p, t[O,1,1])""",
    ),
    "a shift beside zeros that auto_pad counts": (
        Reason.PADDED_SHIFT,
        """x = BN[C](X[N,C,H,W]);
        p = AveragePool<kernel_shape=[2,2], auto_pad="SAME_UPPER", count_include_pad=1>(x);
        y = Conv(p, w[O,C,3,3])""",
    ),
    "a shift into a norm": (
        Reason.NOT_HOMOGENEOUS,
        "x = BN[C](X[N,C,H,W]); p = LpPool<kernel_shape=[2,2]>(x); y = Sin(p)",
    ),
}


class TestPooling(RowTests):
    """MaxPool, AveragePool, LpPool and their global forms."""
