"""Data sets: embedded, synthetic, fetched, or from a file of one's own."""

from pyrolvm.datasets.cache import cache_folder
from pyrolvm.datasets.catalogue import Description, describe, fetch, load, names
from pyrolvm.datasets.dataset import Dataset, Kind
from pyrolvm.datasets.digits import digits
from pyrolvm.datasets.fashion_mnist import fashion_mnist
from pyrolvm.datasets.files import from_file
from pyrolvm.datasets.segmented_sources import SegmentedSources
from pyrolvm.datasets.synthetic import circle, factor_loadings, gaussian_factors, spiral, wave
from pyrolvm.datasets.triangular_toy import TriangularToy

__all__ = [
    "Dataset",
    "Description",
    "Kind",
    "SegmentedSources",
    "TriangularToy",
    "cache_folder",
    "circle",
    "describe",
    "digits",
    "factor_loadings",
    "fashion_mnist",
    "fetch",
    "from_file",
    "gaussian_factors",
    "load",
    "names",
    "spiral",
    "wave",
]
