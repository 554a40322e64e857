"""What simple rules make of the glyphs that training never saw: `python benchmarks/glyph_rules.py`.

Each rule makes the image of a held-out pair (face, symbol) from the training images. It is scored as `langevin evaluate`
scores samples: which of all 1,302 real glyphs is nearest?"""

import torch
from torch import Tensor

from langevin.modalities.image.data import Glyphs, load_parts
from langevin.modalities.image.glyphs import FACES, SYMBOLS, held_out

INK = 255.0


def table() -> tuple[Tensor, Tensor]:
    """Ink (faces, symbols, pixels) in [0, 255], and which of it is trained on (faces, symbols)."""
    ink = {
        caption: INK - image.flatten().float()
        for part in load_parts(Glyphs())
        for caption, image in zip(part.captions or (), part.read(torch.arange(len(part))), strict=True)
    }
    rows = [torch.stack([ink[f"{face} {symbol}"] for symbol in SYMBOLS]) for face in FACES]
    seen = torch.tensor([[not held_out(i, j) for j in range(len(SYMBOLS))] for i in range(len(FACES))])
    return torch.stack(rows), seen


def copied(ink: Tensor, seen: Tensor) -> Tensor:
    """The symbol as the most similar face that has it in training draws it."""
    made = torch.zeros_like(ink)
    for i, j in (~seen).nonzero().tolist():
        made[i, j] = ink[alike(ink, seen, i, j)[0], j]
    return made


def added(ink: Tensor, seen: Tensor) -> Tensor:
    """The face's mean plus the symbol's mean, by least squares over the training images."""
    weight = seen[..., None].float()
    face, symbol = torch.zeros_like(ink[:, :1]), torch.zeros_like(ink[:1])
    for _ in range(50):
        face = ((ink - symbol) * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        symbol = ((ink - face) * weight).sum(0, keepdim=True) / weight.sum(0, keepdim=True)
    return (face + symbol).clamp(0, INK)


def mixed(ink: Tensor, seen: Tensor, count: int = 10) -> Tensor:
    """The symbol in similar faces, mixed with the weights that best make this face's training symbols from theirs."""
    made = torch.zeros_like(ink)
    for i, j in (~seen).nonzero().tolist():
        others = alike(ink, seen, i, j)[:count]
        common = seen[[i, *others]].all(0)
        a, b = ink[others][:, common].flatten(1).T, ink[i, common].flatten()
        made[i, j] = ink[others, j].T @ torch.linalg.lstsq(a, b[:, None]).solution[:, 0]
    return made.clamp(0, INK)


def alike(ink: Tensor, seen: Tensor, face: int, symbol: int) -> list[int]:
    """The faces that have the symbol in training, the most similar first: by the training symbols of both."""
    others = [k for k in range(len(ink)) if k != face and seen[k, symbol]]
    both = {k: seen[face] & seen[k] for k in others}
    return sorted(others, key=lambda k: float((ink[face, both[k]] - ink[k, both[k]]).norm(dim=1).mean()))


def main() -> None:
    ink, seen = table()
    print("rule                              own glyph  letter  face")
    for rule in (copied, added, mixed):
        pairs = (~seen).nonzero()
        near = torch.cdist(rule(ink, seen)[~seen], ink.flatten(0, 1)).argmin(1)
        face, symbol = near // len(SYMBOLS) == pairs[:, 0], near % len(SYMBOLS) == pairs[:, 1]
        shares = [float(right.double().mean()) for right in (face & symbol, symbol, face)]
        print(f"{rule.__name__:32}" + "".join(f"{share:9.3f}" for share in shares))


if __name__ == "__main__":
    main()
