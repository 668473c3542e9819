r"""Compiled walk along a line: where units change sign, and how the output changes there.

On the ray u + t d every pre-activation is piecewise affine in t. The walk keeps, at its present
place, the value and the rate of change of each unit; values are continuous, so that at a kink only
rates change, and only those of the layers above it:

.. math:: \Delta r_{l+1} = W_{l+1, \cdot k} \, \delta_k, \qquad
          \Delta r_{m+1} = W_{m+1} (q_m \odot \Delta r_m), \; m > l.

Signs are flipped at kinks, never read off rounded values, so that none is missed or met twice.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from math import inf

from numba import njit


@njit(cache=True, nogil=True)
def forward(point, net, values, hidden, output):
    """Pre-activations of all hidden units and the output at a point."""
    depth = net.slopes.shape[0]
    for layer in range(depth):
        inputs, outputs = net.widths[layer], net.widths[layer + 1]
        unit, weight = net.first_unit[layer], net.first_weight[layer]
        target = output if layer + 1 == depth else values[unit : unit + outputs]
        for k in range(outputs):
            target[k] = net.biases[unit + k]
        for j in range(inputs):
            f = point[j] if layer == 0 else hidden[net.first_unit[layer - 1] + j]
            if f != 0.0:
                line = net.weights[weight + j * outputs : weight + (j + 1) * outputs]
                for k in range(outputs):
                    target[k] += f * line[k]
        if layer + 1 < depth:
            slope = net.slopes[layer]
            for k in range(outputs):
                v = target[k]
                hidden[unit + k] = v if v > 0.0 else slope * v


@njit(cache=True, nogil=True)
def aim(direction, sign, net, values, positive, rates, hidden, output_rate):
    """Rates of change in a direction, and the sign that each unit has just after the start."""
    depth = net.slopes.shape[0]
    for layer in range(depth):
        inputs, outputs = net.widths[layer], net.widths[layer + 1]
        unit, weight = net.first_unit[layer], net.first_weight[layer]
        target = output_rate if layer + 1 == depth else rates[unit : unit + outputs]
        for k in range(outputs):
            target[k] = 0.0
        for j in range(inputs):
            f = sign * direction[j] if layer == 0 else hidden[net.first_unit[layer - 1] + j]
            if f != 0.0:
                line = net.weights[weight + j * outputs : weight + (j + 1) * outputs]
                for k in range(outputs):
                    target[k] += f * line[k]
        if layer + 1 < depth:
            slope = net.slopes[layer]
            for k in range(outputs):
                v, r = values[unit + k], target[k]
                is_positive = v > 0.0 or (v == 0.0 and r > 0.0)
                positive[unit + k] = is_positive
                hidden[unit + k] = r if is_positive else slope * r


@njit(cache=True, nogil=True)
def next_kink(net, values, positive, rates):
    """Distance to the next kink and the unit that has it; infinity and -1 if there is none."""
    above, below, unit = inf, 1.0, -1
    begin = 0
    for layer in range(net.slopes.shape[0] - 1):
        end = begin + net.widths[layer + 1]
        if net.slopes[layer] != 1.0:
            for i in range(begin, end):
                v, r = values[i], rates[i]
                if positive[i]:
                    v, r = -v, -r
                # now v <= 0 up to rounding, and the unit heads for 0 if r > 0
                if r > 0.0:
                    v = max(-v, 0.0)
                    if v * below < above * r:
                        above, below, unit = v, r, i
        begin = end
    if unit < 0:
        return inf, unit
    return above / below, unit


@njit(cache=True, nogil=True)
def walk(distance, values, rates, misfit, output_rate):
    """Move on by a distance on which everything is affine."""
    for i in range(values.shape[0]):
        values[i] += distance * rates[i]
    for d in range(misfit.shape[0]):
        misfit[d] -= distance * output_rate[d]


@njit(cache=True, nogil=True)
def cross(unit, heat, net, values, positive, rates, output_rate, room):
    """Flip the sign of a unit and pass the change of its rate on to the layers above."""
    change, carried = room[0], room[1]
    layer = net.layer_of[unit]
    slope = net.slopes[layer]
    jump = (slope - 1.0) * rates[unit]
    if not positive[unit]:
        jump = -jump
    positive[unit] = not positive[unit]
    values[unit] = 0.0
    depth = net.slopes.shape[0]
    outputs = net.widths[layer + 2]
    weight = net.first_weight[layer + 1] + (unit - net.first_unit[layer]) * outputs
    for k in range(outputs):
        change[k] = net.weights[weight + k] * jump
    for above in range(layer + 1, depth - 1):
        first, inputs, outputs = net.first_unit[above], outputs, net.widths[above + 2]
        slope, weight = net.slopes[above], net.first_weight[above + 1]
        for k in range(outputs):
            carried[k] = 0.0
        for j in range(inputs):
            rates[first + j] += change[j]
            f = change[j] if positive[first + j] else slope * change[j]
            if f != 0.0:
                line = net.weights[weight + j * outputs : weight + (j + 1) * outputs]
                for k in range(outputs):
                    carried[k] += f * line[k]
        for k in range(outputs):
            change[k] = carried[k]
    for k in range(outputs):
        output_rate[k] += heat * change[k]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def products(misfit, rate):
    """Inner products misfit.misfit, misfit.rate and rate.rate."""
    mm, mr, rr = 0.0, 0.0, 0.0
    for d in range(misfit.shape[0]):
        mm += misfit[d] * misfit[d]
        mr += misfit[d] * rate[d]
        rr += rate[d] * rate[d]
    return mm, mr, rr


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def misfit_at(misfit, rate, distance):
    """Square of the misfit further on by a distance."""
    total = 0.0
    for d in range(misfit.shape[0]):
        rest = misfit[d] - distance * rate[d]
        total += rest * rest
    return total


@njit(cache=True, nogil=True)
def copy_to(source, target):
    """Copy a vector."""
    for i in range(source.shape[0]):
        target[i] = source[i]
