"""A penalty on the slope of a critic, by derivatives of second order."""

from __future__ import annotations

from collections.abc import Callable

from ..backend.random import Generator, generator_for
from ..core.modes import enable_grad
from ..core.tensor import Tensor
from ..core.transforms import grad
from .loss import need_shape
from .norms import norm
from .reduce import floating, mean
from .shape import reshape

__all__ = ["gradient_penalty"]


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor,
    target: float = 1.0,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Mean of (‖dD/dx‖ - target)² at points between real and fake samples: keeps a critic D 1-Lipschitz (WGAN-GP).

    critic: takes samples (N, ...) and returns their scores; each score must depend on its own sample only (no batch normalization).
    real, fake: (N, ...), of the same shape; no gradient flows to them. A point is u real + (1 - u) fake, u uniform in [0, 1) for each
    sample, from ``generator``. Add it times 10 to the loss of the critic. The gradients of the critic's parameters come through the
    gradient with respect to x: they are of second order. Raises ShapeError for different shapes and DeviceError for a generator of another
    device.

    Source: Gulrajani, Ahmed, Arjovsky, Dumoulin and Courville, 2017, "Improved training of Wasserstein GANs".

    >>> import tinygrad_ja as tg
    >>> w = tg.tensor([[3.0, 4.0]], requires_grad=True)  # the slope of x wᵀ has norm 5
    >>> penalty = tg.nn.functional.gradient_penalty(lambda x: x @ w.T, tg.ones(8, 2), tg.zeros(8, 2))
    >>> penalty.backward()
    >>> penalty.item(), w.grad  # (5 - 1)², 2 (5 - 1) w / 5
    (16.0, tensor([[4.8, 6.4]]))
    """
    real, fake = floating(real.detach()), floating(fake.detach())
    need_shape("gradient_penalty", real.shape, fake, ("fake has the shape of real", "fake は real と同じ形状"), real)
    share = generator_for(real.device, generator).uniform((len(real), *[1] * (real.ndim - 1)), real.dtype)
    with enable_grad():
        between = (real * Tensor(share) + fake * Tensor(1 - share)).requires_grad_()
        (slope,) = grad(critic(between).sum(), between, create_graph=True)
        length = norm(reshape(slope, (len(real), -1)), 2, 1)
        return mean((length - target) ** 2)
