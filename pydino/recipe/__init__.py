"""The schema of a recipe (conf/recipe.yaml), the systems that a run compares, and the rows of each stage. No
torch.
"""

from .calls import Call, calls_of, groups_of
from .options import RunOptions, resolve
from .run import Run
from .schema import STAGES, Recipe
from .systems import STATISTICS, System, systems, systems_of
from .tasks import CLASSIFIERS, CONTROLS, TUNING

__all__ = [
    "CLASSIFIERS",
    "CONTROLS",
    "STAGES",
    "STATISTICS",
    "TUNING",
    "Call",
    "Recipe",
    "Run",
    "RunOptions",
    "System",
    "calls_of",
    "groups_of",
    "resolve",
    "systems",
    "systems_of",
]
