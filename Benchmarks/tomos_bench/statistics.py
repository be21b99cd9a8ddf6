"""Statistics that do not mind outliers. Everything is on medians; nothing assumes a normal distribution."""

import math
import random


def median(values):
    s = sorted(values)
    n = len(s)
    return s[n // 2] if n % 2 else (s[n // 2 - 1] + s[n // 2]) / 2


def quantile(values, q):
    """Linear between order statistics."""
    s = sorted(values)
    x = q * (len(s) - 1)
    i = math.floor(x)
    return s[i] + (x - i) * (s[min(i + 1, len(s) - 1)] - s[i])


def median_interval(values, confidence=0.95):
    """Distribution-free interval of the median from order statistics (the binomial law); None below six values."""
    s, n = sorted(values), len(values)
    if n < 6:
        return None
    # The widest k with P(k-1 or fewer of n below the median) <= (1 - confidence) / 2.
    tail, k = 0.0, 0
    while True:
        tail += math.comb(n, k) / 2 ** n
        if tail > (1 - confidence) / 2:
            break
        k += 1
    return s[k - 1], s[n - k]


def ratio_interval(over, under, confidence=0.95, rounds=2000, seed=1):
    """Ratio of medians over/under with a percentile-bootstrap interval (seeded: the same samples give the same interval)."""
    rng = random.Random(seed)
    point = median(over) / median(under)
    if min(len(over), len(under)) < 4:
        return point, None
    draws = sorted(median(rng.choices(over, k=len(over))) / median(rng.choices(under, k=len(under))) for _ in range(rounds))
    cut = (1 - confidence) / 2
    return point, (draws[int(cut * rounds)], draws[int((1 - cut) * rounds) - 1])


def mann_whitney(a, b):
    """Two-sided p of the rank-sum test with ties (normal approximation with continuity correction)."""
    pairs = sorted([(v, 0) for v in a] + [(v, 1) for v in b])
    n, m = len(a), len(b)
    ranks, ties, i = [0.0, 0.0], 0.0, 0
    while i < len(pairs):
        j = i
        while j < len(pairs) and pairs[j][0] == pairs[i][0]:
            j += 1
        for k in range(i, j):
            ranks[pairs[k][1]] += (i + j + 1) / 2
        ties += (j - i) ** 3 - (j - i)
        i = j
    u = ranks[0] - n * (n + 1) / 2
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1))) if total > 1 else 0
    if variance <= 0:
        return 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def welch(a, b):
    """Two-sided p of Welch's test for equal means without equal variances; 1 where both are constant and equal."""
    n, m = len(a), len(b)
    means = sum(a) / n, sum(b) / m
    va, vb = (sum((v - mean) ** 2 for v in x) / (len(x) - 1) / len(x) for x, mean in zip((a, b), means))
    if va + vb == 0:
        return 1.0 if means[0] == means[1] else 0.0
    t = abs(means[0] - means[1]) / math.sqrt(va + vb)
    freedom = (va + vb) ** 2 / (va ** 2 / (n - 1) + vb ** 2 / (m - 1))
    return student_tail(t, freedom)


def student_tail(t, freedom):
    """P(|T| > t) of Student's distribution: by Simpson's rule over x = tan(u), on which the density is smooth and ends."""
    def density(u):
        x = math.tan(u)
        return math.exp(-(freedom + 1) / 2 * math.log1p(x * x / freedom)) * (1 + x * x)
    factor = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    low, high, n = math.atan(t), math.pi / 2 - 1e-9, 2000
    step = (high - low) / n
    total = sum((1 if i in (0, n) else 4 if i % 2 else 2) * density(low + i * step) for i in range(n + 1))
    return min(1.0, 2 * factor * total * step / 3)


def holm(ps):
    """Holm's correction for many comparisons: adjusted p values in the given order."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, ps[i] * (len(ps) - rank)))
        adjusted[i] = worst
    return adjusted
