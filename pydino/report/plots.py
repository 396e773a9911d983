"""The figures of the report: training curves, DET curves, score histograms, maps of embeddings, confusion
matrices.
"""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from scipy.special import ndtri  # the probit function; scipy.stats takes half a second to import

from pydino.backend.vectors import normalise_length
from pydino.report.gather import TrainingRun
from pydino.report.svg import COLOURS, MUTED, new_figure, style, to_svg
from pydino.report.tables import BASELINES, is_baseline, system_order

# A longer legend would hide more than it explains.
MAX_CURVES = 8
# A training curve has at most this many points, whatever the number of lines of its log.
MAX_POINTS = 300


def model_colours(models) -> dict:
    """A fixed colour for each model of the report, muted ones for the baselines."""
    trained = sorted({m for m in models if not is_baseline(m)})
    return {m: COLOURS[i % len(COLOURS)] for i, m in enumerate(trained)} | dict(
        zip(BASELINES, MUTED, strict=True)
    )


def training_curves(runs: list[TrainingRun], panels: dict, name: str) -> str:
    """One small panel per quantity, one line per training run. ``panels``: title -> {key of the log: line
    style}.
    """
    with style():
        present = {
            title: keys
            for title, keys in panels.items()
            if any(_is_number(epoch.get(k)) for r in runs for epoch in r.epochs for k in keys)
        }
        columns = min(3, len(present))
        rows = -(-len(present) // columns)
        figure, axes = new_figure(
            rows, columns, figsize=(3.2 * columns, 2.3 * rows), squeeze=False, layout="constrained"
        )
        for axis, (title, keys) in zip(axes.flat, present.items(), strict=False):
            for i, run in enumerate(runs[:MAX_CURVES]):
                for key, line in keys.items():
                    points = [
                        (epoch.get("epoch", n + 1), epoch[key])
                        for n, epoch in enumerate(run.epochs)
                        if _is_number(epoch.get(key))
                    ]
                    if points:
                        axis.plot(
                            *_thinned(points),
                            line,
                            color=COLOURS[i],
                            linewidth=1.4,
                            label=run.name if line == "-" else "",
                        )
            axis.set_title(title)
            axis.set_xlabel("epoch")
        for axis in list(axes.flat)[len(present) :]:
            axis.set_visible(False)
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        return to_svg(figure, name, "Training curves: " + ", ".join(present))


def monitor_curves(runs: dict[str, dict], references: dict[str, dict], scores: dict, name: str) -> str:
    """One panel per score, against the share of the training; reference runs in grey.

    ``runs`` (at most MAX_CURVES), ``references``: name -> {score: (shares, values)}; ``scores``: score ->
    (heading, decimals).
    """
    present = [key for key in scores if any(len(run[key][0]) for run in runs.values())]
    with style():
        columns = min(3, len(present))
        rows = -(-len(present) // columns)
        figure, axes = new_figure(
            rows, columns, figsize=(3.4 * columns, 2.3 * rows), squeeze=False, layout="constrained"
        )
        for axis in list(axes.flat)[len(present) :]:
            axis.set_visible(False)
        for axis, key in zip(axes.flat, present, strict=False):
            for (title, found), line in zip(references.items(), ("-", ":"), strict=True):
                shares, values = found[key]
                axis.plot(
                    100 * shares, values, line, color=MUTED[0], linewidth=2.2, label=f"reference: {title}"
                )
            for i, (title, found) in enumerate(runs.items()):
                shares, values = found[key]
                axis.plot(
                    100 * shares, values, "o-", color=COLOURS[i], markersize=3, linewidth=1.4, label=title
                )
            axis.set_title(scores[key][0])
            axis.set_xlabel("% of the training")
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return to_svg(figure, name, "Scores without labels: " + ", ".join(present))


def _thinned(points: list[tuple]) -> np.ndarray:
    """(N, 2) points -> (2, at most MAX_POINTS): means of neighbours, so that the page stays small and the
    curve readable.
    """
    blocks = np.array_split(np.array(points, dtype=np.float64), min(len(points), MAX_POINTS))
    return np.array([block.mean(axis=0) for block in blocks]).T


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)


def det_curve(curves: list[dict], models: list[str], name: str) -> str:
    """Miss rate against false-alarm rate on probit axes; the diagonal, where both are equal, is drawn faint.

    ``models``: all models of the report, so that each has the same colour in every figure.

    A DET curve of Gaussian scores is a straight line on these axes (Martin et al., Eurospeech 1997).
    """
    colours = model_colours(models)
    with style():
        curves = sorted(curves, key=system_order)[: 2 * MAX_CURVES]
        figure, axis = new_figure(figsize=(5.2, 5.2 + 0.09 * len(curves)), layout="constrained")
        low, high = 0.6e-3, 0.62
        for curve in curves:
            line = {"raw": "-", "centred": "--", "whitened": ":"}.get(curve["treatment"], "-.")
            label = ", ".join(str(curve[key]) for key in ("model", "backend", "treatment"))
            axis.plot(
                *(ndtri(np.clip(x, 1e-6, 1 - 1e-6)) for x in (curve["false_alarm"], curve["miss"])),
                line,
                color=colours.get(curve["model"], COLOURS[0]),
                linewidth=1.5,
                label=label,
            )
        limits = ndtri([low, high])
        axis.plot(limits, limits, color=MUTED[0], linewidth=0.6)
        ticks = np.array([0.1, 0.5, 1, 2, 5, 10, 20, 40, 60])
        for ruler in (axis.xaxis, axis.yaxis):
            ruler.set_major_locator(FixedLocator(ndtri(ticks / 100)))
            ruler.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
            ruler.set_minor_locator(NullLocator())
        axis.set(xlim=limits, ylim=limits, xlabel="false alarms, %", ylabel="misses, %", aspect="equal")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        return to_svg(figure, name, "Detection error trade-off")


def candidates(systems: list[tuple], name: str) -> str:
    """Split self-EER of the clusters considered, one column a system; the chosen one filled.

    ``systems``: (title, split self-EERs in percent, the place of the chosen one).
    """
    with style():
        width = max(3.2, 1.1 + 0.55 * len(systems))
        figure, axis = new_figure(figsize=(width, 3.4), layout="constrained")
        for place, (title, values, chosen) in enumerate(systems):
            colour = MUTED[0] if is_baseline(title.split("_")[0]) else COLOURS[0]
            others = [value for number, value in enumerate(values) if number != chosen]
            axis.plot([place] * len(others), others, "o", markersize=4, mfc="none", color=colour)
            axis.plot([place], [values[chosen]], "o", markersize=6, color=colour)
        axis.set_xticks(range(len(systems)), [title for title, _, _ in systems], rotation=40, ha="right")
        axis.set(xlim=(-0.6, len(systems) - 0.4), ylabel="split self-EER, %")
        axis.set_ylim(bottom=0)
        return to_svg(figure, name, "Split self-EER of clusters")


def score_histograms(systems: list[tuple], name: str) -> str:
    """Target and non-target scores of each system. ``systems``: (title, target scores, non-target scores)."""
    with style():
        figure, axes = new_figure(
            1, len(systems), figsize=(3.2 * len(systems), 2.4), squeeze=False, layout="constrained"
        )
        for axis, (title, target, nontarget) in zip(axes.flat, systems, strict=True):
            bins = np.histogram_bin_edges(np.concatenate([target, nontarget]), bins=60)
            for scores, colour, label in (
                (nontarget, COLOURS[1], "different speakers"),
                (target, COLOURS[0], "same speaker"),
            ):
                axis.hist(scores, bins=bins, density=True, color=colour, alpha=0.6, label=label)
            axis.set_title(title)
            axis.set_xlabel("score")
            axis.set_yticks([])
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return to_svg(figure, name, "Histograms of target and non-target scores")


def embedding_maps(systems: list[tuple], name: str) -> str:
    """Embeddings in two dimensions. ``systems``: (title, (N, D) embeddings, group of each point or
    ``None``).
    """
    systems = [(title, flatten_to_plane(embeddings), groups) for title, embeddings, groups in systems]
    with style():
        figure, axes = new_figure(
            1, len(systems), figsize=(3.3 * len(systems), 3.3), squeeze=False, layout="constrained"
        )
        for axis, (title, positions, groups) in zip(axes.flat, systems, strict=True):
            named = sorted({g for g in groups if g is not None})
            rest = np.array([g is None for g in groups])
            axis.scatter(*positions[rest].T, s=5, color=MUTED[0], alpha=0.35, linewidths=0)
            for i, group in enumerate(named):
                axis.scatter(
                    *positions[np.array([g == group for g in groups])].T,
                    s=14,
                    color=COLOURS[i % len(COLOURS)],
                    linewidths=0,
                )
            axis.set_title(title)
            axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
            axis.grid(False)
        return to_svg(figure, name, "Map of the embeddings")


def confusion_matrices(systems: list[tuple], classes: list[str], name: str) -> str:
    """Confusion matrices side by side, truth along rows: the darker, the larger the part of the row.

    ``systems``: (title, (K, K) counts, (K,) recalls in [0, 1] or NaN), of K classes.
    """
    count = len(classes)
    size = 0.75 + 0.36 * max(count, 3)
    columns = min(len(systems), 4 if count <= 8 else 2)
    rows = -(-len(systems) // columns)
    shade = LinearSegmentedColormap.from_list("shade", [to_rgba(COLOURS[0], 0.0), to_rgba(COLOURS[0], 0.9)])
    with style():
        shape = (size * columns + 0.8, (size + 0.5) * rows)
        figure, axes = new_figure(rows, columns, figsize=shape, squeeze=False, layout="constrained")
        for axis in axes.flat[len(systems) :]:
            axis.set_visible(False)
        for place, (axis, (title, counts, recalls)) in enumerate(zip(axes.flat, systems, strict=False)):
            share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axis.pcolormesh(share, cmap=shade, vmin=0, vmax=1)
            for i, j in np.argwhere(counts > 0):
                axis.text(j + 0.5, i + 0.5, f"{counts[i, j]:,}", ha="center", va="center", fontsize=8)
            percent = ["" if np.isnan(recall) else f"{100 * recall:.0f} %" for recall in recalls]
            here = classes if place % columns == 0 else [""] * count
            labels = [f"{label}  {value}".strip() for label, value in zip(here, percent, strict=True)]
            places = np.arange(count) + 0.5
            axis.set_yticks(places, labels)
            axis.set_xticks(places, classes, rotation=90)
            axis.set(ylim=(count, 0), aspect="equal", title=title.replace(", ", "\n"))
            axis.tick_params(length=0)
            axis.grid(False)
        return to_svg(figure, name, "Confusion matrices")


def flatten_to_plane(embeddings: np.ndarray) -> np.ndarray:
    """(N, D) embeddings -> (N, 2) positions: t-SNE of the length-normalised vectors (cosine geometry), the
    same on every run.

    Below 30 points, too few for t-SNE, the positions are the first two principal components.
    """
    unit = normalise_length(embeddings, scale_up=False)
    unit = unit - unit.mean(axis=0)
    if len(unit) < 30 or not np.ptp(unit, axis=0).any():
        left, scale, _ = np.linalg.svd(unit, full_matrices=False)
        positions = np.zeros((len(unit), 2))
        positions[:, : len(scale)] = (left * scale)[:, :2]
        return positions
    from sklearn.manifold import TSNE

    # Twice the 250 iterations of early exaggeration: further ones hardly move hundreds of points.
    return TSNE(
        n_components=2, init="pca", perplexity=min(30, len(unit) // 4), max_iter=500, random_state=0, n_jobs=1
    ).fit_transform(unit)
