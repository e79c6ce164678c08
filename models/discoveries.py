"""A list of studies with a known share of false ones: Benjamini and Hochberg's procedure.

Of a cohort, the studies on the list are unusual but for an expected share q of normals that are on it by
chance (Benjamini, Hochberg 1995). Conformal p-values of one reference are not independent; they are
positively dependent in the sense that the procedure needs (PRDS; Bates, Candes, Lei, Romano, Sesia 2023,
theorem 2), so the share holds for them too.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def discoveries(p_values: ArrayLike, q: float) -> NDArray[np.bool_]:
    """Which studies are on the list at a false-discovery rate ``q``.

    Parameters
    ----------
    p_values : float, shape (studies,)
        Conformal, of one cohort. Studies that were not assessed are no part of it.
    q : float
        Expected share of normals on the list, between 0 and 1.

    Raises
    ------
    ValueError
        If ``q`` is no rate.
    """
    return adjusted(p_values) <= _rate(q)


def adjusted(p_values: ArrayLike) -> NDArray[np.float64]:
    """The smallest rate at which each study is on the list, shape (studies,): what a table shows as q."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepped = values[order] * values.size / np.arange(1, values.size + 1)
    found = np.empty_like(values)
    found[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1)
    return found


def least_reference(q: float, studies: int, expected: int) -> int:
    """Reference studies without which the list stays empty.

    The smallest conformal p is 1 / (n + 1), and ``expected`` studies that share it must pass the step
    q * expected / studies.

    Parameters
    ----------
    q : float
    studies : int
        Of the cohort.
    expected : int
        Studies that may all be more unusual than every reference study.
    """
    return max(1, int(np.ceil(studies / (_rate(q) * max(1, expected)))) - 1)


def _rate(q: float) -> float:
    if not 0 < q < 1:
        raise ValueError(f"{q} is no false-discovery rate; give one between 0 and 1")
    return q
