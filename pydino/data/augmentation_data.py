"""The augmentation data: noises and room impulse responses on the device, so that augmenting a batch reads no
file.

A list that fits into the budget is read once. Otherwise a random selection of pieces is held, and replaced
every ``refresh_steps`` steps: generation step // refresh_steps. The selection is a function of (seed,
generation) alone, so that a resumed run, and every process of a job, have the same. While one generation is
in use a thread reads the next.
"""

import threading
from dataclasses import dataclass, field

import torch

from pydino.base import UserError, check_positive, purpose

from .recordings import Piece, Reader
from .waveform_pool import WaveformPool

PIECE_SECONDS = 20.0  # maximal length of a piece, where a list does not fit
_READERS = 4  # threads that read a list that fits


@dataclass
class AugmentationDataConfig:
    """Lists of recordings (as Kaldi's wav.scp, files only), and the memory they may take.

    Noises are stored as 16-bit integers, like the recordings; room impulse responses as float16, which keeps
    the precision of a tail at -60 dB. An hour of noise at 16 kHz takes 0.115 GB, a thousand responses of half
    a second 0.016.
    """

    noise: str = ""  # path of the list; "": none
    music: str = ""
    speech: str = ""  # recordings that babble is mixed from
    rirs: dict[str, str] = field(default_factory=dict)  # name -> list of room impulse responses
    gigabytes: float = 4.0  # of device memory, for all lists together
    refresh_steps: int = 1000  # where a list does not fit: steps between selections
    rir_seconds: float = 0.5  # longer responses are truncated

    def __post_init__(self):
        check_positive(self, "gigabytes", "refresh_steps", "rir_seconds")


class AugmentationData:
    """Noises and room impulse responses on the device.

    Args:
        config: the lists, and the budget.
        options: of the features (FbankConfig or MfccConfig): sample rate, and whether other rates are
            resampled.
        longest_seconds: the longest crop.
        seed: of the selections.
        device: that holds the data.

    Attributes:
        noises: kind ("noise", "music", "babble") -> :class:`WaveformPool`, int16; for the lists that are
            configured.
        rirs: name of the list -> :class:`WaveformPool`, float16, as configured.
        rir_length: samples of every response.

    Raises:
        UserError: a list is missing or empty, a recording cannot be read or is of another rate, or the budget
            is too small.
    """

    def __init__(self, config: AugmentationDataConfig, options, longest_seconds: float, seed: int, device):
        self._refresh_steps, self._device, self._seed = config.refresh_steps, torch.device(device), seed
        reader, rate = Reader(options), options.sample_frequency
        self.rir_length = round(config.rir_seconds * rate)
        # One window more than the crop, whose frames extend beyond its ends.
        longest = int(longest_seconds * rate) + options.window_size
        piece = max(int(PIECE_SECONDS * rate), longest)
        plans = {}
        for name, path in (("noise", config.noise), ("music", config.music), ("babble", config.speech)):
            if path:
                recordings = [
                    reader.whole(p) for p in reader.paths(path, "speech" if name == "babble" else name)
                ]
                plans[name] = (recordings, reader.samples, torch.int16, longest)
        for name, path in config.rirs.items():
            recordings = [Piece(p, 0, self.rir_length) for p in reader.paths(path, f"rirs.{name}")]
            plans[f"rirs.{name}"] = (recordings, reader.response, torch.float16, self.rir_length)
        budgets = _share(
            {name: WaveformPool.wanted_bytes(plan[0], *plan[2:]) for name, plan in plans.items()},
            int(config.gigabytes * 1e9),
        )
        pools = {name: self._pool(name, plan, budgets[name], piece, config) for name, plan in plans.items()}
        self.noises = {name: pool for name, pool in pools.items() if not name.startswith("rirs.")}
        self.rirs = {name: pools[f"rirs.{name}"] for name in config.rirs}
        self._rotating = [pool for pool in pools.values() if pool.rotates]
        for pool in pools.values():
            if not pool.rotates:
                pool.load(0, 0, readers=_READERS)
        self._generation, self._half, self._next = None, 0, None

    def _pool(self, name: str, plan, budget: int, piece: int, config: AugmentationDataConfig) -> WaveformPool:
        try:
            return WaveformPool(*plan, budget, piece, (self._seed, purpose(f"bank {name}")), self._device)
        except ValueError as error:
            raise UserError(
                f"augmentation_data: gigabytes: {config.gigabytes:g} leaves {budget / 1e6:.3g} MB for "
                f"{name}, too little for two pieces of it; raise it"
            ) from error

    def advance(self, step: int) -> None:
        """Switch to the data of a step; to be called before any ``take``.

        Raises:
            UserError: raised in the reading thread.
        """
        generation = step // self._refresh_steps
        if not self._rotating or generation == self._generation:
            return
        if self._next is not None:
            self._next.wait()
        # the first generation, or training went back
        if self._next is None or self._next.generation != generation:
            self._next = _Generation(self._rotating, generation, 1 - self._half, self._device)
            self._next.wait()
        self._generation, self._half = generation, 1 - self._half
        for pool in self._rotating:
            pool.use(self._half)
        self._next = _Generation(self._rotating, generation + 1, 1 - self._half, self._device)


class _Generation(threading.Thread):
    """Reads a generation into the idle half of the pools, on a separate CUDA stream that waits for pending
    uses of that half.
    """

    def __init__(self, pools: list[WaveformPool], generation: int, half: int, device: torch.device):
        super().__init__(name="reading noises ahead")
        self.generation = generation
        self._pools, self._half, self._error = pools, half, None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self.start()

    def run(self):
        try:
            with torch.cuda.stream(self._stream):  # no-op without a stream
                for pool in self._pools:
                    # Stop reading when the program ends.
                    pool.load(self.generation, self._half, should_continue=threading.main_thread().is_alive)
            if self._stream is not None:
                self._stream.synchronize()
        except BaseException as error:  # raised in wait()
            self._error = error

    def wait(self) -> None:
        """Wait until the generation is read."""
        self.join()
        if self._error is not None:
            raise self._error


def _share(wanted: dict[str, int], budget: int) -> dict[str, int]:
    """Divide a budget: a list that needs less than an equal share of the rest gets what it needs, the others
    get equal shares.
    """
    shares = {}
    for name in sorted(wanted, key=wanted.get):
        shares[name] = min(wanted[name], budget // (len(wanted) - len(shares)))
        budget -= shares[name]
    return shares
