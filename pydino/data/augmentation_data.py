"""The augmentation data of noises and room responses: recordings that lie on the device, so that augmenting a
step reads no file.

Where all of a list fits into the budget it is read once. Where it does not, the augmentation data holds a
choice of pieces, another one every so many steps: generation step // refresh_steps. The choice is a function
of (seed, generation) alone, so that a resumed run, and every process of a job, have the same in hand. While
one generation is in use a thread reads the next.
"""

import threading
from dataclasses import dataclass, field

import torch

from pydino.base import UserError, purpose

from .recordings import Piece, Reader
from .waveform_pool import WaveformPool

PIECE_SECONDS = 20.0  # of a recording, where not all of a list fits
_READERS = 4  # threads, where everything is read at once


@dataclass
class AugmentationDataConfig:
    """Lists of recordings (Kaldi's wav.scp, plain files), and how much of them is held at a time.

    Noises are held as 16-bit integers, which is what the recordings are; room responses as float16, so that a
    tail fading by 60 dB keeps its precision. An hour of noise at 16 kHz takes 0.115 GB, a thousand responses
    of half a second 0.016.
    """

    noise: str = ""  # path of the list; "": none
    music: str = ""
    speech: str = ""  # babble is mixed of its pieces
    rirs: dict[str, str] = field(default_factory=dict)  # name -> list of room impulse responses
    gigabytes: float = 4.0  # of device memory, for all lists together
    refresh_steps: int = 1000  # where not everything fits: steps that a choice is kept for
    rir_seconds: float = 0.5  # longest response that is kept; what comes later is cut off

    def __post_init__(self):
        for name in ("gigabytes", "refresh_steps", "rir_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


class AugmentationData:
    """Noises and room responses on the device.

    Args:
        config: which, and how many bytes of them.
        options: of the features (FbankConfig or MfccConfig): sample rate, and whether others are resampled.
        longest_seconds: the longest crop.
        seed: of the choices.
        device: where it lies.

    Attributes:
        noises: kind ("noise", "music", "babble") -> :class:`WaveformPool`, int16; those that there are lists
            of.
        rirs: name of the list -> :class:`WaveformPool`, float16, as the configuration has them.
        room_length: samples of every response.

    Raises:
        UserError: a list is missing or empty, a recording cannot be read or is of another rate, or the budget
            is too small.
    """

    def __init__(self, config: AugmentationDataConfig, options, longest_seconds: float, seed: int, device):
        self._refresh_steps, self._device, self._seed = config.refresh_steps, torch.device(device), seed
        reader, rate = Reader(options), options.sample_frequency
        self.rir_length = round(config.rir_seconds * rate)
        # One window more than the crop, whose frames reach over its ends.
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
        """Hold what belongs to a step; to be called before anything is taken.

        Raises:
            UserError: what the reading thread met.
        """
        generation = step // self._refresh_steps
        if not self._rotating or generation == self._generation:
            return
        if self._next is not None:
            self._next.wait()
        # the first one, or training stepped back
        if self._next is None or self._next.generation != generation:
            self._next = _Generation(self._rotating, generation, 1 - self._half, self._device)
            self._next.wait()
        self._generation, self._half = generation, 1 - self._half
        for pool in self._rotating:
            pool.use(self._half)
        self._next = _Generation(self._rotating, generation + 1, 1 - self._half, self._device)


class _Generation(threading.Thread):
    """Reads a generation into the idle half of the pools, on a stream of its own that waits for whoever
    still uses that half.
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
            with torch.cuda.stream(self._stream):  # no stream: does nothing
                for pool in self._pools:
                    # When the program ends, so does the reading.
                    pool.load(self.generation, self._half, going_on=threading.main_thread().is_alive)
            if self._stream is not None:
                self._stream.synchronize()
        except BaseException as error:  # to be raised where the generation was wanted
            self._error = error

    def wait(self) -> None:
        """Return when it is there."""
        self.join()
        if self._error is not None:
            raise self._error


def _share(wanted: dict[str, int], budget: int) -> dict[str, int]:
    """Share out a budget: whoever wants less than an equal part of what is left gets what it wants, the
    others an equal part.
    """
    shares = {}
    for name in sorted(wanted, key=wanted.get):
        shares[name] = min(wanted[name], budget // (len(wanted) - len(shares)))
        budget -= shares[name]
    return shares
