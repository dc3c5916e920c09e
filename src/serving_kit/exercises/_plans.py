"""Sets of plans for batches, what they cost, and reading the one that a learner chose."""

import itertools

from serving_kit.exercises._answers import NotYet, describe
from serving_kit.language import _

#: Milliseconds of a run of each plan, as the painter's in section 2.
PLAN_MS = {1: 30, 2: 46, 3: 66, 4: 85, 7: 150, 8: 170}


def time_of_all(sizes: dict[int, int], plans: set[int]) -> int:
    """Return the milliseconds of all runs, with the largest plan that fits taken first."""
    total = 0
    for rows, count in sizes.items():
        left = rows
        for plan in sorted(plans, reverse=True):
            runs, left = divmod(left, plan)
            total += count * runs * PLAN_MS[plan]
    return total


def shortest_time(sizes: dict[int, int], most: int) -> int:
    """Return the milliseconds of all runs with the best plans: that for 1 row, and some more."""
    others = [plan for plan in PLAN_MS if plan != 1]
    sets = (more for count in range(most + 1) for more in itertools.combinations(others, count))
    return min(time_of_all(sizes, {1, *more}) for more in sets)


def chosen_plans(found: object, most: int) -> set[int]:
    """Return the plans that a learner's function chose.

    Raises:
        NotYet: they are no set of plans, the one for a single row is missing, or they are too many.
    """
    if not isinstance(found, set | frozenset | list | tuple):
        raise NotYet(
            _("your function returned {what}; let it return a set of plans.").format(
                what=describe(found)
            )
        )
    plans = set(found)
    if unknown := plans - set(PLAN_MS):
        raise NotYet(
            _("there is no plan for {rows!r} rows in ms; choose among its keys.").format(
                rows=unknown.pop()
            )
        )
    if 1 not in plans:
        raise NotYet(_("the plan for a single row is missing; the backend always has it."))
    if len(plans) > most + 1:
        raise NotYet(
            _(
                "it chose {chosen} plans beside the one for a single row, and there may be {most}."
            ).format(chosen=len(plans) - 1, most=most)
        )
    return plans


def listed(plans: set[int]) -> str:
    """Return plans for a sentence, in their order."""
    return ", ".join(map(str, sorted(plans)))
