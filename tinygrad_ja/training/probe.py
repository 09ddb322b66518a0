"""``linear_probe``: how well a linear classifier tells two classes apart by features that something else has learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..core.tensor import Tensor
from ..errors import error, refusal
from ..nn import functional as F
from ..ops import creation
from ..optim import LBFGS


class Probe(NamedTuple):
    """accuracy on validation and on test data; outputs: w · x + b of the test data (N,), positive where it says 1. penalty: the chosen one."""

    valid_accuracy: float
    accuracy: float
    outputs: Tensor
    penalty: float


def linear_probe(
    features: Sequence[Tensor], labels: Sequence[Tensor], penalties: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0)
) -> Probe:
    """Logistic regression by L-BFGS on fixed features, with the L2 penalty that does best on the validation data.

    features: training, validation and test data, each (N, D), float; they are standardised by mean and spread of the training data. labels:
    0 or 1 for each row. penalties: λ in λ/2 ‖w‖² beside the mean cross-entropy.
    (Alain and Bengio, Understanding intermediate layers using linear classifier probes, 2016.)

    Raises ShapeError unless there are three matrices of one width and a label for each row, ArgumentError without a penalty.

    >>> import tinygrad_ja as tg
    >>> _ = tg.manual_seed(0)
    >>> x = tg.randn(300, 4)
    >>> y = (x[:, 0] > x[:, 2]).float()
    >>> linear_probe(x.split(100), y.split(100)).accuracy > 0.9
    True
    """
    shapes = [tuple(x.shape) for x in (*features, *labels)]
    wide = [shape[:1] for shape in shapes[: len(features)]] == shapes[len(features) :]
    if len(features) != 3 or not wide or len({shape[1:] for shape in shapes[:3]}) != 1 or len(shapes[0]) != 2:
        rule = "(N, D) (M, D) (K, D), (N) (M) (K)"
        fix = (
            "pass features and labels of the training, the validation and the test data.",
            "訓練、検証、テストの特徴とラベルを渡してください。",
        )
        raise error("TG-S002", op="linear_probe", rule=(rule, rule), shapes=" ".join(map(str, shapes)), fix=fix)
    if not penalties:
        fix = ("pass [0.0] for none.", "罰則なしなら [0.0] を渡してください。")
        raise refusal("linear_probe", "penalties", "[]", ("at least one number", "1 つ以上の数"), fix)
    train = features[0].detach()
    centre, spread = train.mean(0), train.std(0, correction=0)
    varies = spread > 1e-6 * train.abs().amax(0)  # the spread of a constant is what rounding left of it
    x = [((part.detach() - centre) / spread.where(varies, 1.0)) * varies for part in features]
    y = [part.detach().to(x[0].dtype) for part in labels]
    made = [_fitted(x, y, penalty) for penalty in penalties]
    return max(made, key=lambda probe: probe.valid_accuracy)


def _fitted(x: Sequence[Tensor], y: Sequence[Tensor], penalty: float) -> Probe:
    w = creation.zeros(x[0].shape[1], dtype=x[0].dtype, device=x[0].device, requires_grad=True)
    b = creation.zeros(1, dtype=x[0].dtype, device=x[0].device, requires_grad=True)
    optimizer = LBFGS([w, b], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x[0] @ w + b, y[0]) + penalty / 2 * (w * w).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    valid, test = [(part @ w + b).detach() for part in x[1:]]
    shares = [((outputs > 0) == (part > 0.5)).float().mean().item() for outputs, part in ((valid, y[1]), (test, y[2]))]
    return Probe(shares[0], shares[1], test, penalty)
