"""What is said of a threshold that was set without labels (``pydino threshold``)."""


def note_on_costs(args, threshold: float, highest: float, lowest: float) -> str:
    """Return what a threshold by prior and costs that no pair or every pair reaches means, else an empty
    string.

    Args:
        highest, lowest: score of a pair.
    """
    given = f"--prior {args.prior:g} --c-miss {args.c_miss:g} --c-fa {args.c_fa:g}"
    if args.backend == "cosine" and threshold > 1:
        reached = "more than a cosine can be"
    elif threshold > highest:
        reached = f"above every score, of which the highest is {highest:.3f}"
    elif threshold <= lowest:
        return (
            f"the threshold by costs, {threshold:.3f}, is below every score, of which the lowest is "
            f"{lowest:.3f}: with {given} it costs least to accept every pair"
        )
    else:
        return ""
    return (
        f"the threshold by costs, {threshold:.3f}, is {reached}: with {given} it costs least to accept no "
        "pair, because even one of the highest score is more likely of two speakers; where pairs of one "
        "speaker are more frequent raise --prior, where missing one costs more raise --c-miss"
    )


def cannot_know(args, heard: int) -> list[str]:
    """Return what the threshold of a call of ``pydino threshold`` leaves open.

    Args:
        heard: on how many of the recordings the model was trained.
    """
    texts = [
        "The miss rate is that of two crops of one recording. Two recordings of one person differ more, in "
        "session, microphone and mood, so more of them are missed; how many more, unlabelled recordings do "
        "not tell. The calibration inherits this: its log-likelihood ratios are too far from 0.",
        "The rates hold for recordings like these: other microphones, languages, ages or lengths move them.",
    ]
    if args.backend == "plda":
        texts.append(
            "The PLDA tells the recordings that it was trained on apart better than others, so that where "
            "these are among them the threshold is too low for new ones."
        )
    if heard:
        texts.append(
            f"The model was trained on {heard} of these recordings; what it has not heard may score "
            "otherwise."
        )
    if args.speakers:
        texts.append(
            f"That {args.speakers} people speak about equally often was given, not found: where some speak "
            "more than others, the threshold is too high. Their pairs are taken to score as crops of one "
            "recording do, which is more than they do, and makes it too low."
        )
    elif args.clusters:
        texts.append(
            "Pairs of one cluster were left out. Where a cluster holds two people, pairs of high score are "
            "missing and the threshold is too low; where a person has two clusters, it is too high."
        )
    else:
        texts.append(
            "Some pairs of utterances are of one person and count as false alarms, so the threshold is too "
            "high; the fewer people speak, the more. --speakers or --clusters allows for it."
        )
    return texts
