"""Times of the parts of a step."""

import time

import torch
from roofline import wait


class Stopwatch:
    """Times between marks: of the host on a CPU, of the stream on a GPU, where marking does not wait."""

    def __init__(self, device: torch.device):
        self._device, self._marks = device, []

    def mark(self, name: str) -> None:
        """Attribute the time since the last mark to ``name``."""
        if self._device.type == "cuda":
            now = torch.cuda.Event(enable_timing=True)
            now.record()
        else:
            now = time.perf_counter()
        self._marks.append((name, now))

    def milliseconds(self) -> dict[str, float]:
        """Return the time of each part since the first mark, and reset."""
        wait(self._device)
        parts: dict[str, float] = {}
        for (_, before), (name, now) in zip(self._marks, self._marks[1:], strict=False):
            took = before.elapsed_time(now) if self._device.type == "cuda" else 1000 * (now - before)
            parts[name] = parts.get(name, 0.0) + took
        self._marks = []
        return parts

    def after(self, name: str, function):
        """Return ``function`` with a mark after each call."""

        def marked(*arguments):
            result = function(*arguments)
            self.mark(name)
            return result

        return marked
