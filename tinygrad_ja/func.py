"""Function transforms with the names of ``torch.func``; see ``core/transforms.py``."""

from .core.transforms import hessian, hvp, jacfwd, jacrev, jvp, vjp
from .nn.functional_call import functional_call

__all__ = ["functional_call", "hessian", "hvp", "jacfwd", "jacrev", "jvp", "vjp"]
