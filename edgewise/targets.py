"""Target positions: where logits are wanted, as rows of flattened tokens."""

import torch
from jaxtyping import Int
from torch import Tensor


def rows_of(
    shape: torch.Size, targets: Int[Tensor, "batch *target"] | None, device: torch.device
) -> tuple[Int[Tensor, " row"] | None, torch.Size]:
    """The targets as indices of flattened tokens (None for all of them), and the logits' shape.

    `shape` is that of the tokens, [batch, position].
    """
    batch, position = shape
    if targets is None:
        return None, shape
    if targets.ndim not in (1, 2) or len(targets) != batch:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} for {batch} prompts; expected [batch] "
            "or [batch, target]"
        )
    expected = f"expected positions from 0 to {position - 1} in prompts of {position} tokens"
    check_range(targets, position, "targets", expected)
    targets = targets.to(device)
    starts = torch.arange(batch, device=device) * position
    return (targets + starts.view(-1, *[1] * (targets.ndim - 1))).flatten(), targets.shape


def distinct_rows(
    rows: Int[Tensor, " row"], targets: Tensor | None, *, for_gradient: bool
) -> Int[Tensor, " distinct"]:
    """The rows without duplicates, as gradients need them.

    Without a gradient, duplicates may stay on an accelerator. With one target per prompt there are
    none; otherwise finding them makes the CPU wait for an accelerator.
    """
    one_each = targets is not None and (targets.ndim == 1 or targets.shape[1] == 1)
    if one_each or not (for_gradient or rows.device.type == "cpu"):
        return rows
    return rows.unique()


def check_range(numbers: Int[Tensor, "..."], stop: int, what: str, expected: str) -> None:
    """Raises ValueError unless 0 <= numbers < stop.

    Numbers on an accelerator are checked there, without waiting for it: it stops with an error.
    """
    if numbers.device.type != "cpu":
        in_range = ((numbers >= 0) & (numbers < stop)).all()
        torch._assert_async(  # pyright: ignore[reportPrivateImportUsage]
            in_range, f"{what} out of range; {expected}"
        )
    elif numbers.numel():
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high >= stop:
            raise ValueError(f"{what} from {low} to {high}; {expected}")
