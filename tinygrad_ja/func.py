"""Function transforms with the names of ``torch.func``; see ``core/transforms.py``."""

from .core.transforms import hessian, hvp, jacfwd, jacrev, jvp, vjp

__all__ = ["hessian", "hvp", "jacfwd", "jacrev", "jvp", "vjp"]
