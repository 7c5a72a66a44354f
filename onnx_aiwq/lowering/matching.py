"""The mutable graph that the passes rewrite: nodes, who makes a tensor, who reads it, and what a node stands for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from onnx_aiwq.graph import Graph
from onnx_aiwq.lowering.nodes import Node, Readers, attribute_key, node_of
from onnx_aiwq.vocabulary import DType, Operator, Tensor

_WIDE = 64  # inputs above which the places of a tensor among them are looked up, not searched


_NOBODY = Readers()


class WorkingGraph(msgspec.Struct):
    """A graph under rewriting.

    Attributes:
        nodes: by name; dead ones are removed.
        tensors: by name, those that no longer flow included.
        producers: tensor name -> node that makes it.
        readers: tensor name -> nodes that read it.
        kept: tensors that must keep their name: graph outputs, and what leaves a loop or a branch.
        changed: whether a pass has changed anything since it was last cleared.
        state: another number after every change: a pass that finds nothing twice in one state need not look twice.
        generated: constants that an operator of the file makes, by how they are made: equal keys, equal elements.
        versions: opset version by domain.
    """

    nodes: dict[str, Node] = msgspec.field(default_factory=dict)
    tensors: dict[str, Tensor] = msgspec.field(default_factory=dict)
    producers: dict[str, Node] = msgspec.field(default_factory=dict)
    readers: dict[str, Readers] = msgspec.field(default_factory=dict)
    kept: set[str] = msgspec.field(default_factory=set)
    changed: bool = False
    state: int = 0
    generated: dict[str, Any] = msgspec.field(default_factory=dict)
    versions: Mapping[str, int] = msgspec.field(default_factory=dict)
    _names: dict[str, int] = msgspec.field(default_factory=dict)
    _made: int = 0
    _by_type: dict[str, dict[str, Node]] = msgspec.field(default_factory=dict)
    _ordered: list[Node] | None = None  # until a node comes or goes
    # Of tensors among the inputs of wide nodes.
    _places: dict[str, dict[str, list[int]]] = msgspec.field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> WorkingGraph:
        """The run-time part of a graph; constant operators are left out, their results are constants.

        Dequantised weights stay: whether they are ever dequantised is decided by what they are fused with.
        """
        work = cls(versions=_versions(graph))
        tensors = work.tensors
        for position, operator in enumerate(graph.operators):
            for tensor in operator.inputs:
                if tensor is not None:
                    tensors[tensor.name] = tensor
            for tensor in operator.outputs:
                if tensor is not None:
                    tensors[tensor.name] = tensor
            if not operator.constant or operator.op_type == "DequantizeLinear":
                work._insert(node_of(operator, float(position), position))
            elif operator.op_type != "Constant":
                work._note_generated(operator)
            work._made = position + 1
        work._ordered = list(work.nodes.values())
        for tensor in (*graph.inputs, *graph.outputs):
            work.tensors.setdefault(tensor.name, tensor)
        work.kept = {tensor.name for tensor in graph.outputs} | _escaping(graph)
        asked = [t.name for operator in graph.operators if operator.constant for t in operator.inputs if t is not None]
        work.drop_unread(work.producers.get(name) for name in asked)  # of these only the shape was asked
        return work

    def _note_generated(self, operator: Operator) -> None:
        sources = tuple(
            None
            if tensor is None
            else self.generated.get(tensor.name)
            or (tensor.name if tensor.value is None or tensor.value.dtype == object else tensor.value.tobytes())
            for tensor in operator.inputs
        )
        for index, tensor in enumerate(operator.outputs):
            if tensor is not None:
                how = (operator.domain, operator.op_type, attribute_key(operator.attributes), sources, index)
                self.generated[tensor.name] = (tensor.dtype, tensor.shape, how)

    def note_generated(self, name: str, how: Any) -> None:
        """Note how a constant is made, unless that is known."""
        if name not in self.generated:
            self.generated[name] = how
            self.state += 1

    def _insert(self, node: Node) -> None:
        self.nodes[node.name] = node
        self._by_type.setdefault(node.op_type, {})[node.name] = node
        self._ordered = None
        for name in node.inputs:
            if name:
                self._note_reading(name, node)
        for name in node.outputs:
            if name:
                self.producers[name] = node

    def _note_reading(self, name: str, node: Node) -> None:
        readers = self.readers.get(name)
        if readers is None:
            self.readers[name] = Readers(node)
        else:
            readers.add(node)

    def _note_change(self) -> None:
        self.changed = True
        self.state += 1

    # Looking

    def ordered(self) -> list[Node]:
        """All nodes in execution order."""
        if self._ordered is None:
            self._ordered = sorted(self.nodes.values(), key=_position)
        elif len(self._ordered) != len(self.nodes):
            nodes = self.nodes
            self._ordered = [node for node in self._ordered if nodes.get(node.name) is node]
        return list(self._ordered)

    def has(self, *op_types: str, domain: str = "") -> bool:
        """Whether there is a node of some types."""
        return any(node.domain == domain for each in op_types for node in self._by_type.get(each, {}).values())

    def of_type(self, *op_types: str, domain: str = "") -> Iterator[Node]:
        """The nodes of some types in execution order; those that a pass removes meanwhile are left out."""
        found = (node for op_type in dict.fromkeys(op_types) for node in self._by_type.get(op_type, {}).values())
        for node in sorted((node for node in found if node.domain == domain), key=_position):
            if self.nodes.get(node.name) is node:
                yield node

    def producer(self, name: str) -> Node | None:
        return self.producers.get(name)

    def maker(self, node: Node, index: int) -> Node | None:
        """The node of the same place that makes an input."""
        made_by = self.producers.get(node.input(index))
        return made_by if made_by is not None and made_by.place == node.place else None

    def uses(self, name: str) -> int:
        """How often a tensor is read; leaving the graph counts as once."""
        return len(self.read_by(name)) + (name in self.kept)

    def only_reader(self, node: Node, output: int = 0) -> Node | None:
        """The one node that reads an output, once, where nothing else needs that output."""
        name = node.outputs[output]
        readers = self.readers.get(name)
        reader = None if readers is None or name in self.kept else readers.only
        return reader if reader is not None and reader.place == node.place else None

    def read_by(self, name: str) -> Readers:
        """The nodes that read a tensor."""
        return self.readers.get(name, _NOBODY)

    def shape(self, name: str) -> tuple[int, ...] | None:
        tensor = self.tensors.get(name)
        return None if tensor is None else tensor.shape

    def dtype(self, name: str) -> DType:
        tensor = self.tensors.get(name)
        return DType.UNDEFINED if tensor is None else tensor.dtype

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is there before the run; a weight that a node dequantises is not."""
        tensor = self.tensors.get(name)
        return tensor is not None and tensor.constant and name not in self.producers

    def scalar(self, name: str) -> float | None:
        """The value of a constant of one element."""
        tensor = self.tensors.get(name)
        if tensor is None or not tensor.constant or tensor.value is None or tensor.value.size != 1:
            return None
        element = tensor.value.reshape(-1)[0]
        return float(element) if isinstance(element, np.number | np.bool_) else None

    def integers(self, name: str) -> list[int] | None:
        """The elements of an integer tensor that is known."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.value is None or tensor.value.dtype.kind not in "iu":
            return None
        return [int(element) for element in tensor.value.reshape(-1)]

    # Changing

    def fresh(self, stem: str) -> str:
        """A name that no tensor and no node has."""
        while True:
            count = self._names.get(stem, 0)
            self._names[stem] = count + 1
            name = stem if count == 0 else f"{stem}_{count}"
            if name not in self.tensors and name not in self.nodes:
                return name

    def make_tensor(
        self,
        stem: str,
        dtype: DType,
        shape: Sequence[int] | None,
        *,
        constant: bool = False,
        value: np.ndarray[Any, Any] | None = None,
    ) -> str:
        """A new tensor; returns its name."""
        name = self.fresh(stem)
        self.tensors[name] = Tensor(name, dtype, None if shape is None else tuple(shape), value, constant)
        return name

    def add(
        self,
        op_type: str,
        domain: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
        *,
        anchor: Node,
        stands_for: Iterable[str],
        after: Node | None = None,
        shift: float = 0.0,
        name: str = "",
    ) -> Node:
        """Put a new node into the graph.

        Args:
            op_type: operator name.
            domain: operator domain.
            inputs: tensor names.
            outputs: tensor names.
            attributes: of the node.
            anchor: the node that gives place, name and, unless `after` does, position.
            stands_for: exported operators, the anchor first.
            after: the node whose position it takes.
            shift: how far it stands from there; between -0.5 and 0.5.
            name: its name, unless it is that of the anchor.
        """
        self._made += 1
        node = Node(
            name=self.fresh(name) if name else anchor.name,
            op_type=op_type,
            domain=domain,
            version=self.versions.get(domain, 1),
            inputs=list(inputs),
            outputs=list(outputs),
            attributes=MappingProxyType(dict(attributes)),
            place=anchor.place,
            stands_for=tuple(dict.fromkeys(stands_for)),
            order=(after or anchor).order + shift,
            number=self._made,
        )
        if node.name in self.nodes:
            node.name = self.fresh(f"{node.name}/{op_type}")
        self._insert(node)
        self._note_change()
        return node

    def remove(self, *nodes: Node) -> None:
        """Take nodes out; their tensors stay known."""
        for node in nodes:
            if self.nodes.pop(node.name, None) is None:
                continue
            del self._by_type[node.op_type][node.name]
            for name in node.inputs:
                if name:
                    self.readers[name].discard(node)
            self._places.pop(node.name, None)
            for name in node.outputs:
                if name and self.producers.get(name) is node:
                    del self.producers[name]
            self._note_change()

    def set_tensor(self, tensor: Tensor) -> None:
        """Take another view of a tensor; its name stays."""
        self.tensors[tensor.name] = tensor
        self.state += 1

    def move(self, node: Node, order: float) -> None:
        """Let a node stand elsewhere in execution order."""
        node.order = order
        self._ordered = None

    def set_input(self, node: Node, index: int, name: str) -> None:
        """Let a node read another tensor."""
        old = node.input(index)
        if old == name:
            return
        if old:
            self.readers[old].discard(node)
        if index >= len(node.inputs):
            node.inputs.extend([""] * (index + 1 - len(node.inputs)))
            self._places.pop(node.name, None)
        node.inputs[index] = name
        if name:
            self._note_reading(name, node)
        places = self._places.get(node.name)
        if places is not None:
            places[old].remove(index)
            places.setdefault(name, []).append(index)
        self._note_change()

    def set_output(self, node: Node, index: int, name: str) -> None:
        """Let a node make another tensor."""
        old = node.outputs[index]
        if old and self.producers.get(old) is node:
            del self.producers[old]
        node.outputs[index] = name
        self.producers[name] = node
        self._note_change()

    def set_attributes(self, node: Node, **changes: Any) -> None:
        node.attributes = MappingProxyType({**node.attributes, **changes})
        self._note_change()

    def replace_uses(self, old: str, new: str) -> None:
        """Let every reader of one tensor read another."""
        for reader in self.read_by(old).distinct():
            for index in self._indices(reader, old):
                self.set_input(reader, index, new)

    def _indices(self, node: Node, name: str) -> list[int]:
        """Where a node reads a tensor."""
        if len(node.inputs) < _WIDE:
            return [index for index, read in enumerate(node.inputs) if read == name]
        if node.name not in self._places:
            places: dict[str, list[int]] = {}
            for index, read in enumerate(node.inputs):
                places.setdefault(read, []).append(index)
            self._places[node.name] = places
        return list(self._places[node.name].get(name, ()))

    def bypass(self, node: Node, index: int = 0) -> bool:
        """Take a node out that hands one input through; False where its output must keep its name."""
        source, result = node.input(index), node.output
        if not source:
            return False
        if result in self.kept:
            maker = self.producer(source)
            if maker is None or source in self.kept or maker.place != node.place:
                return False
            self.remove(node)
            slot = maker.outputs.index(source)
            self.set_output(maker, slot, result)
            self.replace_uses(source, result)
            return True
        self.remove(node)
        self.replace_uses(result, source)
        return True

    def fuse(
        self,
        anchor: Node,
        others: Sequence[Node],
        op_type: str,
        domain: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
        *,
        gone: Sequence[Node] | None = None,
    ) -> Node:
        """Replace nodes by one that stands for all of them.

        Args:
            anchor: the node that does the main work.
            others: the nodes fused with it.
            op_type: operator of the new node.
            domain: its domain.
            inputs: its inputs.
            outputs: its outputs, which are outputs of the nodes that go.
            attributes: its attributes.
            gone: the nodes that go, if not all.
        """
        last = max((anchor, *others), key=lambda node: node.order)
        self.remove(*((anchor, *others) if gone is None else gone))
        names = [name for node in (anchor, *others) for name in node.stands_for]
        return self.add(op_type, domain, inputs, outputs, attributes, anchor=anchor, stands_for=names, after=last)

    def drop_unread(self, nodes: Iterable[Node | None]) -> None:
        """Remove nodes whose outputs nothing needs, and what then is not needed either."""
        pending = [node for node in nodes if node is not None]
        while pending:
            node = pending.pop()
            if self.nodes.get(node.name) is not node or any(name and self.uses(name) for name in node.outputs):
                continue
            makers = [self.producers.get(name) for name in node.inputs if name]
            self.remove(node)
            pending.extend(maker for maker in makers if maker is not None)


def _position(node: Node) -> tuple[float, int]:
    return node.order, node.number


def _versions(graph: Graph) -> dict[str, int]:
    return {"" if domain == "ai.onnx" else domain: number for domain, number in graph.model.opsets.items()}


def _escaping(graph: Graph) -> set[str]:
    """Tensors that an edge carries to an operator which does not read them by that name: out of a loop or a branch."""
    by_name = {operator.name: operator for operator in graph.operators}
    escaping: set[str] = set()
    last, read = "", set[str]()
    for _, consumer, name in graph.edges:
        if consumer != last:  # the edges to one operator follow one another
            operator, last = by_name.get(consumer), consumer
            read = set() if operator is None else {tensor.name for tensor in operator.inputs if tensor is not None}
        if name not in read:
            escaping.add(name)
    return escaping


def traversal(work: WorkingGraph) -> list[Node]:
    """The nodes as the optimiser visits them: depth first from the last results back, later branches first.

    Which of two convolutions takes a sum over depends on it.
    """
    nodes = sorted(work.nodes.values(), key=lambda node: node.number)
    ends = [node for node in nodes if not any(work.readers.get(name) for name in node.outputs if name)]
    stack = [(node, False) for node in ends]
    seen: set[str] = set()
    result: list[Node] = []
    while stack:
        node, leaving = stack.pop()
        if leaving:
            result.append(node)
            continue
        if node.name in seen:
            continue
        seen.add(node.name)
        stack.append((node, True))
        before = {made.name: made for name in node.inputs if name and (made := work.producers.get(name)) is not None}
        stack.extend((made, False) for made in sorted(before.values(), key=lambda made: made.number))
    return result
