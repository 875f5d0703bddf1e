"""Losses over label sets: cross entropy, OHEM, Lovasz-softmax, boundaries, perception-aware KL, and their total."""

from fusionseg.losses.terms import (
    LOVASZ_ROWS,
    PIXEL_LOSSES,
    boundary_loss,
    class_weights,
    hardest,
    lovasz_softmax,
    perception_kl,
    pixel_loss,
    set_cross_entropy,
)
from fusionseg.losses.total import COUNTED, Losses, counts, total_loss

__all__ = [
    "COUNTED",
    "LOVASZ_ROWS",
    "PIXEL_LOSSES",
    "Losses",
    "boundary_loss",
    "class_weights",
    "counts",
    "hardest",
    "lovasz_softmax",
    "perception_kl",
    "pixel_loss",
    "set_cross_entropy",
    "total_loss",
]
