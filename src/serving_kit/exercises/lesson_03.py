"""Lesson 03, turn Eager into a graph: a choice that survives tracing, full batches, many sizes."""

import gc
import weakref
from collections.abc import Callable

import numpy as np
import oneflow as flow
from oneflow import nn

from serving_kit.exercises._answers import NotYet, call, describe, with_more
from serving_kit.language import _
from serving_kit.stylenet.network import load_stylenet

SHAPE = (1, 3, 64, 64)
BATCH = 4
#: How many graphs exercise 3 may keep, and the sizes of its pictures, in their order: when C comes,
#: the graph for A is the oldest, and yet the one used last.
LIMIT = 2
SIZES = "AABACABA"
PIXELS = {"A": 16, "B": 24, "C": 32}

HINTS = {
    1: (
        _(
            "While tracing there are no numbers, so Python's if cannot decide. Compute both "
            "pictures, and let an operation on tensors choose."
        ),
        _(
            "The operation is flow.where(condition, a, b). The condition may be a tensor: x.mean() "
            "< 100."
        ),
        _("return flow.where(x.mean() < 100, ..., ...)"),
    ),
    2: (
        _(
            "6 pictures are one full batch and half of another. Fill the second one up, with any "
            "pictures, and drop what comes of them."
        ),
        _(
            "-count % 4 says how many are missing; flow.cat joins tensors; pictures[-1:] is one "
            "picture that still has its batch dimension."
        ),
        _(
            "full = flow.cat([pictures, *[pictures[-1:]] * (-count % 4)]); run graph(full[i : i + "
            "4]) for i in range(0, full.shape[0], 4), join the results, and return the first count "
            "rows."
        ),
    ),
    3: (
        _(
            "Keep the graphs in something that lives as long as paint does: a dictionary from "
            "shape to graph, made in painter_for_all_sizes, outside of paint."
        ),
        _(
            "A use makes a graph the newest: move its entry to the end. If there is no room, "
            "remove the first entry. collections.OrderedDict has both; functools.lru_cache is the "
            "whole."
        ),
        _(
            "graph_for = functools.lru_cache(maxsize=limit)(compile_for), once; in paint: return "
            "graph_for(tuple(picture.shape))(picture)"
        ),
    ),
}


class _Traced(nn.Graph):
    """A function and StyleNet behind it: OneFlow 0.9.0 crashes on graphs that end too soon."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function
        self.model = load_stylenet()

    def build(self, x: flow.Tensor) -> tuple[flow.Tensor, flow.Tensor]:
        changed = self.function(x)
        return changed, self.model(changed)


def _picture(low: float, high: float) -> flow.Tensor:
    pixels = np.random.default_rng(int(low)).uniform(low, high, SHAPE)
    return flow.tensor(pixels.astype(np.float32))


def exercise_1(brighten: Callable) -> str:
    """Check a function that doubles dark pictures only: eagerly, then in a graph."""
    _check_brightened(lambda x: call(brighten, x), _("in Eager mode"))
    graph = _Traced(lambda x: call(brighten, x))
    _check_brightened(lambda x: graph(x)[0], _("in the graph"))
    return _("The graph holds both branches and chooses by the picture.")


def _check_brightened(brighten: Callable, where: str) -> None:
    pictures = {_("dark"): (_picture(0, 100), 2), _("light"): (_picture(120, 240), 1)}
    for name, (picture, factor) in pictures.items():
        found = brighten(picture)
        if not isinstance(found, flow.Tensor):
            raise NotYet(
                _("{where} it returned {what}; let it return a tensor.").format(
                    where=where, what=describe(found)
                )
            )
        if tuple(found.shape) != SHAPE:
            raise NotYet(
                _("{where} the picture's shape became {found}, from {expected}.").format(
                    where=where, found=tuple(found.shape), expected=SHAPE
                )
            )
        if not np.allclose(found.numpy(), picture.numpy() * factor, rtol=1e-4):
            times = float((found.numpy() / picture.numpy()).mean())
            raise NotYet(
                _(
                    "{where} the {name} picture became {times:.1f} times as bright, expected "
                    "{factor}.0 times."
                ).format(where=where, name=name, times=times, factor=factor)
            )


def _call(function: Callable, *arguments: object) -> object:
    """Call a learner's function; what a stand-in for a graph refuses is told in its own words."""
    try:
        return call(function, *arguments)
    except NotYet as hint:
        raise hint.__cause__ if isinstance(hint.__cause__, NotYet) else hint from None


class _BatchOfFour:
    """What a compiled graph is to its caller, without the seconds that compiling one takes."""

    def __init__(self):
        self.runs = 0

    def __call__(self, x: flow.Tensor) -> flow.Tensor:
        expected = (BATCH, *SHAPE[1:])
        if tuple(x.shape) != expected:
            raise NotYet(
                _("the graph takes {expected} only, and was given {found}.").format(
                    expected=expected, found=tuple(x.shape)
                )
            )
        self.runs += 1
        return 255 - x


def exercise_2(paint_all: Callable) -> str:
    """Check a function that sends any number of pictures through a graph of batch 4."""
    for count in (4, 6, 1):
        rows = [_picture(10 * i, 100 + 10 * i) for i in range(count)]
        _check_all_painted(paint_all, flow.cat(rows))
    return _("One fixed shape, any number of pictures, and no run too many.")


def _check_all_painted(paint_all: Callable, pictures: flow.Tensor) -> None:
    graph, count = _BatchOfFour(), pictures.shape[0]
    found = _call(paint_all, graph, pictures)
    if not isinstance(found, flow.Tensor):
        raise NotYet(
            _("paint_all returned {what}; join the results to one tensor.").format(
                what=describe(found)
            )
        )
    expected = (255 - pictures).numpy()
    if tuple(found.shape) != expected.shape:
        told = _("{count} pictures gave the shape {found}, expected {expected}.").format(
            count=count, found=tuple(found.shape), expected=expected.shape
        )
        raise NotYet(with_more(told, _why(found, count)))
    for row in range(count):
        if not np.allclose(found[row].numpy(), expected[row], atol=0.01):
            raise NotYet(
                _("of {count} pictures, row {row} is not the painting of picture {row}.").format(
                    count=count, row=row
                )
            )
    if graph.runs != -(-count // BATCH):
        raise NotYet(
            _(
                "the paintings are right, but {count} pictures took {runs} runs of the graph; "
                "{enough} are enough."
            ).format(count=count, runs=graph.runs, enough=-(-count // BATCH))
        )


def _why(found: flow.Tensor, count: int) -> str:
    rows = found.shape[0] if found.ndim else 0
    if rows > count and rows % BATCH == 0:
        return _("Drop the paintings of what you filled the batch up with.")
    if rows < count and rows % BATCH == 0:
        return _("What became of the pictures that do not fill a batch?")
    return ""


class _Compiler:
    """Makes stand-ins for graphs; notes for which shapes, and which of them are still alive."""

    def __init__(self):
        self.shapes = []
        self._graphs = []

    def __call__(self, shape: tuple[int, ...]) -> Callable:
        def graph(picture: flow.Tensor) -> flow.Tensor:
            if tuple(picture.shape) != shape:
                raise NotYet(
                    _("a graph for {shape} was given a picture of {found}.").format(
                        shape=shape, found=tuple(picture.shape)
                    )
                )
            return 255 - picture

        self.shapes.append(shape)
        self._graphs.append(weakref.ref(graph))
        return graph

    def alive(self) -> int:
        count = sum(graph() is not None for graph in self._graphs)
        if count > LIMIT:  # collecting takes a while where much is loaded
            gc.collect()
            count = sum(graph() is not None for graph in self._graphs)
        return count


def exercise_3(painter_for_all_sizes: Callable) -> str:
    """Check a cache of graphs, one a shape, that drops the least recently used."""
    compiler = _Compiler()
    paint = call(painter_for_all_sizes, compiler, LIMIT)
    if not callable(paint):
        raise NotYet(
            _("it returned {what}; let it return a function, paint.").format(what=describe(paint))
        )
    for i, size in enumerate(SIZES):
        picture = flow.ones(1, 3, PIXELS[size], PIXELS[size])
        found = _call(paint, picture)
        if not isinstance(found, flow.Tensor) or not np.array_equal(
            found.numpy(), (255 - picture).numpy()
        ):
            raise NotYet(_("paint did not return what the graph returned."))
        _check_cache(compiler, SIZES[: i + 1])
    return _("{compilations} compilations for {pictures} pictures of 3 sizes.").format(
        compilations=len(compiler.shapes), pictures=len(SIZES)
    )


def _check_cache(compiler: _Compiler, sizes: str) -> None:
    """Compare what was compiled for pictures of these sizes with what was needed."""
    kept, needed = [], []
    for size in sizes:
        if size not in kept:
            needed.append(size)
        kept = [*(k for k in kept if k != size), size][-LIMIT:]
    names = {(1, 3, pixels, pixels): size for size, pixels in PIXELS.items()}
    compiled = [names.get(shape, str(shape)) for shape in compiler.shapes]
    alive = compiler.alive()
    if len(compiled) > len(needed):
        told = (
            _(
                "for pictures of the sizes {sizes} it compiled {compiled}: keep a graph for the "
                "next picture of its size."
            )
            if len(set(sizes)) <= LIMIT
            else _(
                "for pictures of the sizes {sizes} it compiled {compiled}; the graph for {last} "
                "had been used more recently than another, and the other had to go."
            )
        )
    elif compiled != needed or alive > LIMIT:
        told = _(
            "for pictures of the sizes {sizes} it compiled {compiled}, and {alive} graphs are "
            "alive; the limit is {limit}."
        )
    else:
        return
    raise NotYet(
        told.format(
            sizes=" ".join(sizes),
            compiled=" ".join(compiled),
            last=compiled[-1],
            alive=alive,
            limit=LIMIT,
        )
    )
