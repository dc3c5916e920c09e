"""A recommender: how well does an item suit a person? Two inputs, and one score a row.

Bring your own: export.py, the tests and the checks use only ``network`` and ``examples``.
"""

from pathlib import Path

import numpy as np
import oneflow as flow
from oneflow import nn

HERE = Path(__file__).resolve().parent
#: How many numbers describe a person, and an item.
PERSON, ITEM = 6, 10


def tower(inputs, width=32):
    """Return layers that make a vector of what describes a person, or an item."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 16),
    )


class TwoTowers(nn.Module):
    """A tower for persons, a tower for items; the score tells how alike their vectors are."""

    def __init__(self):
        super().__init__()
        self.person = tower(PERSON)
        self.item = tower(ITEM)

    def forward(self, person, item):
        """Return one score a row, float32 (n,), 0 to 1, of float32 (n, 6) and (n, 10)."""
        alike = (self.person(person) * self.item(item)).sum(dim=1)
        return flow.sigmoid(alike)


def network(version):
    """Return the network with the weights of a version, ready to be served."""
    module = TwoTowers()
    module.load_state_dict(flow.load(str(HERE / "weights" / str(version))))
    return module.eval()


def examples():
    """Return example rows for each input: 8 persons, and as many items."""
    random = np.random.default_rng(0)
    shapes = (8, PERSON), (8, ITEM)
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]
