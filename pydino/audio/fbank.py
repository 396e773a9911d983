"""Mel filter banks, equal to Kaldi's compute-fbank-feats (feat/feature-fbank.cc)."""

from .extractor import EPSILON, FrameExtractor
from .options import FbankConfig


class Fbank(FrameExtractor):
    """Filter-bank energies: X = Fourier transform of the window, y_m = sum_k w_km |X_k|^2, column m = ln
    max(y_m, epsilon).

    ``Fbank(FbankConfig(dither=0, num_mel_bins=80))([waveform])[0]`` is (T, 80). With use_energy the
    log-energy is one column more, the first, or the last with htk_compat; with use_power false, |X_k| takes
    the place of |X_k|^2.
    """

    def __init__(self, config: FbankConfig | None = None, device="cpu", seed: int = 0):
        config = config or FbankConfig()
        super().__init__(config, device, seed)
        self.dim = config.num_mel_bins + config.use_energy
        first = 1 if config.use_energy and not config.htk_compat else 0
        self._filters = slice(first, first + config.num_mel_bins)
        self._energy_column = self.dim - 1 if config.htk_compat else 0

    def _finish_block(self, filters, energy, out):
        out[:, self._filters] = filters.clamp_(min=EPSILON).log_() if self.config.use_log_fbank else filters
        if self.config.use_energy:
            out[:, self._energy_column] = energy
