"""What the page of results counts with: means with intervals, differences by pairs, and when a
curve reaches a loss. Pure."""
import math

# Two-sided 95 % of Student's t distribution, by degrees of freedom from 1.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
       2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
       2.052, 2.048, 2.045, 2.042)


def mean(values):
    return math.fsum(values) / len(values)


def deviation(values):
    """Standard deviation of a sample: 0 of one value."""
    if len(values) < 2:
        return 0.0
    m = mean(values)
    return math.sqrt(math.fsum((v - m) ** 2 for v in values) / (len(values) - 1))


def spread_deviation(values):
    """Standard deviation of values that are all there is, as the losses of all domains."""
    m = mean(values)
    return math.sqrt(math.fsum((v - m) ** 2 for v in values) / len(values))


def interval(values):
    """(mean, half the width of its 95 % interval); the width is infinite for a single value."""
    n = len(values)
    if n < 2:
        return mean(values), math.inf
    if n - 1 > len(T95):
        raise ValueError(f"{n} values: the table of the t distribution ends before")
    return mean(values), T95[n - 2] * deviation(values) / math.sqrt(n)


def paired(values, others):
    """interval() of the differences, pair by pair."""
    if len(values) != len(others):
        raise ValueError(f"{len(values)} values and {len(others)} others are no pairs")
    return interval([v - o for v, o in zip(values, others)])


def verdict(difference):
    """Of a (mean, half width) where less is better: "lower", "higher" or "even"."""
    m, half = difference
    if m + half < 0:
        return "lower"
    return "higher" if m - half > 0 else "even"


def steps_to_reach(steps, losses, target):
    """The step at which the losses are first at or under the target, between two measurements on
    the line through them; None if they never are."""
    before = None
    for step, loss in zip(steps, losses):
        if loss <= target:
            if before is None:
                return float(step)
            return before[0] + (step - before[0]) * (before[1] - target) / (before[1] - loss)
        before = (step, loss)
    return None
