"""Hypothesis without a clock and with the same examples in every run: a gate must not depend on a busy box."""

from hypothesis import settings

settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate")
