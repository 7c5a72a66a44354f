"""Figures of the TO paper's experiment as SVG and PNG; needs matplotlib, which the extra `plots` brings."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_aiwq.errors import PolicyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = ("svg", "png")
_COLOURS = {1: "#0b6e5f", 2: "#c4581a", 3: "#2f62c4"}
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "onnx_aiwq", "font.size": 9.0}
_POINTS = 200
Document = Mapping[str, Any]


def plot_reproduction(document: Document, samples: Sequence[Any]) -> Iterator[tuple[str, bytes]]:
    """File name and content of every figure.

    One per group: energy of every run against TOs and against FLOPs, with the fits of n = 1 to 3; and one with the mean
    precision of all predictors by run and by network.

    Args:
        document: the object of the schema ``onnx_aiwq.reproduction/1``.
        samples: what it was made of, the dropped runs among them.

    Raises:
        PolicyError: if matplotlib is missing.
    """
    plot, context = _matplotlib()
    groups = list(dict.fromkeys((fit["family"], fit["activation"]) for fit in document["fits"]))
    with context:
        for family, activation in groups:
            figure, axes = plot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
            for each, basis in zip(axes, ("TOs", "FLOPs"), strict=True):
                _energy(each, document, samples, (family, activation), basis)
            figure.suptitle(f"{family} {activation}: {document['label']} energy of a run")
            yield from _saved(figure, f"energy-{family}-{activation}".lower().replace(" ", "-"))
            plot.close(figure)
        figure, axes = plot.subplots(1, len(groups), figsize=(3 * len(groups), 3.6), layout="constrained")
        for each, group in zip(np.atleast_1d(axes), groups, strict=True):
            _precision(each, document, group)
        figure.suptitle("Mean precision on validation runs: split by run (filled) and by network (hollow)")
        yield from _saved(figure, "precision-by-split")
        plot.close(figure)


def _matplotlib() -> tuple[Any, Any]:
    try:
        import matplotlib
    except ImportError:
        raise PolicyError(
            "--plot needs matplotlib; install it with `pip install 'onnx-aiwq[plots]'`, or leave --plot out"
        ) from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot, matplotlib.rc_context(_STYLE)


def _energy(axes: Axes, document: Document, samples: Sequence[Any], group: tuple[str, str], basis: str) -> None:
    family, activation = group
    every = [s for s in samples if s.family == family and activation in (s.activation, "all three")]
    x = np.asarray([s.transistor_operations if basis == "TOs" else s.flops for s in every], dtype=float)
    axes.plot(x, [s.joules for s in every], ".", color="#8b96a3", markersize=3, label="runs")
    line = np.linspace(x.min(), x.max(), _POINTS)
    for fit in document["fits"]:
        if (fit["family"], fit["activation"], fit["basis"]) == (family, activation, basis):
            powers = (line / fit["unit"])[:, None] ** np.arange(fit["n"] + 1)
            axes.plot(
                line, powers @ np.asarray(fit["coefficients_j"]), color=_COLOURS[fit["n"]], label=f"n = {fit['n']}"
            )
    axes.set_xlabel(f"{basis} of a run")
    axes.set_ylabel("energy, J")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _precision(axes: Axes, document: Document, group: tuple[str, str]) -> None:
    rows = [row for row in document["table"] if (row["family"], row["activation"]) == group]
    names = list(dict.fromkeys(f"{row['basis']} {row['n'] or ''}".strip() for row in rows))
    for split, fill in (("run", "full"), ("network", "none")):
        values = [row["precision_avg_pct"] for row in rows if row["split"] == split]
        axes.plot(values, names, "o", color="#0b6e5f", fillstyle=fill, label=f"by {split}")
    axes.set_title(" ".join(group))
    axes.set_xlabel("precision, %")
    axes.invert_yaxis()


def _saved(figure: Figure, name: str) -> Iterator[tuple[str, bytes]]:
    for form in PICTURES:
        stream = io.BytesIO()
        figure.savefig(stream, format=form, dpi=200, metadata={"Date": None} if form == "svg" else None)
        yield f"{name}.{form}", stream.getvalue()
