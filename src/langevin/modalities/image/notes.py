"""What a reader of the data should know: what was found broken, absent or odd, in words."""

from dataclasses import dataclass

from langevin.modalities.paths import some


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a reader of the data should know: each field counts and names, `lines()` says it in words.

    `broken` and `captions_unreadable` hold (name, reason) pairs, the other fields names: images `without_caption` though
    others have one (theirs is empty), captions of `absent` files, images `without_label` though others have one (set
    aside), classes that are `singletons`; `remarks` are whole sentences.
    """

    broken: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    without_caption: tuple[str, ...] = ()
    captions_unreadable: tuple[tuple[str, str], ...] = ()
    without_label: tuple[str, ...] = ()
    singletons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Plain sentences, one for each kind of thing found; empty where there is nothing to say."""
        found = (
            ("Image files that cannot be read, set aside", [f"{name} {reason}" for name, reason in self.broken]),
            ("Captions of files that are not there", self.absent),
            ("Images without a caption, given an empty one", self.without_caption),
            (
                "Captions that cannot be read, taken as empty",
                [f"{n} {reason}" for n, reason in self.captions_unreadable],
            ),
            ("Images without a label, set aside", self.without_label),
            ("Classes with a single image", self.singletons),
        )
        return [f"{what}: {len(names):,} ({some(names)})." for what, names in found if names] + list(self.remarks)
