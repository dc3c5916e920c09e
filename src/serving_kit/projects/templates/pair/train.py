"""Train the network for some seconds, on ratings made here: python train.py [VERSION].

Delete this file once you bring weights of your own.
"""

import shutil
import sys

import numpy as np
import oneflow as flow
from oneflow import nn

from network import HERE, ITEM, PERSON, TwoTowers

STEPS = {1: 60, 2: 240}  # version 2 is trained for longer
TASTE = np.random.default_rng(1).normal(size=(PERSON, ITEM))


def ratings(random, rows):
    """Return persons, items, and which of the pairs suit each other, by a hidden taste."""
    persons = random.normal(size=(rows, PERSON)).astype(np.float32)
    items = random.normal(size=(rows, ITEM)).astype(np.float32)
    suits = (((persons @ TASTE) * items).sum(1) > 0).astype(np.float32)
    return flow.tensor(persons), flow.tensor(items), flow.tensor(suits)


def main(version=1):
    """Train, test on pairs that the network has not seen, and save the weights."""
    flow.manual_seed(0)
    random = np.random.default_rng(0)
    module = TwoTowers()
    optimizer = flow.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(STEPS.get(version, 240)):
        persons, items, suits = ratings(random, 128)
        loss = nn.functional.binary_cross_entropy(module(persons, items), suits)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    persons, items, suits = ratings(random, 1000)
    with flow.no_grad():
        right = ((module.eval()(persons, items).numpy() > 0.5) == suits.numpy()).mean()
    weights = HERE / "weights" / str(version)
    shutil.rmtree(weights, ignore_errors=True)
    weights.parent.mkdir(exist_ok=True)
    flow.save(module.state_dict(), str(weights))
    print(f"version {version}: {right:.0%} of 1000 new pairs are judged right")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
