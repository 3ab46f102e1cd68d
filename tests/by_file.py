"""Which of xdist's workers runs what."""

from xdist.scheduler import LoadFileScheduling

TOGETHER = ("tests/report/",)
"""Folders whose files share what takes long to make: they go to one worker as a whole."""


class FileScheduling(LoadFileScheduling):
    """In the order of collection; xdist has a name for what stays together, its scope."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid))
