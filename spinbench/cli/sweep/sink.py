"""A sweep's done points are sent to a sink by the command itself, each once however often the command is given."""

from collections.abc import Sequence

from spinbench.errors import UserError
from spinbench.report.sink.protocol import Sink, read_finished
from spinbench.sweep.folder import STATE_FOLDER, SweepFolder
from spinbench.sweep.point import SweepPoint


def send_points(folder: SweepFolder, points: Sequence[SweepPoint], kind: str, sink: Sink) -> int:
    """Send what is done and was not sent to this kind of sink before; returns how many points that were.

    Workers need neither network nor account for it. Raises UserError where the other side does not take a point; the
    results are kept, and the same command sends the rest.
    """
    marks = folder.path / STATE_FOLDER / "sent" / kind
    marks.mkdir(parents=True, exist_ok=True)
    done = [point for point in points if folder.is_done(point)]
    waiting = [point for point in done if not (marks / point.key).is_file()]
    for number, point in enumerate(waiting):
        try:
            sink.send(read_finished(folder.folder_of(point)))
        except UserError as error:
            sent = len(done) - len(waiting) + number
            message = f"{error} ({sent} of {len(done)} points are sent; the same command sends the rest)"
            raise UserError(message) from error
        (marks / point.key).touch()
    return len(waiting)
