"""The same graph in another file: nodes in another order, tensors under other names."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from bnfold.order import reads


def shuffled(model: ModelProto, seed: int) -> ModelProto:
    """A copy with its nodes in another order in which they can run, and its initializers in any;
    all but the graph's inputs and outputs have other names."""
    draw = random.Random(seed)
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes, initializers = list(any_order(graph.node, draw)), list(graph.initializer)
    draw.shuffle(initializers)
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    rename(graph, draw)
    return copy


def any_order(nodes: Iterable[NodeProto], draw: random.Random) -> Iterable[NodeProto]:
    """The nodes in an order in which they can run, drawn one by one."""
    waiting = list(nodes)
    missing = {name for node in waiting for name in node.output if name}
    while waiting:
        ready = [node for node in waiting if missing.isdisjoint(reads(node))]
        node = draw.choice(ready)
        waiting.remove(node)
        missing.difference_update(node.output)
        yield node


def rename(graph: GraphProto, draw: random.Random) -> None:
    """Give everything but inputs and outputs another name; subgraphs are not looked into."""
    made = [name for node in graph.node for name in node.output if name]
    kept = {info.name for info in (*graph.input, *graph.output)}
    names = [n for n in (*(t.name for t in graph.initializer), *made) if n not in kept]
    places = draw.sample(range(len(names)), len(names))
    new = {name: f"v{place}" for name, place in zip(names, places, strict=True)}
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]


def function_of(model: ModelProto) -> dict[str, str]:
    """By output, a digest of how it is computed: equal where operators, attributes, order of
    operands and all bytes of weights are, whatever names and order the file has."""
    graph = model.graph
    known = {info.name: info.name for info in graph.input}
    for tensor in graph.initializer:
        body = onnx.TensorProto()
        body.CopyFrom(tensor)
        body.ClearField("name")
        known[tensor.name] = digest(body.SerializeToString(deterministic=True))
    for node in graph.node:
        attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        inputs = [known.get(name, name).encode() for name in node.input]
        key = digest(node.domain.encode(), node.op_type.encode(), *attributes, *inputs)
        for place, name in enumerate(node.output):
            known[name] = digest(key.encode(), bytes([place]))
    return {info.name: known[info.name] for info in graph.output}


def digest(*parts: bytes) -> str:
    """A hash of some bytes, where one ends and the next begins included."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(len(part).to_bytes(8, "little") + part)
    return total.hexdigest()
