"""Quality measures of verification trials, to be fused with their scores: the longer the two utterances, say,
the more a score means (Thienpondt, Desplanques and Demuynck, "The IDLab VoxSRC-20 submission", ICASSP 2021;
wespeaker's score calibration).
"""

import numpy as np


def pair_measures(models: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """Return the smaller of the two sides' measures and the absolute difference, (N, 2): both the same
    whichever side is enrolled.

    Args:
        models, tests: (N,) the measure of either side of each trial, such as the logarithm of a duration.
    """
    models, tests = np.asarray(models, dtype=np.float64), np.asarray(tests, dtype=np.float64)
    return np.column_stack([np.minimum(models, tests), np.abs(models - tests)])
