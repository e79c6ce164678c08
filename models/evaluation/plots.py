"""Figures of an evaluation, drawn without a display, in colours that colour-blind readers can tell apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.gallery import decode_plane
from models.evaluation.metrics import auroc, average_precision

# Okabe and Ito's palette without black; line styles differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
STYLES = ("-", "--", "-.", ":")
NORMAL_COLOUR, ABNORMAL_COLOUR = COLOURS[0], COLOURS[1]
SIZE = (5.2, 4.4)
DPI = 120
BINS = 40
Scores = Sequence[Mapping[str, Any]]


def draw_roc(scores: Scores, path: Path) -> None:
    """Receiver operating characteristics, one a row of ``scores``."""
    from sklearn.metrics import roc_curve  # Heavy; the service never needs it.

    figure, axes = _figure()
    for i, row in enumerate(scores):
        fpr, tpr, _ = roc_curve(row["labels"], row["scores"])
        area = auroc(row["labels"], row["scores"])
        axes.plot(fpr, tpr, **_style(i), label=f"{_name(row, scores)}: {area:.2f}")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="chance: 0.50")
    _finish(axes, "false-positive rate", "sensitivity", "ROC; area beside the name")
    _save(figure, path)


def draw_precision_recall(scores: Scores, path: Path) -> None:
    """Precision by recall, with each row's prevalence as a thin line."""
    from sklearn.metrics import precision_recall_curve

    figure, axes = _figure()
    for i, row in enumerate(scores):
        precision, recall, _ = precision_recall_curve(row["labels"], row["scores"])
        value = average_precision(row["labels"], row["scores"])
        style = _style(i)
        axes.plot(
            recall, precision, **style, drawstyle="steps-post", label=f"{_name(row, scores)}: {value:.2f}"
        )
        axes.axhline(float(np.mean(row["labels"])), color=style["color"], linewidth=0.6)
    _finish(axes, "recall", "precision", "Precision and recall; thin lines: prevalence")
    _save(figure, path)


def draw_histogram(row: Mapping[str, Any], path: Path) -> None:
    """Scores of normals and abnormals of one row; the highest hundredth is in the last bin."""
    values, labels = np.array(row["scores"]), np.array(row["labels"], dtype=np.bool_)
    high = max(float(np.quantile(values, 0.99)), float(values.min()) + 1e-9)
    edges = np.linspace(float(values.min()), high, BINS + 1)
    figure, axes = _figure()
    for chosen, colour, name, hatch in (
        (~labels, NORMAL_COLOUR, "normal", ""),
        (labels, ABNORMAL_COLOUR, row["finding"] or "abnormal", "//"),
    ):
        shares = np.histogram(np.minimum(values[chosen], high), edges)[0] / max(1, int(chosen.sum()))
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.45, hatch=hatch)
        axes.stairs(shares, edges, color=colour, label=f"{name} ({int(chosen.sum())})")
    axes.set_xlabel("score")
    axes.set_ylabel("share of cases")
    axes.set_title(f"Scores, {row['split']}", fontsize=10)
    _save(figure, path)


def draw_bathtub(rows: Sequence[Mapping[str, Any]], over: str, path: Path) -> None:
    """AP along a sweep of toy spheres: images or slices, pixels, intensity alone, and chance.

    Parameters
    ----------
    rows : sequence of dict
        Of one artefact and one part.
    over : str
        ``intensity`` or ``radius``.
    path : Path
    """
    names = {
        "synthetic_ap": "model, cases",
        "synthetic_pixel_ap": "model, pixels",
        "synthetic_ap:intensity": "brightness alone, cases",
        "synthetic_pixel_ap:intensity": "brightness alone, pixels",
        "synthetic_prevalence": "chance, cases",
    }
    figure, axes = _figure()
    for i, (metric, label) in enumerate(names.items()):
        points = sorted(
            (float(row["finding"].removeprefix(f"{over}=")), row["value"])
            for row in rows
            if row["metric"] == metric and row["finding"].startswith(f"{over}=")
        )
        if points:
            at, values = zip(*points, strict=True)
            axes.plot(at, values, **_style(i), marker="o", markersize=3, label=label)
    unit = "share of the body's diameter" if over == "radius" else "0 black, 1 white"
    _finish(axes, f"{over} of the sphere ({unit})", "AP", f"Toy spheres over {over}")
    axes.autoscale(axis="x")
    _save(figure, path)


def draw_sheet(cases: Sequence[Mapping[str, str]], path: Path) -> None:
    """Chosen cases: picture with the outline of the finding above, map below, one scale for all maps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.3 * len(cases), 5.0), dpi=DPI, layout="constrained")
    grid = figure.subplots(2, len(cases), squeeze=False)
    shown = None
    for column, case in enumerate(cases):
        above, below = grid[0][column], grid[1][column]
        above.imshow(decode_plane(case["image"]), cmap="gray", vmin=0, vmax=255)
        lesion = decode_plane(case["lesion"]) if case["lesion"] else np.zeros((1, 1))
        if lesion.any():
            above.contour(lesion, levels=[127], colors=[COLOURS[4]], linewidths=0.9)
        shown = below.imshow(decode_plane(case["map"]), cmap="cividis", vmin=0, vmax=255)
        above.set_title(case["title"].replace(", ", "\n").replace(": ", ":\n"), fontsize=8)
        for axes in (above, below):
            axes.set_axis_off()
    if shown is not None:
        bar = figure.colorbar(shown, ax=list(grid[1]), fraction=0.02, ticks=[0, 255])
        bar.ax.set_yticklabels(["median", "99.5 %"], fontsize=7)
    _save(figure, path)


def _figure() -> tuple[Any, Any]:
    # The object interface draws with Agg and leaves matplotlib's global state alone.
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def _style(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i % len(STYLES)], "linewidth": 1.6}


def _name(row: Mapping[str, Any], scores: Scores) -> str:
    """What tells a row from the others."""
    keys = [key for key in ("finding", "split", "artefact") if len({other[key] for other in scores}) > 1]
    return ", ".join(str(row[key]) or "all" for key in keys) or str(row["finding"] or "all")


def _finish(axes: Any, x: str, y: str, title: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.grid(color="0.9", linewidth=0.6)


def _save(figure: Any, path: Path) -> None:
    if figure.axes[0].get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    # Without a date and version the same numbers give the same file.
    figure.savefig(path, metadata={"Software": None})
