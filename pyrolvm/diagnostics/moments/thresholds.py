"""From which error on a moment asks for care, and from which it is bad.

All are chosen to cost about as much: an error where care begins takes about 0.03 nats of
divergence for one Gaussian coordinate, and a central 90 % interval of the guide then covers 83 to
89 % of the posterior; where it is bad, some 0.3 to 0.8 nats and as little as 59 %. What an
application can bear may be less or more: the numbers are in the dataset.
"""

from __future__ import annotations

import math
from enum import Enum

from pyrolvm.diagnostics.finding import Level

CARE_SHIFT, BAD_SHIFT = 0.25, 1.0
"""Error of the mean, or of a quantile once mean and width match, in posterior sd."""

CARE_LOG_SD, BAD_LOG_SD = math.log(1.2), math.log(2.0)
"""Log of the ratio of standard deviations: a factor of 1.2 and of 2, either way."""

CARE_CORRELATION, BAD_CORRELATION = 0.25, 0.7
"""Error of a correlation; leaving out one of 0.7 narrows a marginal to 0.71 of its width."""

CARE_MISSED, BAD_MISSED = 0.05, 0.2
"""Share of the posterior in modes that the guide does not visit often enough."""


class Threshold(Enum):
    """Where care and where bad begins, for one kind of error."""

    SHIFT = (CARE_SHIFT, BAD_SHIFT)
    LOG_SD = (CARE_LOG_SD, BAD_LOG_SD)
    CORRELATION = (CARE_CORRELATION, BAD_CORRELATION)
    MISSED = (CARE_MISSED, BAD_MISSED)

    @property
    def care(self) -> float:
        """Sizes up to this are good."""
        return self.value[0]

    @property
    def bad(self) -> float:
        """Sizes above this are bad."""
        return self.value[1]

    @property
    def resolution(self) -> float:
        """What draws have to be able to show, lest nothing be said: half way from care to bad."""
        return math.sqrt(self.care * self.bad)

    def level(self, size: float) -> Level:
        """Level of an error that is known to be no chance.

        Args:
            size: Its absolute value.

        Examples:
            >>> [Threshold.SHIFT.level(size) for size in (0.1, 0.3, 2.0)]
            ['good', 'care', 'bad']
        """
        return "bad" if size > self.bad else "care" if size > self.care else "good"
