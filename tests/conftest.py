"""What unit and integration tests share."""

import gc

import pytest

from serving_kit import exercises


@pytest.fixture(scope="module")
def frozen_garbage():
    """Keep what lives already out of the collections that each check makes: they cost 0.2 s."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def verdict(frozen_garbage, capfd):
    """What an exercise says to an answer."""

    def verdict(number, answer):
        exercises.check(number, answer)
        line = capfd.readouterr().out.splitlines()[-1]  # OneFlow may print before it
        assert line.startswith(f"{number}  ")
        return line.removeprefix(f"{number}  ")

    return verdict
