"""``tg.profile``: where the time of a program goes, operator by operator and line by line."""

from .profile import Profile, profile

__all__ = ["Profile", "profile"]
