"""The binary sets on which density estimators are compared: sizes, checksums, sources.

The splits are those of Larochelle & Murray (2011), The Neural Autoregressive Distribution
Estimator, and of Van Haaren & Davis (2012), Markov Network Structure Learning: A Randomized
Feature Generation Approach, but for ``web``, whose split is our own. A checksum is that of
:func:`~pyrolvm.datasets.splits.row_checksum`: the rows count, not their order and not the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pyrolvm.datasets.binary_sources import (
    Source,
    density_estimation_datasets,
    larochelle,
    made,
)

LAROCHELLE_MURRAY = (
    "Larochelle & Murray (2011), The Neural Autoregressive Distribution Estimator, AISTATS"
)
VAN_HAAREN_DAVIS = (
    "Van Haaren & Davis (2012), Markov Network Structure Learning: A Randomized Feature "
    "Generation Approach, AAAI"
)


@dataclass(frozen=True)
class BinarySet:
    """One published set of rows of 0 and 1.

    Args:
        name: How the catalogue calls it.
        sizes: Rows to train on, to validate and to test on.
        dim: Entries of a row.
        checksums: Of the rows of each part.
        source: Where its files can be fetched; None if they cannot.
        cite: Whom to cite.
        licence: Under which terms.
        image_shape: Shape of a row as an image.
        other_file: A second name of a packed file that is looked for in the cache.
        note: What a user has to know.
    """

    name: str
    sizes: tuple[int, int, int]
    dim: int
    checksums: tuple[str, str, str]
    source: Source | None
    cite: str = LAROCHELLE_MURRAY
    licence: str = "none stated by the source"
    image_shape: tuple[int, ...] | None = None
    other_file: str | None = None
    note: str = ""


_SETS = (
    BinarySet(
        name="adult",
        sizes=(5000, 1414, 26147),
        dim=123,
        checksums=(
            "fe58ab5fb05a407b87ce0dbbd3efcd90e37420c0d21e2e24acb14d279ab535a2",
            "0f8dd918e0a47e492ef1c2dc0ecf90e8556506fa70bf1edf27d6d249c884f2d4",
            "d9656482f7098c045c33f3e3fc089bc3ae79c0de597408d45ab4beb5eb211370",
        ),
        source=density_estimation_datasets("adult"),
    ),
    BinarySet(
        name="binarized_mnist",
        sizes=(50000, 10000, 10000),
        dim=784,
        checksums=(
            "2b012931cd913fd0706a0bdee7855d3b4201708183b5757769e6ebbee8001180",
            "9241c8a3bddf72f97dbd3e82dfd0cc0501d3bc43c986e9dfe6f3862b5046fbd4",
            "6c126d0d05ec3a5622934ea5d942ae0da93d61cc9b28ce8ffe7269341c75f831",
        ),
        source=larochelle("binarized_mnist"),
        licence="CC BY-SA 3.0 (MNIST)",
        image_shape=(28, 28),
        other_file="binarized_mnist_larochelle.npz",
        note="static binarisation",
    ),
    BinarySet(
        name="connect4",
        sizes=(16000, 4000, 47557),
        dim=126,
        checksums=(
            "70d3465e7b81bb4526dc65890392256b469e544d71e59c0c6703a6ac5654c7d3",
            "5aa936f5de0c7a91f70f39efea64f5a48fa01f1ce54bf9983f1c5695cde435be",
            "025d73c0250075d5afd81b5a99b74cf2239e2807b0d14d84af617fbd061a13ac",
        ),
        source=density_estimation_datasets("connect4"),
    ),
    BinarySet(
        name="dna",
        sizes=(1400, 600, 1186),
        dim=180,
        checksums=(
            "e9a4ce69be271a4e270b47b689d99256b22fd15061f6b61d86c20c4c6ac3b853",
            "a9d9a66bf133ce8a6f1e1e60482296e05115ed59bb2baea4020c3925a98d4a89",
            "66253f0b3dd288a10daf720324c96698bd20f5ce5d4ed987c7a2a4e1e425ccb8",
        ),
        source=made("dna"),
    ),
    BinarySet(
        name="mushrooms",
        sizes=(2000, 500, 5624),
        dim=112,
        checksums=(
            "9658b8ff43e9cf74a9c39f4ce3265c04c9f56c5e3b6ef5b77041df056a7b6e8a",
            "01edc3ed09613a9cc16753a0f96094a822335ec4cc6919f83c41b19174624fe9",
            "b41c577159cb9cc997aec7c09af38f3afa2cda5055d54c1ca43bd31b646e6156",
        ),
        source=made("mushrooms"),
    ),
    BinarySet(
        name="nips",
        sizes=(400, 100, 1240),
        dim=500,
        checksums=(
            "8f03141c9f25ff62433d530a881b9eea175ced5336e1493c1d0d957d1b8f651b",
            "01e89e9e205412daf93fb4873d756837bd36a73f21168282cf21386fd7bb1514",
            "297d074ccf507978efd72a9bf387c34c81dcbb8f6061942fc04081d7ea16bca2",
        ),
        source=made("nips"),
    ),
    BinarySet(
        name="nltcs",
        sizes=(16181, 2157, 3236),
        dim=16,
        checksums=(
            "e22b2f56bba72649ea598713e1f57115ef47067cdaa7eb1ab50de02cdc88ca1e",
            "01a7bf4097940053428e5ec426cc5497533ea3e4d7d88e77ac3241760022c4bf",
            "2cc0d5c49516da3b6e47bf829a003b1aca4c985cb15f3e702ad00486b8910201",
        ),
        source=density_estimation_datasets("nltcs"),
        cite=VAN_HAAREN_DAVIS,
    ),
    BinarySet(
        name="ocr_letters",
        sizes=(32152, 10000, 10000),
        dim=128,
        checksums=(
            "89c158a5c2750cec5423eb609fe60c820758c97d2190c5561d9c5241840fa24d",
            "72619404c4dea89f04e79d75777c916f66280177360d5766925802bd939fa438",
            "4831f76d339ab502adee7fac296b5d8fd9d62137308aad6eb2f14abfb2284a11",
        ),
        source=density_estimation_datasets("ocr_letters"),
        image_shape=(16, 8),
    ),
    BinarySet(
        name="web",
        sizes=(14000, 3188, 32561),
        dim=300,
        checksums=(
            "73455c0e246fec23878689a8094ede65a9a3e99bbebb2aa31842091cd21e3027",
            "e4872602fe9637ff8e07354171656f70a550dce868e64339b14c61fda84337f8",
            "6ee67d903497eddf209801e535a0f5793cd469cd9d417b0b2e61dd80761e7024",
        ),
        source=None,
        other_file="web_own_split.npz",
        note="its split is PyroLVM's own: not strictly comparable with published numbers",
    ),
)
BINARY_SETS: Mapping[str, BinarySet] = MappingProxyType({each.name: each for each in _SETS})
