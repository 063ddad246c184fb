"""What only the book's chapters need: evidence, figures, ensembles, and their data."""

from cmlib.chapter import claims, figures, images, reviews
from cmlib.chapter.ensembles import ensemble
from cmlib.chapter.lorenz96 import Lorenz96
from cmlib.chapter.movable import movable

__all__ = ["claims", "figures", "images", "reviews", "ensemble", "Lorenz96", "movable"]
