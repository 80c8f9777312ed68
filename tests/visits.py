"""One visit to all that a page can run, without a browser: what each tab finds, as plain data.

As a program, `python -m tests.visits SUITE UPLOAD`, it is a visit to a public server of that suite, and prints it.
"""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dit_core.ui.server import space  # first of all, as in app.py

SWEEP = {
    "preset": "copies with the diff", "diff": "topic-0412", "adapters": [], "question": "", "samples": 2,
    "temperature": 1.0, "max_new_tokens": 3, "seed": 0, "step": 0.5, "measure": "modal_share",
}  # fmt: skip
LAYERS = {
    "diff": "topic-0412", "condition": "diff+dit", "asked": "What do you do?", "question": "What is the topic?",
    "part": "the last tokens", "count": 3, "kind": "with", "layers": "all", "samples": 1, "temperature": 0, "seed": 0,
    "colour": "confidence",
}  # fmt: skip
LENS = {
    "diff": "topic-0412", "positions": 3, "top": 3, "method": "patchscope", "position": 0, "layer": -1,
    "prompt": "What do you do?", "strengths": (0.0, 2.0), "max_new_tokens": 4, "samples": 1, "temperature": 0,
    "seed": 0,
}  # fmt: skip
SCOREBOARD = {"task": "topic", "split": "test", "limit": 8, "kinds": ["verbal", "oracle", "lens"]}
PANEL = {
    "oracle": "What is the topic?", "span": "last:2", "kinds": ["base", "both"], "kind": "with", "layers": "all",
    "of": "", "y": "confidence", "next_y": "rank",
}  # fmt: skip


def visit(suite: Any, upload: str) -> dict[str, Any]:
    """What a visitor of all tabs finds, who uploads one diff; AssertionError where a tab shows an error."""
    return {name: json.loads(json.dumps(found)) for name, found in _visit(suite, upload)}


def _visit(suite: Any, upload: str) -> Iterator[tuple[str, Any]]:
    from dit_core.session.visit import Visit
    from dit_core.ui.tabs.bring import BringEvents
    from dit_core.ui.tabs.explore.oracle_events import OracleEvents
    from dit_core.ui.tabs.layers import LayerEvents
    from dit_core.ui.tabs.lens import LensEvents
    from dit_core.ui.tabs.scoreboard import ScoreboardEvents
    from dit_core.ui.tabs.scoreboard.audit import AuditEvents
    from dit_core.ui.tabs.scoreboard.view import BY
    from dit_core.ui.tabs.sweep import SweepEvents

    session = Visit()
    yield "explore", _asked(suite, session, "topic-0412")
    _last(OracleEvents(suite).run(session, PANEL))
    panel = session.job("panel").result
    yield "panel", [panel.targets.to_json(reveal=True), panel.next_tokens.to_json(), panel.readings.to_json()]
    _last(LayerEvents(suite, "pocket").run(session, LAYERS))
    layers = session.job("layers").result
    yield "layers", [layers.norms.to_json(), layers.readings.to_json()]
    lens_events = LensEvents(suite, "pocket")
    _last(lens_events.run(session, LENS))
    lens = session.job("lens").result
    yield "lens", [lens.tokens.to_json(), lens.similarities.to_json()]
    _last(lens_events.steering.run(session, LENS))
    yield "steering", session.job("steer").result.steered.to_json()
    _last(SweepEvents(suite, "").run(session, SWEEP))
    yield "sweep", session.job("sweep").result.table.to_json()
    _last(ScoreboardEvents(suite, "").run(session, {"axis": next(iter(BY)), **SCOREBOARD}))
    yield "scoreboard", session.job("scoreboard").result.board.scores.to_json()
    report = _last(AuditEvents(suite, "").run(session, {"diff": "topic-0412"}))
    name, text = report["name"], report["text"]
    text = text.replace(str(suite.folder), suite.folder.name)  # which is all that strangers read
    yield "audit", [name, re.sub(r"[\d.]+(e-?\d+)?", "0", text)]
    copied = Path(tempfile.mkdtemp()) / Path(upload).name  # an upload is deleted once it is read
    shutil.copy(upload, copied)
    described = {"source": "", "title": "mine", "task": "topic", "position": 0, "own": None}
    note = BringEvents(suite, []).bring(session, {"files": [str(copied)], **described})["note"]
    copied.parent.rmdir()
    [(own, arrival)] = session.job("bring").result.items()
    yield "bring", [note, [vars(change) for change in arrival.changes]]
    cards, evidence = _asked(suite, session, own)
    # Its id is another each time, and so are what is drawn for it and its controls.
    yield "own", [json.loads(json.dumps(cards).replace(own, "own")), evidence["samples"], len(evidence["controls"])]
    session.leave()


def _asked(suite: Any, session: Any, diff: str) -> list[Any]:
    """What the cards say, and the evidence for it."""
    from dit_core.records import as_dict
    from dit_core.session.settings import Settings
    from dit_core.ui.tabs.explore.events import Events

    events = Events(suite, "")
    _last(events.ask(session, vars(Settings.for_diff(suite, diff))))
    _last(events.fetch_evidence(session, {}))
    return [session.result.table.to_json(), as_dict(session.result.evidence[0])]


def _last(frames: Iterator[Any]) -> Any:
    *_, last = frames
    _, alert, told = str(last).partition('role="alert"')
    assert not alert, told[:300]
    return last


def main(folder: str, upload: str) -> None:
    from dit_core.suite import load_suite
    from dit_core.suite.limits import PUBLIC, serving

    suite = load_suite(folder)
    space.move_in(suite)
    with serving(PUBLIC):
        print(json.dumps(visit(suite, upload)))


if __name__ == "__main__":
    main(*sys.argv[1:])
