"""What unit tests share."""

import pytest

from serving_kit import exercises


@pytest.fixture
def verdict(capfd):
    """What an exercise says to an answer."""

    def verdict(number, answer):
        exercises.check(number, answer)
        line = capfd.readouterr().out.splitlines()[-1]  # OneFlow may print before it
        assert line.startswith(f"{number}  ")
        return line.removeprefix(f"{number}  ")

    return verdict
