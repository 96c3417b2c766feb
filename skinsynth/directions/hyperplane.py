"""Directions that separate a known attribute (InterFaceGAN, Shen et al. 2020, arXiv 1907.10786)."""

import torch
from jaxtyping import Bool, Float, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import normalize


def extremes(scores: Float[Tensor, " n"], share: float) -> tuple[Int64[Tensor, " m"], Bool[Tensor, " m"]]:
    """Which images have the lowest and the highest `share` of scores, and whether each is a high one."""
    count = int(share * len(scores))
    if not 0 < share <= 0.5 or count == 0:
        raise ValueError(
            f"each end takes a share above 0 up to 0.5 and one image or more, but a share of {share:g} of "
            f"{len(scores)} images came: score more images or raise the share"
        )
    order = scores.argsort(stable=True)
    return torch.cat([order[:count], order[-count:]]), torch.arange(2 * count, device=scores.device) >= count


def hyperplane_normal(w: Float[Tensor, "n w"], high: Bool[Tensor, " n"]) -> Float[Tensor, " w"]:
    """Unit normal of the plane between two kinds of w, pointing to the high ones (InterFaceGAN, eq. 1).

    A logistic regression where the authors took a linear SVM: it has one answer, found without random draws.
    """
    if not 0 < int(high.sum()) < len(high):
        raise ValueError("a hyperplane lies between two kinds of w, but only one came: give images of both")
    # On standardised w, so that the penalty of the weights is the same in wide and in narrow coordinates.
    scaler = StandardScaler().fit(w.double().cpu().numpy())
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(w.double().cpu().numpy()), high.cpu().numpy())
    return normalize(torch.from_numpy(model.coef_[0] / scaler.scale_), dim=0).to(w)


def attribute_normal(w: Float[Tensor, "n w"], scores: Float[Tensor, " n"], share: float) -> Float[Tensor, " w"]:
    """Unit normal of an attribute from the clear cases alone: the lowest and the highest `share` of its scores."""
    chosen, high = extremes(scores, share)
    return hyperplane_normal(w[chosen], high)


def conditioned(normal: Float[Tensor, " w"], other: Float[Tensor, " w"]) -> Float[Tensor, " w"]:
    """`normal` without what it shares with unit `other`, n1 - (n1.n2) n2, of unit length: moves one attribute alone."""
    rest = normal - (normal @ other) * other
    if float(rest.norm()) < 1e-6 * float(normal.norm()):
        raise ValueError("both attributes have one direction, so nothing of the first is left: condition on another")
    return normalize(rest, dim=0)
