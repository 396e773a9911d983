"""Mel-frequency cepstral coefficients, equal to Kaldi's compute-mfcc-feats (feat/feature-mfcc.cc)."""

import numpy as np
import torch

from .extractor import EPSILON, FrameExtractor
from .options import MfccConfig


def cepstral_matrix(config: MfccConfig) -> np.ndarray:
    """Return the (num_mel_bins, num_ceps) float64 matrix that turns log mel energies into liftered cepstra.

    With B filters, column k is s_k l_k cos(pi / B (n + 1/2) k) over n: the orthonormal discrete cosine
    transform of type II (s_0 = sqrt(1/B), else sqrt(2/B)), times HTK's lifter l_k = 1 + Q/2 sin(pi k / Q), Q
    = cepstral_lifter.
    """
    filters = config.num_mel_bins
    n, k = np.arange(filters)[:, None] + 0.5, np.arange(config.num_ceps)
    matrix = np.sqrt(2.0 / filters) * np.cos(np.pi / filters * n * k)
    matrix[:, 0] = np.sqrt(1.0 / filters)
    if config.cepstral_lifter:
        matrix *= 1.0 + 0.5 * config.cepstral_lifter * np.sin(np.pi * k / config.cepstral_lifter)
    return matrix


class Mfcc(FrameExtractor):
    """Cepstra of log mel filter banks; (T, num_ceps) per waveform. The log-energy replaces C0 unless
    use_energy is false.

    With htk_compat the first column moves to the last place, and C0 is scaled by sqrt(2).
    """

    def __init__(self, config: MfccConfig | None = None, device="cpu", seed: int = 0):
        config = config or MfccConfig()
        super().__init__(config, device, seed)
        self.dim = config.num_ceps
        matrix = cepstral_matrix(config)
        if config.htk_compat:
            if not config.use_energy:
                matrix[:, 0] *= np.sqrt(2.0)
            matrix = np.roll(matrix, -1, axis=1)
        self._cepstra = torch.from_numpy(matrix).to(self.device, self._product_type)
        self._energy_column = self.dim - 1 if config.htk_compat else 0

    def _finish_block(self, filters, energy, out):
        out.copy_(filters.clamp_(min=EPSILON).log_().to(self._product_type) @ self._cepstra)
        if self.config.use_energy:
            out[:, self._energy_column] = energy
