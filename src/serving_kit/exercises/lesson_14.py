"""Lesson 14, your own model: a configuration, graphs for several lengths, and who goes first."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup, ModelQueuePolicy

from oneflow_backend import model_config as backend_config
from oneflow_backend.graph_folder import GraphFolder, GraphFolderError, TensorSpec
from serving_kit.exercises._answers import NotYet, call, describe
from serving_kit.exercises._configs import parsed
from serving_kit.language import _
from serving_kit.repository.config import as_triton_has_it

#: The graph of exercise 1: its data types are OneFlow's numbers for int64, float32 and float32.
RANKER = GraphFolder(
    Path("ranker/1/model"),
    inputs=(TensorSpec("history", 6, (1, 128)), TensorSpec("features", 2, (1, 16))),
    outputs=(TensorSpec("score", 2, (1,)),),
    variables=(),
)
ROWS = 16
LENGTHS = (32, 64, 128)
INTERACTIVE_SECONDS, BULK_SECONDS, BULK_WAITING = 0.5, 30, 200

HINTS = {
    1: (
        _("Lesson 05 has every field. Dims leave the batch out, so history has one of them."),
        _(
            "score has a batch and nothing else, as in this lesson's project pair: dims: [ 1 ] and "
            "an empty reshape. instance_group has count and kind: KIND_CPU."
        ),
        _(
            'Besides the tensors, dynamic_batching { }, and parameters { key: "batch_sizes" value: '
            '{ string_value: "4, 16" } }.'
        ),
    ),
    2: (
        _("A graph has one length. The one to take is the shortest that the text fits into."),
        _(
            "min(length for length in LENGTHS if length >= len(tokens)) finds it; a text that fits "
            "into none needs an answer before it is sent."
        ),
        _(
            "array = np.zeros((1, length), np.int64); array[0, : len(tokens)] = tokens; return "
            'f"text_{length}", array. And raise ValueError where no length is enough.'
        ),
    ),
    3: (
        _(
            "priority_levels says how many there are; level 1 goes first. default_priority_level "
            "is for requests that name none."
        ),
        _(
            "priority_queue_policy { key: 2 value: { ... } } holds the limits of level 2: "
            "default_timeout_microseconds, max_queue_size. REJECT is the default timeout_action."
        ),
        _(
            "priority_levels: 2 default_priority_level: 2 priority_queue_policy [ { key: 1 value: "
            "{ default_timeout_microseconds: 500000 } }, { key: 2 value: { ... } } ]"
        ),
    ),
}


def exercise_1(config: str) -> str:
    """Check a config.pbtxt for a model with two inputs and one score a row."""
    found = parsed(config)
    if found.backend != "oneflow":
        raise NotYet(
            _('the backend is "{backend}"; "oneflow" serves graphs of flow.save.').format(
                backend=found.backend
            )
        )
    if found.max_batch_size != ROWS:
        raise NotYet(
            _("max_batch_size is {found}; up to {expected} rows may come.").format(
                found=found.max_batch_size, expected=ROWS
            )
        )
    as_dict = as_triton_has_it(found) | {"name": "ranker"}
    for mismatch in backend_config.mismatches(as_dict, RANKER):
        raise NotYet(f"{mismatch.sentence.strip(': ')}.")
    try:
        sizes = backend_config.read_settings(as_dict).batch_sizes
    except GraphFolderError as error:
        raise NotYet(f"{error}.") from None
    if sizes != (4, 16):
        said = (
            _("there is no batch_sizes")
            if sizes is None
            else _("batch_sizes gives {sizes}").format(sizes=list(sizes))
        )
        raise NotYet(
            _("{said}; the backend is to make plans for 4 and for 16 rows.").format(said=said)
        )
    if not found.HasField("dynamic_batching"):
        raise NotYet(_("a plan for 16 rows is there, but nobody joins requests: dynamic_batching."))
    groups = list(found.instance_group)
    if sum(group.count for group in groups) != 2:
        raise NotYet(_("two instances are asked for: count in instance_group."))
    if any(group.kind != ModelInstanceGroup.KIND_CPU for group in groups):
        raise NotYet(_("the instances are to run on the CPU: kind: KIND_CPU."))
    return _("Every field fits the graph, and requests are joined into plans of 4 and 16 rows.")


def exercise_2(prepare: Callable) -> str:
    """Check a function that chooses one of several served lengths, and fills up to it."""
    for count in (5, 32, 33, 64, 100, 128):
        tokens = list(range(1, count + 1))
        _check_prepared(call(prepare, tokens), tokens)
    try:
        found = prepare(list(range(1, 130)))
    except ValueError:
        return _("The shortest graph that fits, and a clear refusal before anything is sent.")
    except Exception as error:
        raise NotYet(
            _("129 tokens fit into no graph: expected ValueError, not {kind}.").format(
                kind=type(error).__name__
            )
        ) from None
    raise NotYet(
        _(
            "129 tokens fit into no graph, but your function returned {what}; a text that is cut "
            "silently gets a wrong answer: raise ValueError."
        ).format(what=describe(found))
    )


def _check_prepared(found: object, tokens: list[int]) -> None:
    count = len(tokens)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise NotYet(
            _("it returned {what}; expected the model's name and an array.").format(
                what=describe(found)
            )
        )
    name, array = found
    length = next(each for each in LENGTHS if each >= count)
    if name != f"text_{length}":
        raise NotYet(
            _(
                "for {count} tokens it chose {name!r}; expected 'text_{length}': it has room for "
                "all of them, and less to compute than the longer ones."
            ).format(count=count, name=name, length=length)
        )
    if not isinstance(array, np.ndarray) or array.dtype != np.int64:
        kind = array.dtype if isinstance(array, np.ndarray) else describe(array)
        raise NotYet(
            _("the tokens came as {kind}; Triton refuses all but the graph's type, int64.").format(
                kind=kind
            )
        )
    takes = (1, length)
    if array.shape != takes:
        raise NotYet(
            _(
                "for {count} tokens the array has the shape {shape}, but text_{length} takes "
                "{takes}: a batch of 1, and its length."
            ).format(count=count, shape=array.shape, length=length, takes=takes)
        )
    if array[0, :count].tolist() != tokens:
        begins = array[0, :3].tolist()
        raise NotYet(
            _("the tokens do not stand at the beginning: {begins} ...").format(begins=begins)
        )
    if array[0, count:].any():
        raise NotYet(_("what is filled up has to be 0, by which the network knows it."))


def exercise_3(batching: str) -> str:
    """Check lines by which people who wait go before jobs that do not."""
    found = parsed(f'backend: "oneflow" max_batch_size: 8 {batching}').dynamic_batching
    if not found.priority_levels:
        raise NotYet(_("there are no priority levels; two are needed."))
    if found.priority_levels != 2:
        raise NotYet(
            _("there are {levels} priority levels; two are needed.").format(
                levels=found.priority_levels
            )
        )
    if found.default_priority_level != 2:
        level = found.default_priority_level or _("none")
        raise NotYet(
            _(
                "default_priority_level is {level}: a client that knows nothing of levels would "
                "not stand with the jobs, level 2."
            ).format(level=level)
        )
    people, jobs = (found.priority_queue_policy.get(level) for level in (1, 2))
    for name, policy, seconds in (
        ("1", people, INTERACTIVE_SECONDS),
        ("2", jobs, BULK_SECONDS),
    ):
        if policy is None:
            raise NotYet(
                _("priority_queue_policy has no entry for level {name}.").format(name=name)
            )
        waits = policy.default_timeout_microseconds / 1e6
        if waits != seconds:
            said = f"{waits:g} s" if waits else _("as long as it likes")
            raise NotYet(
                _("a request of level {name} waits {said}; expected {seconds:g} s.").format(
                    name=name, said=said, seconds=seconds
                )
            )
        if policy.timeout_action != ModelQueuePolicy.REJECT:
            raise NotYet(
                _(
                    "with DELAY, a request of level {name} that has waited too long waits on."
                ).format(name=name)
            )
    if jobs.max_queue_size != BULK_WAITING:
        said = jobs.max_queue_size or _("as many as like")
        raise NotYet(
            _("{said} jobs may wait; expected {expected}.").format(said=said, expected=BULK_WAITING)
        )
    return _("People go first, jobs wait in bounds, and both are told when it takes too long.")
