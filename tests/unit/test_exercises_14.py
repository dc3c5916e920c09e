"""The checks of lesson 14's exercises; the solutions are run by test_exercises_server.py."""

import numpy as np
import pytest

RANKER = """
name: "ranker"
backend: "oneflow"
max_batch_size: 16
input [
  { name: "INPUT_0" data_type: TYPE_INT64 dims: [ 128 ] },
  { name: "INPUT_1" data_type: TYPE_FP32 dims: [ 16 ] }
]
output [ { name: "OUTPUT_0" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
parameters { key: "batch_sizes" value: { string_value: "4, 16" } }
dynamic_batching { }
"""


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("[ 128 ]", "[ 128", "could not read this in line"),
        ('"oneflow"', '"python"', 'the backend is "python"'),
        ("max_batch_size: 16", "max_batch_size: 8", "max_batch_size is 8"),
        ("INPUT_0", "history", "names the inputs INPUT_1, history"),
        ("TYPE_INT64", "TYPE_INT32", "INPUT_0 is TYPE_INT32, but the graph has TYPE_INT64"),
        ("[ 128 ]", "[ 1, 128 ]", "without the batch"),
        ("reshape { shape: [ ] }", "", "one number per row"),
        ('"4, 16"', '"4, 32"', 'parameter batch_sizes is "4, 32"'),
        ('"4, 16"', '"2, 4, 8, 16"', "batch_sizes gives [2, 4, 8, 16]"),
        ("dynamic_batching { }", "", "nobody joins requests"),
        ("count: 2", "count: 1", "two instances are asked for"),
        ("KIND_CPU", "KIND_GPU", "on the CPU: kind: KIND_CPU"),
    ],
)
def test_hints_on_a_configuration(verdict, old, new, hint):
    assert hint in verdict("14.1", RANKER.replace(old, new, 1))


def prepare(tokens, lengths=(32, 64, 128), dtype=np.int64, fill=0, batch=1, start=0):
    for length in lengths:
        if len(tokens) <= length:
            array = np.full((batch, length), fill, dtype)
            array[0, start : start + len(tokens)] = tokens
            return f"text_{length}", array
    raise ValueError("too long")


def cut(tokens):
    return prepare(tokens[:128])


def refuse_wrongly(tokens):
    if len(tokens) > 128:
        raise KeyError(len(tokens))
    return prepare(tokens)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda tokens: None, "returned None; expected the model's name and an array"),
        (lambda tokens: prepare(tokens, lengths=(128,)), "expected 'text_32'"),
        (lambda tokens: prepare(tokens, dtype=np.int32), "the tokens came as int32"),
        (lambda tokens: ("text_32", tokens), "the tokens came as a list"),
        (lambda tokens: prepare(tokens, batch=2), "a batch of 1, and its length"),
        (lambda tokens: prepare(tokens, fill=7), "has to be 0"),
        (lambda tokens: prepare(tokens, start=1), "do not stand at the beginning"),
        (cut, "a text that is cut silently gets a wrong answer"),
        (refuse_wrongly, "expected ValueError, not KeyError"),
    ],
)
def test_hints_on_lengths(verdict, answer, hint):
    assert hint in verdict("14.2", answer)


BATCHING = """dynamic_batching { priority_levels: 2 default_priority_level: 2
  priority_queue_policy [
  { key: 1 value: { default_timeout_microseconds: 500000 } },
  { key: 2 value: { default_timeout_microseconds: 30000000 max_queue_size: 200 } } ] }"""


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("[", "", "could not read this"),
        ("priority_levels: 2", "", "there are no priority levels"),
        ("default_priority_level: 2", "", "default_priority_level is none"),
        ("default_priority_level: 2", "default_priority_level: 1", "default_priority_level is 1"),
        ("{ key: 1 value: { default_timeout_microseconds: 500000 } },", "", "no entry for level 1"),
        ("500000", "500", "level 1 waits 0.0005 s; expected 0.5 s"),
        ("default_timeout_microseconds: 500000", "", "level 1 waits as long as it likes"),
        ("500000", "500000 timeout_action: DELAY", "with DELAY, a request of level 1"),
        ("max_queue_size: 200", "", "as many as like jobs may wait"),
    ],
)
def test_hints_on_priorities(verdict, old, new, hint):
    assert hint in verdict("14.3", BATCHING.replace(old, new, 1))
