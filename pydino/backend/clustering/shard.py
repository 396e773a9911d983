"""The vectors of one process, and the two steps of spherical k-means over all processes
(:mod:`~pydino.backend.clustering.kmeans`).
"""

import numpy as np

from pydino.base import keyed_bits, keyed_uniform, purpose

_TILE = 32  # vectors of one label that are compared with their candidates at once
_CHUNK = 1 << 16  # vectors that are on the device at once
_SCORES = {"cpu": 32 << 20, "cuda": 512 << 20}  # cosines of a block of vectors with all centroids


class Shard:
    """The vectors (n, D) of this process, and what is reduced over all processes."""

    def __init__(self, vectors, hashes, seed, device, precision, sharded=True):
        import torch
        import torch.distributed as dist

        self.vectors, self.hashes, self.seed = vectors, hashes, seed
        self.device, self.precision = torch.device(device), precision
        self.count = len(vectors)
        several = sharded and dist.is_available() and dist.is_initialized()
        self.world = dist.get_world_size() if several else 1
        low = precision == "bfloat16" or (precision == "auto" and self.device.type != "cpu")
        self.dtype = torch.bfloat16 if low else torch.float32

    # Communication. Reductions are on the device, because NCCL knows no other.
    def reduce(self, tensor):
        """Return the sum over the processes."""
        if self.world == 1:
            return tensor
        import torch.distributed as dist

        tensor = tensor.to(self.device)
        dist.all_reduce(tensor)
        return tensor

    def gather(self, rows):
        """Return the rows of all processes, which may differ in number."""
        if self.world == 1:
            return rows
        import torch
        import torch.distributed as dist

        rows = rows.to(self.device)
        counts = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=self.device))
        longest = int(max(counts))
        padded = torch.cat([rows, rows.new_zeros((longest - len(rows), *rows.shape[1:]))])
        every = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(every, padded)
        return torch.cat([part[: int(number)] for part, number in zip(every, counts, strict=True)])

    def take(self, places, keys, count):
        """Return the vectors of the ``count`` smallest keys over all processes, in their order.

        Args:
            places: (M,) of this shard, with its ``count`` smallest keys among them.
            keys: (M,) float64 or int64 tensor.
        """
        import torch

        threshold = self.gather(keys).sort().values[:count][-1]
        kept = keys <= threshold.to(keys.device)
        rows = self.unit(self.vectors[torch.as_tensor(places)[kept]])
        order = torch.argsort(self.gather(keys[kept]), stable=True)[:count]
        return self.gather(rows)[order.to(self.device)]

    # Draws.
    def draw(self, share, at_least):
        """Return the part of about ``share`` of all vectors, ``at_least`` so many."""
        keys = keyed_uniform(self.seed, self.hashes, purpose("k-means sample"))
        kept = keys < share
        import torch

        smallest = torch.as_tensor(np.sort(keys)[:at_least])
        kept |= keys <= float(self.gather(smallest).sort().values[:at_least][-1])
        chosen = self.vectors[torch.as_tensor(np.flatnonzero(kept))]
        return Shard(chosen, self.hashes[kept], self.seed, self.device, self.precision, self.world > 1)

    def first(self, count):
        """Return ``count`` vectors drawn at random."""
        import torch

        keys = keyed_bits(self.seed, self.hashes, purpose("k-means start")) >> np.uint64(1)
        places = np.argsort(keys)[:count]
        return self.take(places, torch.as_tensor(keys[places].astype(np.int64)), count)

    def plus_plus(self, count):
        """Return ``count`` vectors drawn by k-means++.

        The smallest of -ln(u_i) / w_i, with u_i uniform, is vector i with probability w_i / sum w: a draw
        that does not depend on how the vectors are divided. On the sphere the squared distance is 2 (1 -
        cos).
        """
        import torch

        centroids, nearest = self.first(1), torch.full((self.count,), -1.0)
        while len(centroids) < count:
            for part in self.chunks():
                cosines = self.unit(self.vectors[part]) @ centroids[-1]
                nearest[part] = torch.maximum(nearest[part], cosines.cpu())
            weights = (1 - nearest.double()).clamp_min(1e-12)
            draws = keyed_uniform(self.seed, self.hashes, purpose("k-means++"), len(centroids))
            keys = -torch.log1p(-torch.as_tensor(draws)) / weights
            place = keys.argmin().reshape(1) if self.count else torch.zeros(0, dtype=torch.int64)
            centroids = torch.cat([centroids, self.take(place, keys[place], 1)])
        return centroids

    # The two steps of an iteration.
    def chunks(self):
        return [slice(start, min(start + _CHUNK, self.count)) for start in range(0, self.count, _CHUNK)]

    def unit(self, rows):
        """Return rows on the device, in float32, scaled to unit length."""
        import torch

        return torch.nn.functional.normalize(rows.to(self.device, torch.float32), eps=1e-30)

    def nearest(self, centroids, count):
        """Return the ``count`` nearest centroids of each vector, and the cosines, on the CPU."""
        import torch

        transposed = centroids.to(self.dtype).T
        step = max(64, _SCORES.get(self.device.type, 32 << 20) // len(centroids))
        indices = torch.empty((self.count, count), dtype=torch.int64)
        cosines = torch.empty((self.count, count), dtype=torch.float32)
        for part in self.chunks():
            unit = self.unit(self.vectors[part])
            low, best = unit.to(self.dtype), []
            for start in range(0, len(unit), step):
                scores = low[start : start + step] @ transposed
                best.append(scores.max(1).indices[:, None] if count == 1 else scores.topk(count).indices)
            found = torch.cat(best)
            indices[part] = found.cpu()
            # Cosines in float32, whatever decided.
            for column in range(count):
                cosines[part, column] = (unit * centroids[found[:, column]]).sum(1).cpu()
        return indices, cosines

    def assign_near(self, centroids, labels, count):
        """Assign each vector among the ``count`` centroids that are nearest to the one of its label."""
        import torch

        near = Shard(centroids, None, 0, self.device, self.precision).nearest(centroids, count)[0]
        near = near.to(self.device)
        order = labels.argsort(stable=True)
        new, cosines = torch.empty_like(labels), torch.empty(self.count)
        for start in range(0, self.count, _CHUNK // 4):
            places = order[start : start + _CHUNK // 4]
            unit = self.unit(self.vectors[places])
            # Vectors of one label stand in tiles, whose products with their candidates are one batch.
            own, group, sizes = labels[places].unique_consecutive(return_inverse=True, return_counts=True)
            tiles = (sizes + _TILE - 1) // _TILE
            first_row, first_tile = sizes.cumsum(0) - sizes, tiles.cumsum(0) - tiles
            slot = (first_tile[group] * _TILE + torch.arange(len(places)) - first_row[group]).to(self.device)
            padded = unit.new_zeros((int(tiles.sum()) * _TILE, unit.shape[1]))
            padded[slot] = unit
            candidates = near[own.repeat_interleave(tiles).to(self.device)]
            scores = padded.view(-1, _TILE, unit.shape[1]) @ centroids[candidates].transpose(1, 2)
            found = candidates.gather(1, scores.argmax(2)).view(-1)[slot]
            new[places] = found.cpu()
            cosines[places] = (unit * centroids[found]).sum(1).cpu()
        return new, cosines

    def assign(self, centroids):
        indices, cosines = self.nearest(centroids, 1)
        return indices[:, 0], cosines[:, 0]

    def mean(self, similarities):
        import torch

        pair = torch.tensor([similarities.double().sum(), float(self.count)], dtype=torch.float64)
        total, count = self.reduce(pair).tolist()
        return total / count

    def update(self, centroids, labels, similarities):
        """Return the directions of the sums of the vectors of each centroid, and whether any had none."""
        import torch

        number = len(centroids)
        sums, counts = torch.zeros_like(centroids), torch.zeros(number, device=self.device)
        for part in self.chunks():
            # A sum over sorted rows: adding at indices is in no fixed order on a GPU.
            own, order = labels[part].to(self.device).sort(stable=True)
            lengths = torch.bincount(own, minlength=number)
            rows = self.unit(self.vectors[part])[order]
            sums += torch.segment_reduce(rows, "sum", lengths=lengths, axis=0, initial=0)
            counts += lengths
        sums, counts = self.reduce(sums), self.reduce(counts)
        norms = sums.norm(dim=1)
        empty = ((counts == 0) | (norms == 0)).nonzero()[:, 0]
        if len(empty):
            sums[empty] = self.farthest(similarities, len(empty))
        return torch.nn.functional.normalize(sums, eps=1e-30), len(empty) > 0

    def farthest(self, similarities, count):
        """Return the ``count`` vectors that are farthest from their centroids."""
        import torch

        # One key that orders by cosine, then by hash: 31 bits of the first, 32 of the second.
        level = ((similarities.double().clamp(-1, 1) + 1) * 2**29).round().to(torch.int64)
        keys = (level << 32) | torch.as_tensor((self.hashes >> np.uint64(32)).astype(np.int64))
        places = torch.argsort(keys, stable=True)[:count]
        return self.take(places, keys[places], count)
