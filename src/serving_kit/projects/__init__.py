"""A learner's own model on its way to be served: the final project of the course.

- ``skeleton`` makes the files of a project, from ``templates``: they belong to the learner;
- ``checks`` find out which of the eight steps are done, and what is missing in the next one;
- ``progress`` goes through them and shows the result; ``evidence`` keeps what was found, because
  some of it takes seconds;
- ``compare`` is the program that runs a network and its saved graphs, with OneFlow;
- ``certificate`` lists what was done, once all is done.
"""

from serving_kit.projects.certificate import certificate
from serving_kit.projects.progress import is_complete, progress, to_text
from serving_kit.projects.project import Project, settings_of
from serving_kit.projects.skeleton import KINDS, new_project

__all__ = [
    "KINDS",
    "Project",
    "certificate",
    "is_complete",
    "new_project",
    "progress",
    "settings_of",
    "to_text",
]
