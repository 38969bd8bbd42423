"""The sentences of ValueErrors: an argument, its rule, what came.

    checks.at_least(1, units=units, num_layers=num_layers)
    # ValueError: `units` and `num_layers` must be at least 1, got units=0, num_layers=2.

Every function takes the values as keyword arguments, by the names under which the user gave them.
Where several must keep one rule together, the sentence names them all.
"""

import math
import numbers


def require(is_met, rule, **values):
    """Raises a ValueError with the sentence of a rule that is not met.

    Args:
        is_met: bool.
        rule: str, what must be, as "must divide beam_size".
        **values: the arguments it is about.

    Raises:
        ValueError: "`a` and `b` <rule>, got a=1, b=2."
    """
    if not is_met:
        *names, last = (f"`{name}`" for name in values)
        subject = f"{', '.join(names)} and {last}" if names else last
        got = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ValueError(f"{subject} {rule}, got {got}.")


def at_least(least, **values):
    """Raises ValueError unless each value is `least` or more."""
    require(all(v >= least for v in values.values()), f"must be at least {least}", **values)


def integer(least, **values):
    """Raises ValueError unless each value is an integer of at least `least`."""
    is_met = all(
        isinstance(v, numbers.Integral) and not isinstance(v, bool) and v >= least
        for v in values.values()
    )
    require(is_met, f"must be an integer of at least {least}", **values)


def not_negative(**values):
    """Raises ValueError if a value is below 0."""
    require(all(v >= 0 for v in values.values()), "must not be negative", **values)


def finite_not_negative(**values):
    """Raises ValueError unless 0 <= value < inf."""
    is_met = all(0 <= v < math.inf for v in values.values())
    require(is_met, "must be finite and not negative", **values)


def finite_positive(**values):
    """Raises ValueError unless 0 < value < inf."""
    is_met = all(0 < v < math.inf for v in values.values())
    require(is_met, "must be finite and positive", **values)


def share(**values):
    """Raises ValueError unless 0 <= value < 1: dropout, label smoothing."""
    require(all(0 <= v < 1 for v in values.values()), "must lie in [0, 1)", **values)


def fraction(**values):
    """Raises ValueError unless 0 <= value <= 1: the weight of one of two."""
    require(all(0 <= v <= 1 for v in values.values()), "must lie in [0, 1]", **values)


def one_of(options, **values):
    """Raises ValueError unless each value is one of the options."""
    *names, last = (f'"{o}"' if isinstance(o, str) else str(o) for o in options)
    rule = f"must be {', '.join(names)} or {last}" if names else f"must be {last}"
    require(all(v in options for v in values.values()), rule, **values)


def sequence(**arguments):
    """Each is an array or a tensor, dense or ragged, with the axes (batch, steps) at least."""
    for name, x in arguments.items():
        if not hasattr(x, "shape"):
            raise ValueError(
                f"`{name}` must be an array or a tensor, got a {type(x).__name__}; rows of unequal "
                "length become one by tf.ragged.constant(rows)."
            )
        if len(x.shape) < 2:
            raise ValueError(
                f"`{name}` must have the axes (batch, steps) at least, got shape {tuple(x.shape)}."
            )
