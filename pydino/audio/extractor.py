"""Common base of filter banks and cepstra: from waveforms to spectra, block by block, with the log-energy of
every frame.

Order of each window, as in Kaldi (feat/feature-window.cc): dither, subtract the mean, (raw energy),
pre-emphasis x[i] -= c x[i-1] and x[0] -= c x[0], window function, zero padding, Fourier transform.

Speed: blocks small enough to stay in the processor's cache, buffers reused, no Python per frame.

Axes: R rows (frames), N samples of a window, P points of the transform, M mel filters, D columns of the
features.
"""

import numpy as np
import torch

from pydino.base import keyed_bits, purpose

from .frames import Windows, even_windows, lay_out, lay_out_part, num_frames, window
from .mel import bands, log_filters, mel_weights

EPSILON = torch.finfo(torch.float32).eps  # Kaldi's floor of energies; its logarithm is -15.9424
_CPU_BLOCK = 512  # rows: few enough to stay in cache, enough to hide the cost of a call
_GPU_BLOCK = 32768
_PART = 4096  # rows of a long waveform that are in memory at once: a multiple of the CPU's block


class FrameExtractor:
    """Base of Fbank and Mfcc: a callable from waveforms to features.

    Args:
        config: FbankConfig or MfccConfig.
        device: on which features are computed and returned; the same code and, up to rounding, the same
            values everywhere.
        seed: of the dither, which otherwise depends on the utterance's hash alone.
    """

    dim: int  # D

    def __init__(self, config, device="cpu", seed: int = 0):
        self.config, self.device, self.seed = config, torch.device(device), seed
        on_gpu = self.device.type == "cuda"
        self._block = _GPU_BLOCK if on_gpu else _CPU_BLOCK
        # On a GPU the small matrix products are in double, so that a caller's choice of TF32 for its network
        # does not reach them.
        self._product_type = torch.float64 if on_gpu else torch.float32
        self._window = window(config).to(self.device)
        self._use_power = getattr(config, "use_power", True)
        weights = mel_weights(config)
        if self._use_power:
            # |X|^2 = Re^2 + Im^2: the product with each filter adds them up, so they need not be added
            # before.
            weights = weights.repeat(2, axis=0)
        self._mel = [
            (
                rows,
                filters,
                torch.from_numpy(weights[rows, filters]).to(self.device, self._product_type).contiguous(),
            )
            for rows, filters in bands(weights)
        ]
        if config.debug_mel:
            log_filters(config)

    def __call__(self, waveforms, hashes=None) -> list[torch.Tensor]:
        """Return the features of each waveform, (T, D) float32, T = 0 for one shorter than a window; see
        :meth:`with_energy`.
        """
        return self.with_energy(waveforms, hashes)[0]

    @torch.no_grad()
    def with_energy(self, waveforms, hashes=None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return features and frame log-energies of each waveform.

        Args:
            waveforms: list of (S,) arrays or tensors, or one (B, S) tensor: samples in the range of 16-bit
                integers (-32768 to 32767, not -1 to 1).
            hashes: 64-bit number of each utterance, which keys its dither; without it every utterance gets
                the same noise.

        Returns:
            Features, (T, D) each, and log-energies, (T,) each: the natural logarithm of the sum of squares,
            exactly what Kaldi puts in the energy column (raw_energy and energy_floor apply), whether or not
            use_energy adds that column.
        """
        windows = lay_out(waveforms, self.config, self.device)
        dither = _Dither(self.config.dither, self.seed, hashes, windows) if self.config.dither else None
        features, energies = self._extract(windows, dither)
        features = windows.cut(features)
        if self.config.subtract_mean:
            features = [x - x.mean(dim=0) for x in features]
        return features, windows.cut(energies)

    @torch.no_grad()
    def of_parts(self, read, total: int, key: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what :meth:`with_energy` returns for one waveform, bit for bit, with only a part of it in
        memory at a time.

        Args:
            read: callable (first, last) -> samples [first, last), in the range of 16-bit integers; the first
                does not decrease, but the spans overlap.
            total: samples of the waveform.
            key: 64-bit number that keys its dither.
        """
        frames = num_frames(total, self.config)
        features = torch.empty(frames, self.dim, device=self.device)
        energies = torch.empty(frames, device=self.device)
        dither = None
        for start in range(0, frames, _PART):
            rows = range(start, min(start + _PART, frames))
            windows = lay_out_part(read, total, rows, self.config, self.device)
            if self.config.dither:
                dither = dither or _Dither(self.config.dither, self.seed, [key], windows)
                dither.go_on_with(windows)
            features[start : rows.stop], energies[start : rows.stop] = self._extract(windows, dither)
        if self.config.subtract_mean and frames:
            features -= features.mean(dim=0)
        return features, energies

    @torch.no_grad()
    def of_crops(self, waves: torch.Tensor) -> torch.Tensor:
        """Return the features of crops of one length, (N, T, D), at once.

        Args:
            waves: (N, S) on the device; only windows that fit are taken, whatever snip_edges is, so crops
                include their margins. As in Kaldi samples are in the range of 16-bit integers. No dither is
                added and no mean subtracted.
        """
        windows = even_windows(waves, self.config)
        features, _ = self._extract(windows, None)
        return features.view(len(waves), -1, self.dim)[:, : windows.count[0]].contiguous()

    def _extract(self, windows: Windows, dither) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features, (rows, D), and log-energies, (rows,), of all windows."""
        features = torch.empty(windows.rows, self.dim, device=self.device)
        energies = torch.empty(windows.rows, device=self.device)
        block = min(self._block, max(windows.rows, 1))
        centred = torch.empty(block, windows.size, device=self.device)
        padded = torch.zeros(block, self.config.padded_size, device=self.device)
        filters = torch.empty(block, self.config.num_mel_bins, device=self.device)
        for start, stop in self._blocks(windows):
            rows = stop - start
            noise = dither(start, stop) if dither else None
            energy = self._window_block(windows.view(start, stop), noise, centred[:rows], padded[:rows])
            self._finish_block(
                self._mel_energies(padded[:rows], filters[:rows]), energy, features[start:stop]
            )
            energies[start:stop] = energy
        return features, energies

    def _blocks(self, windows: Windows):
        """Yield the (first, last + 1) row of each block.

        On a CPU a block holds at most one utterance: the last digit of a product or a logarithm may depend on
        the number of rows and their memory alignment, and an utterance's values must not depend on its
        neighbours. For the same reason all work is done in buffers of our own and then copied to the output.
        On a GPU large blocks matter more.
        """
        whole = self.device.type == "cuda"
        spans = [(0, windows.rows)] if whole else zip(windows.first, windows.count, strict=True)
        for first, count in spans:
            for start in range(first, first + count, self._block):
                yield start, min(start + self._block, first + count)

    def _window_block(self, frames, noise, centred, padded) -> torch.Tensor:
        """Fill ``padded`` (R, P) with windows ready to transform and return log-energies, (R,); ``centred``
        (R, N) is scratch.
        """
        config, inside = self.config, padded[:, : frames.shape[1]]
        if noise is not None:
            frames = frames + noise
        if config.remove_dc_offset:
            frames = torch.sub(frames, frames.mean(dim=1, keepdim=True), out=centred)
        if config.preemphasis_coefficient:
            c = config.preemphasis_coefficient
            torch.sub(frames[:, 1:], frames[:, :-1], alpha=c, out=inside[:, 1:])
            torch.mul(frames[:, 0], 1.0 - c, out=inside[:, 0])
            inside.mul_(self._window)
        else:
            torch.mul(frames, self._window, out=inside)
        # ln(sum of squares) as twice ln(norm): one pass over the samples.
        energy = torch.linalg.vector_norm(frames if config.raw_energy else inside, dim=1)
        return energy.clamp_(min=EPSILON**0.5).log_().mul_(2.0).clamp_(min=config.log_energy_floor)

    def _mel_energies(self, padded, out) -> torch.Tensor:
        """Transform windows (R, P) and weigh their spectra by the filters, into ``out`` (R, M), which is
        returned.
        """
        spectrum = torch.view_as_real(torch.fft.rfft(padded)).square_()
        # Re^2 and Im^2 in turn, (R, P + 2), or magnitudes, (R, P / 2 + 1): as the rows of the weights.
        spectrum = spectrum.flatten(1) if self._use_power else spectrum.sum(dim=2).sqrt_()
        for rows, filters, weights in self._mel:
            if self._product_type == out.dtype:
                torch.mm(spectrum[:, rows], weights, out=out[:, filters])
            else:
                out[:, filters] = spectrum[:, rows].to(self._product_type) @ weights
        return out

    def _finish_block(self, filters, energy, out):
        """Fill the block ``out`` (R, D) of the features from mel energies (R, M), which may be changed, and
        log-energies (R,).
        """
        raise NotImplementedError


class _Dither:
    """Gaussian noise for each sample of each window, keyed by (seed, utterance hash); overlapping windows
    have different noise.

    Each utterance has its own stream of Philox (Salmon et al. 2011), a counter-based generator, read in order
    of its frames; so the noise depends neither on the other utterances, nor on the blocks, nor on the device.
    """

    def __init__(self, scale, seed, hashes, windows: Windows):
        hashes = [0] * len(windows.count) if hashes is None else hashes
        if len(hashes) != len(windows.count):
            raise ValueError(f"{len(windows.count)} waveforms but {len(hashes)} hashes")
        self._scale, self._windows, self._next = scale, windows, 0
        keys = keyed_bits(seed, np.array(hashes, dtype=np.uint64), purpose("dither"))
        self._streams = [np.random.Generator(np.random.Philox(key=int(key))) for key in keys]

    def go_on_with(self, windows: Windows) -> None:
        """Continue with the next windows of the same utterances."""
        self._windows, self._next = windows, 0

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        """Return the noise of rows start to stop, (stop - start, N); blocks have to be requested in order."""
        noise = np.zeros((stop - start, self._windows.size), dtype=np.float32)
        spans = self._windows
        while self._next < len(spans.first) and spans.first[self._next] < stop:
            first, last = spans.first[self._next], spans.first[self._next] + spans.count[self._next]
            mine = noise[max(first, start) - start : max(min(last, stop) - start, 0)]
            self._streams[self._next].standard_normal(out=mine, dtype=np.float32)
            if last > stop:
                break
            self._next += 1
        return torch.from_numpy(noise).mul_(self._scale).to(spans.samples.device)
