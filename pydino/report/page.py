"""The report as Markdown and as one self-contained HTML file: no network, no scripts, light or dark as the
reader prefers.
"""

import re
from html import escape

from pydino.report.tables import Table

_NOTES = (
    (
        "EER",
        "equal error rate: the rate of misses and of false alarms at the threshold where they are equal; "
        "chance is 50 %",
    ),
    (
        "minDCF p",
        "minimum of the normalised detection cost for a target probability p; at 1 it is no better than "
        "rejecting every trial",
    ),
    (
        "actDCF p",
        "the same cost at the threshold that follows from p, where scores are log-likelihood ratios; what it "
        "is above minDCF is lost by the calibration",
    ),
    (
        "Cllr",
        "cost of log-likelihood ratios over all priors, in bits: 0 is perfect, 1 is that of ratios that say "
        "nothing, and above 1 they mislead",
    ),
    ("min Cllr", "the least Cllr that any increasing function of the scores would have"),
    (
        "UAR",
        "unweighted average recall: the mean of the recalls of all classes; chance is 100 % divided by the "
        "number of classes",
    ),
    (
        "mean of folds",
        "the metric before it, measured in each fold by itself; the other figures are of all folds pooled",
    ),
    ("micro-F1", "of all classes together: the accuracy"),
    ("macro-F1", "the mean of the F1 of all classes"),
    ("MAE", "mean absolute error, in the unit in the heading"),
    ("RMSE", "root of the mean squared error, in the unit in the heading"),
    ("[low, high]", "95 % interval by bootstrap over speakers (or subjects), one seed"),
    ("(low to high)", "range over seeds, after their mean"),
    (
        "labels",
        "the labels that the back-end was trained with: `none`, `pseudo` (clusters), `train` (those of the "
        "training set)",
    ),
    (
        "model labels",
        "the labels that the model's weights were trained with, by its own training or by one that it "
        "started from: `none`, `pseudo` (clusters), `train`; `unknown` where it is not recorded",
    ),
    (
        "treatment",
        "of the embeddings: `raw`; `centred`: minus the mean of the training embeddings; `whitened`: "
        "decorrelated by their covariance; `wccn`: by the covariance within augmented crops of an "
        "utterance; `z-norm`, `t-norm`, `s-norm`, `as-norm`: scores normalised by those with a cohort of "
        "training embeddings; none of them uses labels; `+ statistics` (of tasks: `with statistics`): "
        "beside the embeddings, those of the filter banks",
    ),
    (
        "calibrated",
        "the scores are made log-likelihood ratios by logistic regression on other trials; `on crops`: two "
        "augmented crops of a training utterance count as one speaker and two utterances as two, so no label "
        "is used, and the ratios are too far from 0; `on clusters`: clusters count as speakers; back-ends "
        "joined by + are fused, each with its treatment",
    ),
    (
        "affine-then-all",
        "fine-tuned: from the classifier of the frozen embedding, first the last affine layers, then the "
        "whole network",
    ),
    ("all-at-once", "fine-tuned: the whole network at once"),
    ("from-scratch", "the same encoder and training from random weights"),
    (
        "suspect",
        "a leak control, which should tell nothing of the label, is above chance: the figure may be due to "
        "how the recordings were made",
    ),
    ("transductive", "test recordings may have been in pre-training (without their labels)"),
    (
        "xvector",
        "the same encoder trained with labels (of speakers, where the recipe names no others), for "
        "comparison",
    ),
    (
        "fbank-stats",
        "baseline: mean and standard deviation of the filter banks, which contain the level and the channel "
        "of the recording",
    ),
    ("fbank-stats-cmn", "baseline: the same after mean normalisation, the input of the encoders"),
    ("untrained", "baseline: the encoder with random weights"),
    ("pretrained", "a published model of frames as it is, pooled over time (docs/pretrained.md)"),
    (
        "entropy",
        "of the teacher's output, in nats: of single outputs (0: one-hot), and of the mean output (0: the "
        "same for all inputs, a collapse)",
    ),
    ("spread", "of the embeddings: 1 if they are uniform on the sphere, 0 if all are the same"),
    (
        "self-EER",
        "needs no label. Of clusters, split self-EER: the EER of a PLDA trained on the clusters of one half "
        "of the utterances, on those of the other half. Of a training run: the EER of telling by cosine "
        "whether two crops, augmented differently, are of one utterance",
    ),
    ("effective rank", "number of dimensions that the embeddings use"),
    (
        "LiDAR",
        "without labels: number of directions that tell utterances apart better than views of one utterance "
        "vary, up to the dimension of the embeddings",
    ),
    ("RankMe", "without labels: number of directions of the embeddings, by their singular values"),
    (
        "stability",
        "normalised mutual information of clusters of the embeddings and of those of the snapshot before: 1 "
        "if they are the same",
    ),
)
# The text to search for in the tables, where it is not the name itself.
_SIGNS = {"minDCF p": "minDCF", "actDCF p": "actDCF", "[low, high]": " [", "(low to high)": " to "}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2128; --soft: #5d6673; --paper: #ffffff;
  --line: #d5dae1; --grid: #e6e9ee; --tint: #f4f6f9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe3e9; --soft: #97a1ae; --paper: #16191e;
    --line: #3a414b; --grid: #2b3038; --tint: #1e2229 }
}
body { margin: 2rem auto; padding: 0 1.2rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.25rem; margin: 2.4rem 0 .4rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .2rem }
p { margin: .3rem 0; max-width: 60rem } .soft, figcaption, dd { color: var(--soft) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; margin: .7rem 0; font-size: .9rem;
  font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { color: var(--soft); font-weight: 600 } .text { text-align: left } .best { font-weight: 700 }
tbody tr:hover { background: var(--tint) }
figure { margin: .8rem 0 } figcaption { font-size: .9rem; max-width: 60rem }
svg { width: 100%; height: auto; stroke-linejoin: round }
pre, code { font: .85rem ui-monospace, monospace; background: var(--tint) }
pre { padding: .7rem; overflow-x: auto }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .9rem }
dt { font-weight: 600 } dd { margin: 0 }
"""


def markdown_page(title: str, tables: list[Table], commands: str, made_by: str) -> str:
    """RESULTS.md: the tables, with the best value of each column in bold, and the commands."""
    parts = [f"# {title}", made_by]
    parts += [_markdown_table(table) for table in tables]
    if commands:
        parts.append(f"## Commands\n\n```\n{commands.rstrip()}\n```")
    parts.append(
        "## How to read the tables\n\n" + "\n".join(f"* {name}: {text}." for name, text in _notes(tables))
    )
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    def cell(i, j):
        text = table.rows[i][j].replace("|", "\\|")
        return f"**{text}**" if (i, j) in table.best else text

    lines = [f"## {table.title}", ""]
    lines += [line for text in _below_title(table, "`{}`") for line in (text, "")]
    lines.append("| " + " | ".join(table.header) + " |")
    lines.append(
        "|" + "|".join("---" if j < table.text_columns else "--:" for j in range(len(table.header))) + "|"
    )
    lines += [
        "| " + " | ".join(cell(i, j) for j in range(len(table.header))) + " |" for i in range(len(table.rows))
    ]
    return "\n".join(lines)


def _below_title(table: Table, code: str) -> list[str]:
    """The lines between the title and the header of a table: caption, and the commands that made it."""
    made = f"Made by {code.format(table.commands[0])}" if table.commands else ""
    if len(table.commands) > 1:
        made += f" and {len(table.commands) - 1} like it (`command` in results.json)"
    return [text for text in (table.caption, made) if text]


def html_page(title: str, tables: list[Table], figures: list, commands: str, made_by: str) -> str:
    """report.html, whole: tables, figures (inline SVG) and explanations.

    ``figures``: objects with ``title``, ``caption`` and ``svg``. Texts are escaped, the SVG is not.
    """
    body = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{_code(made_by)}</p>']
    body += [_html_table(table) for table in tables]
    if figures:
        body.append("<h2>Figures</h2>")
    for figure in figures:
        body.append(
            f"<h3>{escape(figure.title)}</h3>\n<figure>\n{figure.svg}\n<figcaption>{escape(figure.caption)}</figcaption>\n</figure>"
        )
    if commands:
        body.append(f"<h2>Commands</h2>\n<pre>{escape(commands.rstrip())}</pre>")
    notes = "\n".join(f"<dt>{escape(name)}</dt><dd>{_code(text)}</dd>" for name, text in _notes(tables))
    body.append(f"<h2>How to read the tables</h2>\n<dl>\n{notes}\n</dl>")
    content = "\n".join(body)
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" '
        f'content="width=device-width">\n<title>{escape(title)}</title>'
    )
    return (
        "<!DOCTYPE html>\n<html "
        f'lang="en">\n<head>\n{head}\n<style>{_STYLE}</style>\n</head>\n<body>\n{content}\n</body>\n</html>\n'
    )


def _notes(tables: list[Table]) -> list[tuple[str, str]]:
    """Names and explanations of the terms in the tables."""
    cells = "\n".join(
        text for table in tables if table.explained for row in (table.header, *table.rows) for text in row
    )
    return [(name, text) for name, text in _NOTES if _SIGNS.get(name, name) in cells]


def _code(text: str) -> str:
    """Escaped, with text between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _html_table(table: Table) -> str:
    def kind(i, j):
        names = ["text"] * (j < table.text_columns) + ["best"] * ((i, j) in table.best)
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(f"<th{kind(-1, j)}>{escape(text)}</th>" for j, text in enumerate(table.header))
    rows = "\n".join(
        "<tr>" + "".join(f"<td{kind(i, j)}>{escape(text)}</td>" for j, text in enumerate(row)) + "</tr>"
        for i, row in enumerate(table.rows)
    )
    below = "\n".join(f'<p class="soft">{_code(text)}</p>' for text in _below_title(table, "`{}`"))
    return (
        f"<h2>{escape(table.title)}</h2>\n{below}\n"
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )
