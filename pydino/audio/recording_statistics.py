"""Statistics of a recording that say how it was recorded rather than what is said in it: silence, the
channel, clipping. Leak controls are made of them.

Axes: T frames, F columns of the features, S samples.
"""

import numpy as np

LEVEL_FRAMES = 10  # 0.1 s, so that no click is taken for the level
LOUD_RANGE = 3.0  # of log-energy: 13 dB
FLOOR_PERCENTILE = 5  # of the loud frames
ROLL_OFF = (0.5, 0.85, 0.95)  # shares of the energy
_CLIPPED_RUN = 3  # equal extreme samples in a row


def mean_and_deviation(frames: np.ndarray) -> np.ndarray:
    """Return mean and standard deviation over frames (T, F): (2 F,) float64."""
    frames = np.asarray(frames, dtype=np.float64)
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])


def channel_statistics(features: np.ndarray, energy: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return statistics of the channel, (2 F + 4,) float64, that do not change when pauses are added.

    All are of the loud frames, those within 13 dB of the level, which is the log-energy that ten frames
    reach. The long-term spectrum is the mean of their log filter banks, without mean normalisation; the noise
    floor is the 5th percentile of each filter, which is noise where that is louder than the valleys of
    speech. (Means, deviations or percentiles of all frames would measure pauses, which are not the channel,
    and in the speech of the impaired are the signal. The noise in the pauses is what silence alone is
    measured for.) Then the frequencies in Hz below which 50, 85 and 95 % of the energy of the loud frames lie
    (spectral roll-off, between centres of filters), and the level.

    Args:
        features: (T, F) log filter banks.
        energy: (T,) log-energies of the frames.
        centres: (F,) Hz, of the filters.
    """
    energy = np.asarray(energy, dtype=np.float64)
    level = np.sort(energy)[-LEVEL_FRAMES:][0]
    loud = np.asarray(features, dtype=np.float64)[energy >= level - LOUD_RANGE]
    spectrum, floor = loud.mean(axis=0), np.percentile(loud, FLOOR_PERCENTILE, axis=0)
    share = np.cumsum(np.exp(loud).mean(axis=0))
    roll_off = np.interp(ROLL_OFF, share / share[-1], centres)
    return np.concatenate([spectrum, floor, roll_off, [level]])


def clipped_share(samples: np.ndarray) -> float:
    """Return the share of samples that look clipped: in runs of three or more that all equal the largest, or
    all the smallest, sample of the recording. Silence of zeros is not clipped.

    Args:
        samples: (S,), of any scale.
    """
    samples = np.asarray(samples)
    if len(samples) < _CLIPPED_RUN:
        return 0.0
    extreme = ((samples == samples.max()) | (samples == samples.min())) & (samples != 0)
    same = np.concatenate([[False], samples[1:] == samples[:-1]])
    run = np.cumsum(~same) - 1  # number of the run of equal samples that each sample is in
    return float((extreme & (np.bincount(run)[run] >= _CLIPPED_RUN)).mean())
