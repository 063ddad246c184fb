"""What only the book's chapters need: evidence, figures, ensembles, and their data."""

from cmlib.chapter import claims, figures, images, reviews
from cmlib.chapter.ensembles import ensemble, gathered
from cmlib.chapter.lorenz96 import Lorenz96
from cmlib.chapter.movable import movable
from cmlib.chapter.public_network import PublicNetwork

__all__ = ["claims", "figures", "images", "reviews", "ensemble", "gathered", "Lorenz96", "movable", "PublicNetwork"]
