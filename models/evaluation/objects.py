"""Object-level counts: what a reader would call found, missed, and a false alarm."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIZE_FACTOR = 2.0  # A found object is at most this much larger or smaller than the true one.


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Objects of one scan.

    Attributes
    ----------
    found, alarms, missed : int
        Components that hit an object, components that hit none, and objects that no component hit.
    """

    found: int
    alarms: int
    missed: int


def count_objects(detected: NDArray[np.bool_], truth: NDArray[np.bool_], *, smallest: int = 1) -> Objects:
    """Compare connected components (methods, section 5.2).

    A component hits the object that its centre of mass lies in, if the sizes are within a factor of two. Only
    the first component that hits an object finds it; a second is a false alarm.

    Parameters
    ----------
    detected, truth : bool
        Of one scan, two or three axes; neighbours by corner belong together.
    smallest : int
        Components with fewer pixels are dropped before counting.
    """
    corner = np.ones((3,) * detected.ndim)
    components, count = ndimage.label(detected, structure=corner)
    objects, expected = ndimage.label(truth, structure=corner)
    sizes = np.bincount(objects.ravel(), minlength=expected + 1)
    own = np.bincount(components.ravel(), minlength=count + 1)
    hit: set[int] = set()
    alarms = 0
    centres = ndimage.center_of_mass(detected, components, range(1, count + 1)) if count else []
    for number, centre in enumerate(centres, start=1):
        if own[number] < smallest:
            continue
        place = tuple(round(float(value)) for value in centre)
        target = int(objects[place])
        ratio = own[number] / max(1, int(sizes[target]))
        if target == 0 or target in hit or not 1 / SIZE_FACTOR <= ratio <= SIZE_FACTOR:
            alarms += 1
        else:
            hit.add(target)
    return Objects(found=len(hit), alarms=alarms, missed=expected - len(hit))
