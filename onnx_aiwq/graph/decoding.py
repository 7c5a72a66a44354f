"""How the search operators of onnxruntime are entered: BeamSearch, GreedySearch, Sampling and WhisperBeamSearch.

They run a decoder once per token until an end token comes, which run-time data decides, or until `max_length`. The
decoder is walked twice: for the prompt, and for one token behind the longest past, which stands for all later steps
(upper bound). An encoder is walked once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import onnx

from onnx_aiwq.errors import ModelError
from onnx_aiwq.graph.control_flow import Inputs, Runner, captured, inside
from onnx_aiwq.graph.entries import Entry, typed_entry
from onnx_aiwq.graph.validation import describe, subgraphs_of
from onnx_aiwq.symbolic import Dim, Formula, at_least, simplified

if TYPE_CHECKING:
    from onnx_aiwq.graph.walk import Entries, Place, Walk

DOMAIN = "com.microsoft"
_BEAMS = frozenset({"BeamSearch", "WhisperBeamSearch"})
_FORCED_TOKENS = 10  # position of decoder_input_ids among the inputs of beam searches
_INT32, _FLOAT = onnx.TensorProto.INT32, onnx.TensorProto.FLOAT


class _Sizes(msgspec.Struct, frozen=True):
    """The dimensions of one pass over a subgraph, as the operator's documentation names them.

    Attributes:
        rows: sequences, a beam counts as one.
        tokens: new tokens.
        past: tokens before them.
        source: tokens of the encoder.
        longest: tokens of the longest result, which shared buffers hold.
        first: whether this is the first pass of all.
    """

    rows: Dim
    tokens: Dim
    past: Dim
    source: Dim
    longest: Dim
    first: bool


class _Search(msgspec.Struct):
    """One search operator while it is walked; `made` is what its subgraphs returned."""

    walk: Walk
    node: onnx.NodeProto
    name: str
    inputs: Inputs
    entries: Entries
    place: Place
    graphs: Mapping[str, onnx.GraphProto]
    made: list[Entry] = msgspec.field(default_factory=list)

    def number(self, index: int, what: str) -> Dim:
        """A number among the inputs; a symbol where it is not known before the run."""
        entry = self.inputs[index] if index < len(self.inputs) else None
        if entry is not None and entry.data is not None and entry.data.size == 1:
            number = simplified(entry.data.reshape(-1)[0])
            return number if isinstance(number, Formula) else int(number)
        return self.walk.engine.symbols.resolve(f"{self.name}_{what}")

    def size(self, index: int, axis: int, what: str) -> Dim:
        """A dimension of an input; a symbol where it is not known."""
        entry = self.inputs[index] if index < len(self.inputs) else None
        if entry is not None and entry.shape is not None and len(entry.shape) > axis:
            return entry.shape[axis]
        return self.walk.engine.symbols.resolve(f"{self.name}_{what}")

    def run(self, which: str, sizes: _Sizes, repeats: Dim, given: Mapping[str, Entry]) -> list[Entry]:
        """Walk one subgraph for one pass; its outputs.

        Args:
            which: attribute that holds it.
            sizes: of the pass.
            repeats: how often it is made.
            given: inputs by name whose shape is known already.
        """
        graph, scope_name = self.graphs[which], f"{self.name}/{which}"
        if which == "decoder" and not sizes.first:
            scope_name += "/step"
        scope = captured(graph, self.entries)
        for formal in graph.input:
            entry = given.get(formal.name)
            dims: Sequence[Dim] | None = self._dims(formal, sizes) if entry is None else entry.shape
            made = typed_entry(f"{scope_name}/{formal.name}", formal.type.tensor_type.elem_type, dims)
            made.dynamic = True
            scope[formal.name] = made
        times = self.place.repeats * repeats
        home = self.place.home_of(f"{self.name}/{which}")
        bound = self.place.bound or not sizes.first
        inner = inside(self.place, graph, scope_name, repeats=times, home=home, bound=bound)
        results = self.walk.run_graph(graph, scope, inner)
        self.walk.subgraphs += 1
        self.made += results
        return results

    def _dims(self, formal: onnx.ValueInfoProto, sizes: _Sizes) -> list[Dim] | None:
        """The shape of an input of a subgraph, by the role that its name tells; other dimensions are as declared."""
        tensor = formal.type.tensor_type
        if not tensor.HasField("shape"):
            return None
        known = _roles(formal.name, len(tensor.shape.dim), sizes, "encoder" in self.graphs)
        dims: list[Dim] = []
        for axis, dim in enumerate(tensor.shape.dim):
            if axis in known:
                dims.append(known[axis])
            elif dim.HasField("dim_value") and dim.dim_value >= 0:
                dims.append(dim.dim_value)
            else:
                own = dim.dim_param or f"{formal.name}_dim{axis}"
                dims.append(self.walk.engine.symbols.resolve(f"{self.name}_{own}"))
        return dims


def _roles(name: str, rank: int, sizes: _Sizes, encoded: bool) -> dict[int, Dim]:
    """Axis -> size of an input of a decoder or encoder by its name."""
    if name == "past_sequence_length" or name == "beam_width":
        return dict.fromkeys(range(rank), 1)
    if name == "cache_indirection":
        return {2: sizes.longest}
    if "mask" in name:
        return {0: sizes.rows, 1: sizes.source if encoded else sizes.past + sizes.tokens}
    if "hidden_states" in name or "cross" in name:
        return {0: sizes.rows, (1 if "hidden_states" in name else 2): sizes.source}
    if rank == 5:  # keys and values of a decoder without encoder: [2, batch, heads, length, width]
        return {1: sizes.rows, 3: sizes.past}
    if rank == 4:  # keys or values: [batch, heads, length, width]
        return {0: sizes.rows, 2: sizes.past}
    return {0: sizes.rows, 1: sizes.tokens} if rank == 2 else {0: sizes.rows}


def run_search(walk: Walk, node: onnx.NodeProto, inputs: Inputs, entries: Entries, place: Place) -> list[Entry | None]:
    """Enter a search operator: its encoder, and its decoder for the prompt and for every later token."""
    graphs = dict(subgraphs_of(node))
    if "decoder" not in graphs:
        raise ModelError(
            f"{walk.skeleton.label}: {describe(node)} has no decoder; the file is incomplete, export it again"
        )
    search = _Search(walk, node, walk.name_of(node, place), inputs, entries, place, graphs)
    batch, longest = search.size(0, 0, "batch_size"), search.number(1, "max_length")
    beams = search.number(3, "num_beams") if node.op_type in _BEAMS else 1
    if "encoder" in graphs:
        start, logits = _after_encoder(search, batch, batch * beams, longest)
    else:
        start = search.size(0, 1, "sequence_length")
        logits = _decoder_alone(search, batch * beams, start, longest)
    walk.warnings.append(
        f"{describe(node)}: run-time data ends the search; at most max_length tokens are counted, each with the "
        "longest past (upper bound)"
    )
    outputs = _outputs(search, batch, beams, start, longest, logits)
    walk.record(search.name, _with_vocabulary(node, logits), inputs, outputs, place, after=search.made)
    return outputs


def _decoder_alone(search: _Search, rows: Dim, prompt: Dim, longest: Dim) -> Entry | None:
    """GPT-2 and the like: the prompt in one pass, then token by token."""
    shared = any(value.name == "past_sequence_length" for value in search.graphs["decoder"].input)
    first = _Sizes(rows, prompt, longest if shared else 0, prompt, longest, True)
    later = _Sizes(rows, 1, longest if shared else at_least(longest - 2, 0), prompt, longest, False)
    which = "init_decoder" if "init_decoder" in search.graphs else "decoder"
    results = search.run(which, first, 1, {})
    search.run("decoder", later, at_least(longest - prompt - 1, 0), {})
    return results[0] if results else None


def _after_encoder(search: _Search, batch: Dim, rows: Dim, longest: Dim) -> tuple[Dim, Entry | None]:
    """T5, Whisper and the like: the encoder once, then token by token; how many tokens there are at first."""
    graph = search.graphs["encoder"]
    forced = search.inputs[_FORCED_TOKENS] if len(search.inputs) > _FORCED_TOKENS else None
    start: Dim = forced.shape[1] if forced is not None and forced.shape is not None else 1
    source = search.size(0, 1, "sequence_length")
    first = search.inputs[0]
    given = {graph.input[0].name: first} if first is not None and graph.input else {}
    for formal in graph.input[1:]:
        if "mask" in formal.name and first is not None:
            given[formal.name] = first
    results = search.run("encoder", _Sizes(batch, start, 0, source, longest, True), 1, given)
    handed: dict[str, Entry] = {}
    for value, result in zip(graph.output, results, strict=False):
        shape = result.shape
        if shape and ("hidden_states" in value.name or "cross" in value.name):
            to = value.name.replace("present", "past")
            handed[to] = typed_entry(to, int(result.value.dtype or 0), (rows, *shape[1:]))
            source = shape[1] if "hidden_states" in value.name else shape[2]
    speaks = bool(graph.output) and "logits" in graph.output[0].name
    steps = at_least(longest - start - (1 if speaks else 0), 0)
    step = _Sizes(rows, 1, at_least(longest - 1, 0), source, longest, False)
    return start, next(iter(search.run("decoder", step, steps, handed)), None)


def _outputs(
    search: _Search, batch: Dim, beams: Dim, start: Dim, longest: Dim, logits: Entry | None
) -> list[Entry | None]:
    """Sequences, and of a beam search their scores and the scores of every step."""
    words = (
        logits.shape[-1]
        if logits is not None and logits.shape
        else search.walk.engine.symbols.resolve(f"{search.name}_vocab_size")
    )
    kinds: list[tuple[int, Sequence[Dim] | None]]
    if search.node.op_type in _BEAMS:
        returned = search.number(4, "num_return_sequences")
        kinds = [(_INT32, (batch, returned, longest)), (_FLOAT, (batch, returned))]
        kinds += [(_FLOAT, (at_least(longest - start, 0), batch, beams, words)), (_FLOAT, None), (_FLOAT, (batch,))]
    else:
        kinds = [(_INT32, (batch, longest)), (_FLOAT, (batch, words))]
    return [
        typed_entry(search.place.unique(to), kind, dims) if to else None
        for to, (kind, dims) in zip(search.node.output, kinds, strict=False)
    ]


def _with_vocabulary(node: onnx.NodeProto, logits: Entry | None) -> onnx.NodeProto:
    """The node without its subgraphs, with the size of the vocabulary that the decoder returns."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    plain: list[Any] = [a for a in node.attribute if not a.HasField("g") and a.name != "vocab_size"]
    del copy.attribute[:]
    copy.attribute.extend(plain)
    words = logits.shape[-1] if logits is not None and logits.shape else None
    given = [attribute for attribute in node.attribute if attribute.name == "vocab_size" and attribute.i > 0]
    if isinstance(words, int) and not given:
        copy.attribute.append(onnx.helper.make_attribute("vocab_size", words))
    copy.attribute.extend(given)
    return copy


RUNNERS: dict[tuple[str, str], Runner] = {
    (DOMAIN, name): run_search for name in ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch")
}
