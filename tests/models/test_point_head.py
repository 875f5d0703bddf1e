"""The point head answers what its layers say one after the other, point by point."""

import torch

from fusionseg.models.head import PointHead


def test_it_is_a_layer_of_cell_and_point_then_two_more_added_to_the_logits_of_the_cell() -> None:
    torch.manual_seed(0)
    head = PointHead(in_channels=5, point_features=6, channels=7, classes=3)
    feature, logits = torch.randn(2, 5, 4, 6), torch.randn(2, 3, 4, 6)
    points, cell = torch.randn(2, 9, 6), torch.randint(0, 24, (2, 9))
    cell[:, 3] = -1  # padding looks anywhere, here at the first cell
    present = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    with torch.no_grad():
        answers = head(feature, logits, points, cell, present)
        assert answers.shape == (2, 9, 3)
        for view in range(2):
            for number in range(9):
                place = max(int(cell[view, number]), 0)
                row, column = divmod(place, 6)
                own = points[view, number].clone()
                own[:4] *= present[view, 1]
                first = head.cell(feature[view, :, row, column]) + head.own(head.point(torch.cat([own, present[view]])))
                expected = logits[view, :, row, column] + head.logits(head.hidden(first))
                torch.testing.assert_close(answers[view, number], expected, rtol=1e-5, atol=1e-6)
