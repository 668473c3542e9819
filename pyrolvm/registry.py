"""Models and guides by name, and the short specifications in which the command line takes them.

A specification is a name and, after colons, its parts: ``amortized:full:128x128`` is an encoder
with two hidden layers into the family of full-covariance Gaussians,
``cpa-generator:2:32:activation=abs`` a generator with 2 latents and one hidden layer. A value of
numbers with an x between them is a list: ``hierarchical-vae:latent_dims=16x4`` has the layers z_1
of width 16 and z_2 of width 4, ``layerwise:rate_weights=0.3x3`` weighs their rates, bottom first,
and ``sigmoid-belief-network:100x50`` has the binary layers z_1 of width 100 and z_2 of width 50.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyrolvm.core import ConditionalPrior, Guide, Model, UnknownNameError, serves
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.families import FAMILIES
from pyrolvm.guides import (
    Amortized,
    BottomUp,
    ConditionalEncoder,
    ConditionalProduct,
    Exact,
    ExactCode,
    ExactCPA,
    HelmholtzCoupled,
    Iterative,
    Ladder,
    Langevin,
    Layerwise,
    LineGibbs,
    PerDatum,
    SemiAmortized,
    SignGuide,
)
from pyrolvm.models import (
    IVAE,
    VAE,
    AnchoredIVAE,
    BrenierMap,
    ConvGenerator,
    CPAGenerator,
    Folding,
    GenericFlow,
    HierarchicalLinearGaussian,
    HierarchicalVAE,
    InjectiveSlope,
    LeakyGenerator,
    LinearGaussian,
    ManifoldGenerator,
    ResidualGenerator,
    SigmoidBeliefNetwork,
    SignPermutation,
    TriangularMap,
    TriangularVAE,
)
from pyrolvm.nn.environment_prior import EnvironmentPrior

MODELS: dict[str, type[Model]] = {
    "anchored-ivae": AnchoredIVAE,
    "brenier-map": BrenierMap,
    "conv-generator": ConvGenerator,
    "cpa-generator": CPAGenerator,
    "folding": Folding,
    "generic-flow": GenericFlow,
    "hierarchical-linear-gaussian": HierarchicalLinearGaussian,
    "hierarchical-vae": HierarchicalVAE,
    "injective-slope": InjectiveSlope,
    "ivae": IVAE,
    "leaky-generator": LeakyGenerator,
    "linear-gaussian": LinearGaussian,
    "manifold-generator": ManifoldGenerator,
    "residual-generator": ResidualGenerator,
    "sigmoid-belief-network": SigmoidBeliefNetwork,
    "sign-permutation": SignPermutation,
    "triangular-map": TriangularMap,
    "triangular-vae": TriangularVAE,
    "vae": VAE,
}

GUIDES: dict[str, type[Guide]] = {
    "amortized": Amortized,
    "per-datum": PerDatum,
    "semi-amortized": SemiAmortized,
    "iterative": Iterative,
    "sign-guide": SignGuide,
    "langevin": Langevin,
    "layerwise": Layerwise,
    "ladder": Ladder,
    "bottom-up": BottomUp,
    "helmholtz-coupled": HelmholtzCoupled,
    "conditional-product": ConditionalProduct,
    "conditional-encoder": ConditionalEncoder,
    "exact": Exact,
    "exact-code": ExactCode,
    "exact-cpa": ExactCPA,
    "line-gibbs": LineGibbs,
}

DEFAULT_GUIDES = ("diagonal", "full", "mixture", "flow", "per-datum")
DEFAULT_LAYERED_GUIDES = ("layerwise", "ladder", "bottom-up")
DEFAULT_CONDITIONAL_GUIDES = ("conditional-product", "conditional-encoder")
DEFAULT_BINARY_GUIDES = ("helmholtz-coupled", "layerwise", "bottom-up", "amortized:bernoulli")
DEFAULT_ENCODER = (128, 128)


class SpecificationError(UnknownNameError):
    """A specification has a part that its model or guide does not take."""

    def __init__(self, text: str, part: str, wanted: str) -> None:
        ValueError.__init__(self, f"{text!r} has the part {part!r}, but {wanted}.")


@dataclass(frozen=True)
class Parts:
    """The parts of a specification.

    Args:
        name: What stands before the first colon.
        words: Parts that are words.
        numbers: Parts that are whole numbers.
        widths: Widths of hidden layers (``128x128``; ``affine`` for none), None where not given.
        options: Parts of the form ``key=value``; ``key=16x4`` is a list of numbers.
    """

    name: str
    words: tuple[str, ...]
    numbers: tuple[int, ...]
    widths: tuple[int, ...] | None
    options: Mapping[str, Any]


def parse(text: str, *, numbers: int = 0) -> Parts:
    """Take a specification apart.

    Args:
        text: For example ``"amortized:full:128x128"``.
        numbers: How many leading whole numbers are numbers; later ones are widths of one layer.

    Raises:
        SpecificationError: If a part is empty.

    >>> parse("cpa-generator:2:32x32:activation=abs", numbers=1).widths
    (32, 32)
    """
    name, *rest = text.split(":")
    words: list[str] = []
    found: list[int] = []
    options: dict[str, Any] = {}
    widths: tuple[int, ...] | None = None
    for part in rest:
        if re.fullmatch(r"\d+", part) and len(found) < numbers:
            found.append(int(part))
        elif re.fullmatch(r"\d+(x\d+)*", part):
            widths = tuple(int(width) for width in part.split("x"))
        elif part == "affine":
            widths = ()
        elif re.fullmatch(r"\w+=[^=]+", part):
            key, value = part.split("=")
            options[key] = _value(value)
        elif re.fullmatch(r"[A-Za-z][\w-]*", part):
            words.append(part)
        else:
            raise SpecificationError(
                text, part, "parts are words, numbers, widths like 128x128, or key=value"
            )
    return Parts(name, tuple(words), tuple(found), widths, options)


def make_model(text: str, obs_dim: int) -> Model:
    """Build a model from ``name[:latent_dim][:widths][:key=value…]``.

    Args:
        text: The specification.
        obs_dim: Dimension of the data.

    Raises:
        UnknownNameError: If the name or an option is not known.

    >>> make_model("vae:3:64x64:likelihood=bernoulli", obs_dim=5).latent_dim
    3
    """
    name, arguments = model_arguments(text)
    return build_model(name, arguments, obs_dim, text)


def model_arguments(text: str) -> tuple[str, dict[str, Any]]:
    """Read the specification of a model: its name, and the arguments of its constructor.

    Noise learns where it can, but in a hierarchy, weights of whose rates are relative to it, and
    where it identifies the code.

    Raises:
        UnknownNameError: If the name is not known, or a part is not one that models take.

    >>> model_arguments("cpa-generator:1:16x8:activation=abs")[1]["hidden"]
    (16, 8)
    """
    parts = parse(text, numbers=1)
    kind = _known("model", parts.name, MODELS)
    takes = inspect.signature(kind).parameters
    if parts.words:
        raise SpecificationError(
            text, parts.words[0], "a model takes numbers, widths and key=value"
        )
    arguments: dict[str, Any] = dict(parts.options)
    if "layers" in takes and not {"dim", "latent_dim"} & set(takes):
        arguments = {**_layers(text, parts), **arguments}
    else:
        if parts.numbers and "latent_dims" in takes:
            arguments["latent_dims"] = parts.numbers
        elif parts.numbers:
            arguments["dim" if "dim" in takes else "latent_dim"] = parts.numbers[0]
        if parts.widths is not None:
            arguments["hidden"] = parts.widths
    if "learn_noise" in takes and not {"latent_dims", "anchors"} & set(takes):
        arguments = {"learn_noise": True, **arguments}
    return parts.name, arguments


def _layers(text: str, parts: Parts) -> dict[str, tuple[int, ...]]:
    """Latent layers of a model without hidden ones: one number, or numbers with an x between."""
    given = [widths for widths in (parts.numbers or None, parts.widths) if widths is not None]
    if len(given) > 1 or () in given:
        part = "x".join(map(str, given[-1])) or "affine"
        raise SpecificationError(
            text, part, "its latent layers are one list of widths, bottom first, as in 100x50x25"
        )
    return {"layers": given[0]} if given else {}


def build_model(
    name: str, arguments: Mapping[str, Any], obs_dim: int | None = None, text: str | None = None
) -> Model:
    """Build a model from its name and its arguments.

    Args:
        name: A key of :data:`MODELS`.
        arguments: Of its constructor; ``latent_dim`` is 2, or the width of the data for a model
            whose observations are as wide as its latents, where it is not given. A model with
            environments has one more of them than latents, a prior of unit Gaussians around the
            corners of a simplex where it needs one.
        obs_dim: Dimension of the data, where there are any before there is a model.
        text: What the user wrote, for messages.

    Raises:
        UnknownNameError: If the name or an argument is not known.
        SettingError: If the model makes data of another width.
    """
    kind = _known("model", name, MODELS)
    takes = inspect.signature(kind).parameters
    filled = dict(arguments)
    if "obs_dim" in takes and obs_dim is not None:
        filled.setdefault("obs_dim", obs_dim)
    if "latent_dim" in takes and takes["latent_dim"].default is inspect.Parameter.empty:
        square = "obs_dim" not in takes and obs_dim is not None
        filled.setdefault("latent_dim", obs_dim if square else 2)
    if "dim" in takes:
        filled.setdefault("dim", 2 if obs_dim is None else obs_dim)
    if "num_environments" in takes:
        filled.setdefault("num_environments", filled["latent_dim"] + 1)
    if "prior" in takes and takes["prior"].default is inspect.Parameter.empty:
        filled.setdefault("prior", EnvironmentPrior.simplex(filled.pop("latent_dim", 2)))
    _check_options(text or name, kind, filled)
    model = kind(**filled)
    if obs_dim not in (None, model.obs_dim):
        raise SettingError(
            f"{text or name} makes observations of width {model.obs_dim}, but the data have width "
            f"{obs_dim}. Choose data that this model can have made, or another model."
        )
    return model


def make_guide(text: str, model: Model) -> Guide:
    """Build a guide from ``name[:family][:widths][:key=value…]``.

    A family alone stands for an amortized guide.

    Args:
        text: The specification.
        model: The model that it is for.

    Raises:
        UnknownNameError: If the name, the family or an option is not known.
        IncompatiblePairError: If the guide cannot serve the model.
    """
    name, arguments = guide_arguments(text)
    return build_guide(name, arguments, model, text)


def guide_arguments(text: str) -> tuple[str, dict[str, Any]]:
    """Read the specification of a guide: its name, and the arguments of its constructor.

    Raises:
        UnknownNameError: If the name is not known, or a part is not one that this guide takes.

    >>> guide_arguments("full:64x64")
    ('amortized', {'family': 'full', 'hidden': (64, 64)})
    """
    parts = parse(text)
    if parts.name in FAMILIES:
        parts = Parts("amortized", (parts.name, *parts.words), (), parts.widths, parts.options)
    kind = _known("guide", parts.name, {**GUIDES, **FAMILIES})
    takes = inspect.signature(kind).parameters
    arguments: dict[str, Any] = {}
    if parts.words:
        if "family" not in takes or len(parts.words) > 1:
            raise SpecificationError(text, parts.words[-1], f"{parts.name} takes no such word")
        arguments["family"] = parts.words[0]
    if "hidden" not in takes and parts.widths is not None:
        raise SpecificationError(
            text, "x".join(map(str, parts.widths)), f"{parts.name} has no encoder"
        )
    if parts.widths is not None:
        arguments["hidden"] = parts.widths
    return parts.name, {**arguments, **parts.options}


def build_guide(
    name: str, arguments: Mapping[str, Any], model: Model, text: str | None = None
) -> Guide:
    """Build a guide from its name and its arguments.

    Args:
        name: A key of :data:`GUIDES`.
        arguments: Of its constructor, without the model; an encoder's hidden layers are
            :data:`DEFAULT_ENCODER` where they are not given.
        model: The model that it is for.
        text: What the user wrote, for messages.

    Raises:
        UnknownNameError: If the name, the family or an argument is not known.
        IncompatiblePairError: If the guide cannot serve the model.
    """
    kind = _known("guide", name, GUIDES)
    filled = with_default_encoder(kind, arguments)
    _check_options(text or name, kind, filled)
    return kind(model, **filled)


def with_default_encoder(kind: type[Guide], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a guide; encoders, of a family or of layers, are as large as the default."""
    takes = inspect.signature(kind).parameters
    encodes = "hidden" in takes and ("family" in takes or kind.top_down is not None)
    default = {"hidden": DEFAULT_ENCODER} if encodes else {}
    return {**default, **arguments}


def example_model(name: str) -> Model:
    """Build a small model of this name, to see what it offers."""
    takes = inspect.signature(_known("model", name, MODELS)).parameters
    return build_model(name, {"obs_dim": 3} if "obs_dim" in takes else {})


def default_guides(model: Model) -> tuple[str, ...]:
    """Specifications of the guides that a comparison takes when it is given none."""
    served = guides_for(model)
    if offers(model, ConditionalPrior):
        return DEFAULT_CONDITIONAL_GUIDES
    if "exact-code" in served:
        return ("exact-code",)
    if "helmholtz-coupled" in served:
        return DEFAULT_BINARY_GUIDES
    if "amortized" not in served:
        return tuple(name for name in DEFAULT_LAYERED_GUIDES if name in served)
    last = tuple(name for name in ("exact", "exact-cpa") if name in served)[:1]
    return (*DEFAULT_GUIDES, *last)


def default_trainer(model: Model) -> str:
    """Specification of the guide that a model is trained with where none is named."""
    served = guides_for(model)
    if offers(model, ConditionalPrior):
        return DEFAULT_CONDITIONAL_GUIDES[0]
    if "exact-code" in served:
        return "exact-code"
    if "helmholtz-coupled" in served:
        return DEFAULT_BINARY_GUIDES[0]
    return "amortized:full" if "amortized" in served else DEFAULT_LAYERED_GUIDES[0]


def guides_for(model: Model) -> list[str]:
    """Names of the guides that serve a model."""
    return [name for name, kind in GUIDES.items() if serves(kind, model)]


def _known(what: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise UnknownNameError(what, name, known)
    return known[name]


def _check_options(text: str, kind: type, arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(kind).parameters
    takes = [name for name in parameters if name != "model"]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in arguments:
        if key not in takes and not open_ended:
            raise UnknownNameError(f"option of {text!r}", key, takes)


def _value(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            pass
    pieces = [_value(piece) for piece in text.split("x")] if "x" in text else []
    if pieces and all(isinstance(piece, (int, float)) for piece in pieces):
        return tuple(pieces)
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
