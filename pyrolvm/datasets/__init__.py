"""Data sets: embedded, synthetic, fetched, or from a file of one's own."""

from pyrolvm.datasets.bars import bars, bars_entropy
from pyrolvm.datasets.binary_sets import binary_set
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
    "bars",
    "bars_entropy",
    "binary_set",
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
