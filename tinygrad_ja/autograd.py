"""The tape under the names of ``torch.autograd``."""

from .core.modes import detect_anomaly, enable_grad, inference_mode, no_grad, set_grad_enabled
from .core.transforms import backward, grad

__all__ = ["backward", "detect_anomaly", "enable_grad", "grad", "inference_mode", "no_grad", "set_grad_enabled"]
