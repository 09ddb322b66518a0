"""What stands around a model while it trains."""

from .curves import save_curve

__all__ = ["save_curve"]
