"""Datasets: immutable, hashed, versioned selections of exchanges with a train and a sealed holdout split."""

from capture.datasets.card import Card
from capture.datasets.catalog import list_datasets, load_card, resolve, rows
from capture.datasets.compare import Diff, diff
from capture.datasets.export import export
from capture.datasets.filters import Filters
from capture.datasets.freeze import build, queue_build
from capture.datasets.intake import import_rows
from capture.datasets.preview import Preview, preview
from capture.datasets.row import Row

__all__ = [
    "Card",
    "Diff",
    "Filters",
    "Preview",
    "Row",
    "build",
    "diff",
    "export",
    "import_rows",
    "list_datasets",
    "load_card",
    "preview",
    "queue_build",
    "resolve",
    "rows",
]
