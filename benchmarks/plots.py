"""Draws figures as pictures that are small enough to keep beside the document."""

from pathlib import Path

import matplotlib as mpl

from benchmarks.report import Plot

mpl.use("Agg")

from matplotlib import pyplot as plt

WIDTH_INCHES = 6.0
HEIGHT_INCHES = 3.4
DOTS_PER_INCH = 90


def draw(plot: Plot, directory: Path) -> None:
    """Write the picture as PNG."""
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS_PER_INCH)
    for label, values in plot.lines:
        axes.plot(plot.x, values, marker="o", label=label)
    axes.set_title(plot.title, fontsize=10)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.set_ylim(bottom=0)
    axes.set_xticks(list(plot.x))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(directory / plot.file)
    plt.close(figure)
