"""What a fit of one matrix kind costs: n experts of p x d with m bases of whole rank
and no calibration. As OperationsOf in src/fit/budget.cc, for models that are not
there to ask `mobe compress --dry-run`."""

LOOK_EXPERTS = 16  # kLook in src/fit/metric.h
SETTLED, EVERY = 200, 4  # kSettled and kEvery in src/fit/metric.cc


def solve_operations(n, p, d):
    """Of the best A of each expert, from the bases' mix."""
    return n * (p * p * d + 2 * p * p * d + p**3 / 3 + 2 * p**3)


def plain_pass_operations(n, p, d, m):
    """Of a pass that does not look at experts for the metric."""
    mix = 6 * n * m * p * d
    metric = 2 * m * m * p * d + 2 * m * p * p * d + 2 * m * p * d * d
    return mix + solve_operations(n, p, d) + 4 * n * p * p * d + metric


def look_operations(n, p, d):
    seen = min(n, LOOK_EXPERTS)
    return seen * (p * d * d + 2 * p * p * d + p**3) + d**3 + p**3


def pass_operations(n, p, d, m):
    """Of a pass that looks, as the first 200 do."""
    return plain_pass_operations(n, p, d, m) + look_operations(n, p, d)


def start_and_end_operations(n, p, d, m):
    start = m * (6 * p * (n / m * p) * d + 10 * p * p * d)
    return start + 2 * (solve_operations(n, p, d) + 2 * n * m * p * d)


def looks(passes):
    settled = min(passes, SETTLED)
    return settled + passes // EVERY - settled // EVERY


def fit_operations(n, p, d, m, passes):
    return (
        start_and_end_operations(n, p, d, m)
        + passes * plain_pass_operations(n, p, d, m)
        + looks(passes) * look_operations(n, p, d)
    )
