"""Lines of ``segments``: utterance, recording, start and end in seconds."""

import math

from pydino.base import UserError, split_fields


def parse_segment(key: str, rest: str, path) -> tuple[str, float, float]:
    """Return (recording, start, end) of a line; ``end`` -1 stands for the end of the recording.

    Args:
        key: the utterance.
        rest: the line after it.
        path: the file, for messages.

    Raises:
        UserError: other than three fields, or times that are not finite numbers.
    """
    fields = split_fields(rest)
    try:
        recording, start, end = fields[0], float(fields[1]), float(fields[2])
    except (IndexError, ValueError):
        start = end = math.nan
    if len(fields) != 3 or not math.isfinite(start) or not math.isfinite(end):
        raise UserError(
            f"{path}: '{key} {rest}' is not 'utterance recording start end' with times in seconds; "
            "correct or remove the line"
        )
    return recording, start, end
