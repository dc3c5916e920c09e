"""Lesson 03's checks: right answers pass, usual mistakes get the hint that fits them."""

from collections import OrderedDict
from functools import lru_cache

import oneflow as flow
import pytest

# 03.1


def brighten_by_if(x):
    return x * 2 if x.mean() < 100 else x


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (brighten_by_if, "raised AssertionError: tensor.numpy() is not allowed to be called in"),
        (lambda x: x, "in Eager mode the dark picture became 1.0 times as bright, expected 2.0"),
        (lambda x: x * 2, "in Eager mode the light picture became 2.0 times as bright"),
        (lambda x: x.numpy(), "returned a ndarray"),
        (lambda x: x.mean(), "the picture's shape became ()"),
    ],
)
def test_hints_on_a_choice(verdict, answer, hint):
    assert hint in verdict("03.1", answer)


def test_a_choice_that_tracing_froze(verdict):
    def remembers(x):
        return x * 2 if x.is_lazy else brighten_by_if(x)

    assert "in the graph the light picture became 2.0 times" in verdict("03.1", remembers)


# 03.2


def filled_up(pictures, size=4):
    return flow.cat([pictures, *[pictures[-1:]] * (-pictures.shape[0] % size)])


def batches(graph, full):
    return flow.cat([graph(full[i : i + 4]) for i in range(0, full.shape[0], 4)])


def one_by_one(graph, pictures):
    rows = [pictures[i : i + 1] for i in range(pictures.shape[0])]
    return flow.cat([graph(flow.cat([row] * 4))[:1] for row in rows])


def test_pictures_in_full_batches(verdict):
    def paint_all(graph, pictures):
        return batches(graph, filled_up(pictures))[: pictures.shape[0]]

    assert verdict("03.2", paint_all).startswith("Right!")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda graph, x: graph(x), "takes (4, 3, 64, 64) only, and was given (6, 3, 64, 64)."),
        (lambda graph, x: [graph(x[:4])], "returned a list; join the results"),
        (lambda graph, x: batches(graph, filled_up(x)), "Drop the paintings of what you filled"),
        (lambda graph, x: graph(x[:4]), "What became of the pictures that do not fill a batch?"),
        (one_by_one, "the paintings are right, but 4 pictures took 4 runs of the graph; 1 are"),
        (lambda graph, x: graph(x[[1, 0, 2, 3]]), "row 0 is not the painting of picture 0"),
        (
            lambda graph, x: batches(graph, filled_up(x, 8))[: x.shape[0]],
            "4 pictures took 2 runs of the graph; 1 are enough",
        ),
        (lambda graph, x: {}["style"], "raised KeyError: 'style'"),
        (lambda graph, x: graph(x).mean(), "gave the shape (), expected (4, 3, 64, 64)"),
    ],
)
def test_hints_on_many_pictures(verdict, answer, hint):
    assert hint in verdict("03.2", answer)


# 03.3


def cached(compile_for, limit, *, newest=True, drop=True, last=False):
    graphs = OrderedDict()

    def paint(picture):
        shape = tuple(picture.shape)
        if shape not in graphs:
            if drop and len(graphs) == limit:
                graphs.popitem(last=last)
            graphs[shape] = compile_for(shape)
        if newest:
            graphs.move_to_end(shape)
        return graphs[shape](picture)

    return paint


def with_lru_cache(compile_for, limit):
    graph_for = lru_cache(maxsize=limit)(compile_for)
    return lambda picture: graph_for(tuple(picture.shape))(picture)


@pytest.mark.parametrize("answer", [cached, with_lru_cache])
def test_a_cache_of_graphs(verdict, answer):
    assert verdict("03.3", answer) == "Right! 4 compilations for 8 pictures of 3 sizes."


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (
            lambda compile_for, limit: lambda x: compile_for(tuple(x.shape))(x),
            "of the sizes A A it compiled A A: keep a graph for the next picture of its size",
        ),
        (
            lambda *a: cached(*a, newest=False),
            "it compiled A B C A; the graph for A had been used more recently than another",
        ),
        (lambda *a: cached(*a, last=True), "the graph for A had been used more recently"),
        (lambda *a: cached(*a, drop=False), "and 3 graphs are alive; the limit is 2"),
        (lambda compile_for, limit: cached(compile_for, 1), "it compiled A B A: keep a graph"),
        (lambda compile_for, limit: None, "it returned None; let it return a function"),
        (lambda compile_for, limit: lambda x: x, "paint did not return what the graph returned"),
        (
            lambda compile_for, limit: lambda x: compile_for((1, 3, 9, 9))(x),
            "a graph for (1, 3, 9, 9) was given a picture of (1, 3, 16, 16)",
        ),
    ],
)
def test_hints_on_a_cache_of_graphs(verdict, answer, hint):
    assert hint in verdict("03.3", answer)
