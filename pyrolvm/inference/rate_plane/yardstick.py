r"""What the models of a rate plane are scored with: probes, a classifier, a peak.

A probe is a support-vector machine that reads codes z_2. It is trained on codes of the training
rows and tested on codes of the rows held out, so that Fano's inequality holds for the latter with
their own rate. The classifier of samples is trained on real training rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.datasets import Dataset
from pyrolvm.diagnostics.rates import label_entropy

PROBE_ROWS = 3000
"""Training rows whose codes train a probe, at most."""
CLASSIFIER_UNITS = 100
CLASSIFIER_EPOCHS = 200


@dataclass(frozen=True)
class Yardstick:
    """What is the same for all models of a plane.

    Args:
        probe_x: Rows whose codes train probes, shape ``(P, D)``.
        probe_labels: Their classes, shape ``(P,)``.
        x: Rows held out, shape ``(N, D)``.
        labels: Their classes, shape ``(N,)``.
        peak: Largest value in the training rows, for the PSNR.
        num_classes: Number of classes K.
        label_entropy: Entropy of the classes of the rows held out, nats.
        class_probs: Maps samples ``(S, D)`` to p(y | x), shape ``(S, K)``.
        classifier_accuracy: Of that classifier on the real rows held out.
    """

    probe_x: Tensor
    probe_labels: Tensor
    x: Tensor
    labels: Tensor
    peak: float
    num_classes: int
    label_entropy: float
    class_probs: Callable[[Tensor], Tensor]
    classifier_accuracy: float


def make_yardstick(dataset: Dataset) -> Yardstick:
    """Train the classifier of samples, and look up what scores need to know of the data.

    Raises:
        DataError: If the data lacks held-out rows, labels, or a second class.
    """
    x, train_labels, labels = labelled(dataset)
    classifier = _classifier(dataset.train, train_labels)
    classes = torch.unique(train_labels)
    counts = (labels[:, None] == classes).sum(0)
    probs = counts.double() / counts.sum()

    def class_probs(samples: Tensor) -> Tensor:
        return torch.from_numpy(classifier.predict_proba(_array(samples))).double()

    return Yardstick(
        dataset.train[:PROBE_ROWS],
        train_labels[:PROBE_ROWS],
        x,
        labels,
        float(dataset.train.max()),
        len(classes),
        label_entropy(probs),
        class_probs,
        float(classifier.score(_array(x), labels.numpy())),
    )


def labelled(dataset: Dataset) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows held out, classes of the training rows, and classes of the rows held out.

    Raises:
        DataError: If one of them is missing, there is one class only, or a class of the rows held
            out is not among those to train.
    """
    test, train_labels, labels = dataset.test, dataset.train_labels, dataset.test_labels
    if test is None or train_labels is None or labels is None:
        raise DataError(
            "A rate plane needs held-out rows, and classes for all rows, but "
            f"{dataset.name!r} lacks {'rows held out' if test is None else 'classes'}. Use the "
            "digits, or a Dataset with test, train_labels and test_labels."
        )
    known = torch.unique(train_labels)
    if len(known) < 2 or not torch.isin(labels, known).all():
        raise DataError(
            f"The classes of {dataset.name!r} to train on are {known.tolist()}: a rate plane "
            "needs at least 2, with every class of the rows held out among them."
        )
    return test, train_labels, labels


def probe_accuracy(yardstick: Yardstick, codes: Tensor, held_out: Tensor) -> float:
    """Train a probe on codes ``(P, width)``, and return its accuracy on codes ``(N, width)``."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    probe = make_pipeline(StandardScaler(), SVC())
    probe.fit(_array(codes), yardstick.probe_labels.numpy())
    return float(probe.score(_array(held_out), yardstick.labels.numpy()))


def _classifier(x: Tensor, labels: Tensor) -> Any:
    """A small neural network with one hidden layer."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(
        (CLASSIFIER_UNITS,), alpha=1e-3, max_iter=CLASSIFIER_EPOCHS, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(_array(x), labels.numpy())


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().double().numpy()
