"""How many examples Hypothesis tries."""

from hypothesis import settings

# The same examples in every run: a failure in CI is a failure here. No deadline: shared machines are slow at times.
settings.register_profile("maskstore", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("maskstore")

FAST = settings(max_examples=25)
"""For tests whose examples take long, such as those that fill a memory each time."""
