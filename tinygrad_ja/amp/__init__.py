"""Mixed precision (``torch.amp``): ``autocast`` chooses each operator's precision, ``GradScaler`` keeps float16 gradients from vanishing.

    scaler = tg.amp.GradScaler()
    for x, target in batches:
        optimizer.zero_grad()
        with tg.autocast("cuda"):
            loss = loss_fn(model(x), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

Parameters stay float32 (the master weights); their gradients come back in float32 too.
"""

from . import policy  # noqa: F401 - tells the operators
from .autocast_mode import autocast, is_autocast_enabled
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "is_autocast_enabled"]
