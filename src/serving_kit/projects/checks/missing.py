"""What a check raises."""


class Missing(Exception):
    """A step is not done; one sentence says what was found, what was expected, and what to do."""
