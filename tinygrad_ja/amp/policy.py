"""Which precision suits which operator under ``autocast``: PyTorch's lists, by the names of our operators.

An operator may say it in its definition instead, ``@primitive(..., autocast="lower")``, and a function made of several operators says it with
``@autocasts("float32")`` (``core/promotion.py``).
"""

from __future__ import annotations

from ..core.operator import OPERATORS

LOWER = """
    matmul linear einsum rnn_cell rnn_step lstm_cell lstm_step gru_cell gru_step prelu
    rnn_layer lstm_layer gru_layer
""".split()
"""Products: hardware is fast at them in lower precision, and adds up in float32 inside."""

FLOAT32 = """
    acos asin cosh sinh tan erfinv exp expm1 log log10 log1p log2 pow rpow reciprocal rdiv rsqrt softplus
    sum prod cumsum norm logsumexp softmax log_softmax
    cross_entropy l1_loss mse_loss bce bce_logits
""".split()
"""What adds up many numbers, or grows or shrinks fast."""

for _names, _policy in ((LOWER, "lower"), (FLOAT32, "float32")):
    for _name in _names:
        OPERATORS[_name].autocast = _policy
