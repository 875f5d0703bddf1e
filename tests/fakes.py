"""A session without a network, whose answers a test sets by view."""

from collections.abc import Sequence

import numpy as np

from fusionseg.data.prepare import View
from fusionseg.deploy.result import Answer

PADDING = 7


class FakeSession:
    """Every point and pixel of a view gets the class and confidence set for its camera; arrays are padded."""

    name = "fake"
    precision = "fp32"
    views_at_once = 6
    projects = False

    def __init__(self, answers: dict[str, tuple[int, float]], default: tuple[int, float] = (0, 0.5)) -> None:
        self.answers = answers
        self.default = default
        self.seen: list[View] = []
        self.batches: list[int] = []

    def inputs(self, views: Sequence[View]) -> list[View]:
        self.batches.append(len(views))
        self.seen.extend(views)
        return list(views)

    def forward(self, inputs: list[View]) -> Answer:
        count = max(len(view.index) for view in inputs) + PADDING
        rows, columns = -(-inputs[0].camera.height // 4), -(-inputs[0].camera.width // 4)
        answers = [self.answers.get(view.camera_name, self.default) for view in inputs]
        pixels = np.stack([np.full((rows, columns), label, dtype=np.uint8) for label, _ in answers])
        points = np.full((len(inputs), count), 200, dtype=np.uint8)
        confidence = np.full((len(inputs), count), 2.0, dtype=np.float32)
        for b, view in enumerate(inputs):
            points[b, : len(view.index)], confidence[b, : len(view.index)] = answers[b]
        return Answer(pixels, points, confidence)
