"""The checks of lesson 12's exercises: right answers pass, wrong ones get their own feedback."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from serving_kit.exercises._answers import NotYet
from serving_kit.exercises.lesson_12 import exercise_quiz

# 12.1


def find_damage(folder, sums, every=True, lists=3):
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).glob("**/*" if every else "*")
        if path.is_file()
    }
    damaged = [name for name in found if name in sums and found[name] != sums[name]]
    missing = [name for name in sums if name not in found]
    return (damaged, missing, [name for name in found if name not in sums])[:lists]


def sizes_only(folder, sums):
    _, missing, unlisted = find_damage(folder, sums)
    return [], missing, unlisted


def missing_is_damaged(folder, sums):
    damaged, missing, unlisted = find_damage(folder, sums)
    return damaged + missing, missing, unlisted


def no_added(folder, sums):
    damaged, missing, _ = find_damage(folder, sums)
    return damaged, missing, []


def first_only(folder, sums):
    return tuple(names[:1] for names in find_damage(folder, sums))


def test_a_download_is_checked(verdict):
    assert verdict("12.1", find_damage).startswith("Right! ")
    assert verdict("12.1", lambda *a: list(map(set, find_damage(*a)))).startswith("Right! ")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (sizes_only, "one bit of a file was flipped, you say damaged: none; expected 'model.py'"),
        (missing_is_damaged, "a file is gone, too, you say damaged: 'model.py', 'photo.jpg'; exp"),
        (no_added, "you say not in the dict: none; expected 'oneflow_backend/added"),
        (first_only, "not in the dict: 'run.sh'; expected"),
        (lambda *a: find_damage(*a, every=False), "when no file was touched, you say missing: "),
        (lambda folder, sums: (list(sums), [], []), " more; expected none"),
        (lambda *a: find_damage(*a, lists=2), "it returned a tuple; let it return three lists"),
        (lambda folder, sums: ("model.py", [], []), "damaged: let this be a list of names"),
        (lambda folder, sums: ([folder], [], []), "damaged: let this be a list of names"),
    ],
)
def test_feedback_on_downloads(verdict, answer, told):
    found = verdict("12.1", answer)
    assert found.startswith("Not yet: ") and told in found


# 12.2


def agrees(served, own, tolerance):
    if served.shape != own.shape:
        return False
    apart = abs(served.astype(float) - own).max()
    return bool(apart <= tolerance * abs(own.astype(float)).max())


def test_a_release_is_checked(verdict):
    assert verdict("12.2", agrees).startswith("Right! Nine releases")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda s, o, t: not (s - o).max() > t * abs(o).max(), "the difference is negative"),
        (lambda s, o, t: abs(s - o).mean() <= t * abs(o).max(), "a mean hides that"),
        (lambda s, o, t: not abs(s - o).max() > t * abs(o).max(), "one value is NaN, and every"),
        (lambda s, o, t: abs(s - o).max() <= t * abs(o).max(), "a shape is not the same"),
        (lambda s, o, t: s.shape == o.shape and abs(s - o).max() <= t * abs(o).max(), "is 255 in"),
        (lambda s, o, t: abs(s - o).max() <= t, "they differ by 1.5, and 0.01 of the largest"),
        (lambda s, o, t: abs(s - o).max() <= t * o.max(), "it returned False, expected True: they"),
        (lambda s, o, t: np.allclose(s, o, rtol=t), "it returned False, expected True: they"),
        (lambda s, o, t: np.array_equal(s, o), "it returned False, expected True: they differ by"),
        (lambda s, o, t: True, "it returned True, expected False: they differ by 2.5"),
        (lambda s, o, t: abs(s - o) < t, "it returned a ndarray; let it return True or False"),
    ],
)
def test_feedback_on_releases(verdict, answer, told):
    found = verdict("12.2", answer)
    assert found.startswith("Not yet: ") and told in found


# 12.3


def run(
    start_triton, start_page, is_ready, sleep, *, limit=60, looks=True, ends=True, waits=True,
    pause=0.5, code=1, both=True,
):  # fmt: skip
    triton, waited = start_triton(), 0
    processes = [triton]
    while not is_ready() and waited < limit and (triton.poll() is None or not looks):
        sleep(pause)
        waited += pause
    if triton.poll() is None and is_ready():
        processes.append(start_page())
        while all(p.poll() is None for p in (processes if both else processes[1:])):
            sleep(pause)
    for process in processes:
        if process.poll() is None and ends:
            process.terminate()
            if waits:
                process.wait()
    return code


def ready_is_not_asked(start_triton, start_page, is_ready, sleep):
    return start_triton() and start_page() and 1


def page_is_waited_for(start_triton, start_page, is_ready, sleep):
    triton = start_triton()
    while not is_ready():
        sleep(0.5)
    start_page().wait()
    triton.terminate()
    triton.wait()
    return 1


def ended_at_once(start_triton, start_page, is_ready, sleep):
    triton = start_triton()
    while not is_ready():
        sleep(0.5)
    for process in (triton, start_page()):
        process.terminate()
        process.wait()
    return 1


def two_tritons(start_triton, start_page, is_ready, sleep):
    start_triton()
    return run(start_triton, start_page, is_ready, sleep)


def catching(*arguments):
    try:
        return ready_is_not_asked(*arguments)
    except Exception:
        return 1


def test_a_demo_of_two_processes(verdict):
    assert verdict("12.3", run).startswith("Right! Ready before the page")
    assert verdict("12.3", lambda *a: run(*a, pause=1)).startswith("Right! ")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (ready_is_not_asked, "the page starts at 0 s, and Triton is not ready"),
        (catching, "the page starts at 0 s, and Triton is not ready"),
        (page_is_waited_for, "waits for the page forever, although Triton has ended at 50 s"),
        (ended_at_once, "your function ends both after 7 s, while all is well"),
        (two_tritons, "Triton is started twice"),
        (lambda *a: run(*a, ends=False), "ends later, Triton is left running"),
        (lambda *a: run(*a, waits=False), "nobody waits for Triton after terminate()"),
        (lambda *a: run(*a, both=False), "dies at 50 s, your function goes on forever"),
        (lambda *a: run(*a, looks=False), "loads its models, your function returns after 60 s"),
        (lambda *a: run(*a, limit=math.inf), "is never ready, your function goes on forever"),
        (lambda *a: run(*a, limit=3), "the page is never started"),
        (lambda *a: run(*a, pause=0), "looks again and again without a sleep"),
        (lambda *a: run(*a, code=0), "it returned 0, expected 1"),
        (lambda *a: None, "Triton is never started"),
    ],
)
def test_feedback_on_demos(verdict, answer, told):
    found = verdict("12.3", answer)
    assert found.startswith("Not yet: ") and told in found


# The quiz


def test_the_quiz_says_where_to_look_again():
    assert exercise_quiz("bcbdadcb") == "All 8 of them."
    with pytest.raises(NotYet, match=r"^6 of 8 are right\.\nquestion 1: .*\nquestion 8: a sum"):
        exercise_quiz("acbdadca")
