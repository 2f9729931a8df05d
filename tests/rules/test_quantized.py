"""A quantized constant takes a positive scale into the scale that it is read with."""

from rowtests import RowTests

from bnfold.reasons import Reason

CASES = {
    "DequantizeLinear/backward": """
        @opset=19 d = DequantizeLinear<axis=0>(q:int8%100[O,C,3,3], s+[O], z:int8%9[O]);
        h = Conv(X[N,C,H,W], d); y = BN[O,+](h)""",
    # At its default level the runtime computes this product in integers, so it is left out.
    "DequantizeLinear/backward/one scale": """
        @opset=19 @judge d = DequantizeLinear(q:int8%100[C,O], s:float=0.03);
        h = MatMul(X[N,T,C], d); y = Mul(h, k+[])""",
    "DequantizeLinear/backward/axis from behind": """
        @opset=19 d = DequantizeLinear<axis=-1>(q:uint8%200[C,O], s+[O], z:uint8%200[O]);
        h = MatMul(X[N,T,C], d); y = Mul(h, k+[O])""",
    "DequantizeLinear/backward/forward into a weight": """
        @opset=19 d = DequantizeLinear<axis=1>(q:int8%100[O,C,3,3], s+[C]);
        x = BN[C,+,0](X[N,C,H,W]); y = Conv(x, d)""",
}

REFUSALS = {
    "a negative factor": (
        Reason.QUANTIZED,
        """d = DequantizeLinear<axis=0>(q:int8%100[O,C,3,3], s+[O]); h = Conv(X[N,C,H,W], d);
        y = BN[O,0](h)""",
    ),
    "a factor for each channel, one scale": (
        Reason.QUANTIZED,
        """d = DequantizeLinear(q:int8%100[O,C,3,3], s:float=0.03); h = Conv(X[N,C,H,W], d);
        y = BN[O,+,0](h)""",
    ),
    "a scale for each input, a factor for each output": (
        Reason.QUANTIZED,
        """d = DequantizeLinear<axis=1>(q:int8%100[O,C,3,3], s+[C]); h = Conv(X[N,C,H,W], d);
        y = BN[O,+,0](h)""",
    ),
    "a value that is quantized on its way": (
        Reason.QUANTIZED,
        """h = Conv(X[N,C,H,W], w[O,C,3,3]); q = QuantizeLinear(h, s:float=0.1, z:int8=0);
        d = DequantizeLinear(q, s, z); y = BN[O,+,0](d)""",
    ),
}


class TestQuantized(RowTests):
    """DequantizeLinear."""
