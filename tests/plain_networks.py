"""StyleGAN2's two networks in 64 bits, written plainly from the papers' equations and the published layout of weights.

Every function takes the weights of one network as tensors by their published names.
"""

import math

import torch
from torch.nn.functional import conv2d, pad

BINOMIAL = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
EPSILON = 1e-8
MAPPING_RATE = 0.01  # of learning, by which the mapping's weights are multiplied when used (StyleGAN, appendix C)


def rescaled(x):
    """Vectors of root mean square 1."""
    return x / (x.square().mean(dim=1, keepdim=True) + EPSILON).sqrt()


def activated(x):
    return math.sqrt(2) * torch.where(x < 0, 0.2 * x, x)


def dense(arrays, name, x, rate=1.0):
    """He's constant and the learning rate's multiplier come in when the weights are used."""
    weight = arrays[f"{name}.weight"]
    return rate * (x @ weight.T / math.sqrt(weight.shape[1]) + arrays[f"{name}.bias"])


def mapped(arrays, z, c):
    """What the mapping network makes of latents (if any) and labels (if any)."""
    parts = [] if z is None else [rescaled(z)]
    if "mapping.embed.weight" in arrays:
        parts.append(rescaled(dense(arrays, "mapping.embed", c)))
    x = torch.cat(parts, dim=1)
    for number in range(sum(name.startswith("mapping.fc") for name in arrays) // 2):
        x = activated(dense(arrays, f"mapping.fc{number}", x, rate=MAPPING_RATE))
    return x


def truncated_ws(arrays, z, c, psi=1.0, cutoff=None):
    """One w for each layer; those before the cutoff are drawn towards the mean w."""
    w, mean = mapped(arrays, z, c), arrays["mapping.w_avg"]
    layer_count = 2 * int(math.log2(resolution(arrays))) - 2
    drawn = layer_count if cutoff is None else cutoff
    return torch.stack([mean + psi * (w - mean) if layer < drawn else w for layer in range(layer_count)], dim=1)


def resolution(arrays):
    blocks = [part for name in arrays for part in name.split(".") if part[0] == "b" and part[1:].isdecimal()]
    return max(int(block[1:]) for block in blocks)


def blurred(x):
    """A plane without borders, blurred: what was at i is spread around i + 3/2, and 3 more samples are not 0."""
    kernel = torch.outer(BINOMIAL, BINOMIAL).expand(x.shape[1], 1, 4, 4)
    return conv2d(pad(x, [3, 3, 3, 3]), kernel, groups=x.shape[1])


def upsampled(x):
    """Twice as large, with 2 more samples around, of which some are not 0."""
    n, channels, height, width = x.shape
    spread = x.new_zeros(n, channels, 2 * height + 4, 2 * width + 4)
    spread[:, :, 2:-2:2, 2:-2:2] = x
    return 4 * blurred(spread)[:, :, 1:-2, 1:-2]


def conv(x, weight):
    return conv2d(x, weight, padding=weight.shape[2] // 2)


def conv_up(x, weight):
    """Upsampling, then a true convolution (of the mirrored kernel), on a plane without borders."""
    return conv(upsampled(x), weight.flip(2, 3))[:, :, 2:-2, 2:-2]


def conv_down(x, weight):
    """The blurred plane without borders is convolved, then every other sample kept."""
    return conv(blurred(x), weight)[:, :, 2:-2:2, 2:-2:2]


def drawn(arrays, ws):
    """Images of the skip generator with constant noise (StyleGAN2, section 2 and figure 7b)."""
    arrays = {name.removeprefix("synthesis."): array for name, array in arrays.items()}
    x, image = arrays["b4.const"].expand(len(ws), -1, -1, -1), None
    for level in range(2, int(math.log2(resolution(arrays))) + 1):
        block, first = f"b{2**level}", max(0, 2 * level - 5)
        w = ws.unbind(dim=1)[first:]
        if level > 2:
            x = styled(arrays, f"{block}.conv0", x, w[0], conv_up)
            w = w[1:]
        x = styled(arrays, f"{block}.conv1", x, w[0], conv)
        colour = coloured(arrays, f"{block}.torgb", x, w[1])
        image = colour if image is None else upsampled(image)[:, :, 2:-2, 2:-2] + colour
    return image


def styled(arrays, layer, x, w, convolve):
    """Equations 1 and 3 for one sample after the other, then noise, bias and activation."""
    kernels = arrays[f"{layer}.weight"] * dense(arrays, f"{layer}.affine", w)[:, None, :, None, None]
    kernels = kernels / (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + EPSILON).sqrt()
    x = torch.cat([convolve(x[i : i + 1], kernel) for i, kernel in enumerate(kernels)])
    x = x + arrays[f"{layer}.noise_strength"] * arrays[f"{layer}.noise_const"]
    return activated(x + arrays[f"{layer}.bias"][:, None, None])


def coloured(arrays, layer, x, w):
    weight = arrays[f"{layer}.weight"][:, :, 0, 0] / math.sqrt(x.shape[1])
    colour = torch.einsum("oi,ni,nihw->nohw", weight, dense(arrays, f"{layer}.affine", w), x)
    return colour + arrays[f"{layer}.bias"][:, None, None]


def judged(arrays, images, c, group):
    """Logits of a discriminator of any of the three kinds (StyleGAN2, figure 7): its arrays tell which.

    The last features are projected on the labels' vectors where there are any (Miyato & Koyama 2018, eq. 3).
    """
    x, size = 0, resolution(arrays)
    while True:
        if f"b{size}.fromrgb.weight" in arrays:
            x = x + activated(convolved(arrays, f"b{size}.fromrgb", images, conv))
        if size == 4:
            break
        way = activated(convolved(arrays, f"b{size}.conv0", x, conv))
        way = activated(convolved(arrays, f"b{size}.conv1", way, conv_down))
        residual = f"b{size}.skip.weight" in arrays
        x = (way + convolved(arrays, f"b{size}.skip", x, conv_down)) / math.sqrt(2) if residual else way
        images, size = blurred(images)[:, :, 2:-2:2, 2:-2:2], size // 2
    count = arrays["b4.conv.weight"].shape[1] - x.shape[1]
    x = torch.cat([x, deviations(x, group, count)], dim=1)
    x = activated(convolved(arrays, "b4.conv", x, conv))
    x = dense(arrays, "b4.out", activated(dense(arrays, "b4.fc", x.flatten(1))))
    if "mapping.embed.weight" in arrays:
        x = (x * mapped(arrays, None, c)).sum(dim=1, keepdim=True) / math.sqrt(x.shape[1])
    return x


def convolved(arrays, layer, x, convolve):
    weight = arrays[f"{layer}.weight"]
    x = convolve(x, weight / math.sqrt(weight[0].numel()))
    return x + arrays[f"{layer}.bias"][:, None, None] if f"{layer}.bias" in arrays else x


def deviations(x, group, count):
    """For each sample and each of `count` parts of the channels the mean standard deviation within the sample's group.

    The samples of one group stand as far apart in the batch as there are groups (Progressive GAN, section 3).
    """
    group = min(group, len(x))
    assert len(x) % group == 0
    groups = len(x) // group
    planes = x.new_zeros(len(x), count, 4, 4)
    for sample in range(len(x)):
        for part in range(count):
            share = x.shape[1] // count
            members = x[sample % groups :: groups, part * share : (part + 1) * share]
            spread = (members.var(dim=0, correction=0) + EPSILON).sqrt()
            planes[sample, part] = spread.mean()
    return planes
