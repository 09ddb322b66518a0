"""What stands around a model while it trains."""

from .curves import pyplot, save_curve

__all__ = ["pyplot", "save_curve"]
