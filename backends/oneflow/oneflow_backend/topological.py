"""The one topological order for operators; standard library only."""

import heapq
from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Any


def in_order(needs: Sequence[set[int]], keys: Sequence[Any]) -> list[int]:
    """Return the indices so that each follows its needs, and else the smallest key comes first.

    Args:
        needs: for each index, the indices that must come before it.
        keys: for each index, what it is compared by with those that may come at the same place.

    Raises:
        graphlib.CycleError: there is no such order.
    """
    sorter = TopologicalSorter(dict(enumerate(needs)))
    sorter.prepare()
    ready: list[tuple[Any, int]] = []
    order: list[int] = []
    while sorter.is_active():
        for index in sorter.get_ready():
            heapq.heappush(ready, (keys[index], index))
        order.append(heapq.heappop(ready)[1])
        sorter.done(order[-1])
    return order
