"""The interface of an open recording, whatever its format."""

import numpy as np


class Recording:
    """An open recording.

    Attributes:
        rate: Hz.
        channels: number of channels.
        samples: number of samples of each channel, as decoded rather than as stated.
    """

    rate: int
    channels: int
    samples: int

    def read(self, first: int, last: int) -> np.ndarray:
        """Return samples [first, last) of all channels, (last - first, channels): int16 where the recording
        has no more than 16 bits, else float32 of full scale 1.

        Raises:
            UserError: they cannot be decoded.
        """
        raise NotImplementedError

    def check_end(self) -> None:
        """Decode the last sample: for FLAC the only way to know that the file is complete.

        Raises:
            UserError: it cannot be decoded.
        """
        self.read(max(self.samples - 1, 0), self.samples)
