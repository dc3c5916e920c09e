"""What each step of a project has to have; see ``serving_kit.projects.progress``.

- ``graphs``: is the network exported, and does the saved graph give what eager mode gives?
- ``served``: is it configured, do served responses equal eager mode, also for rows together?
- ``finish``: is it load-tested, is version 2 served, is it packaged?
"""

from serving_kit.projects.checks.missing import Missing

__all__ = ["Missing"]
