"""Findings on image data: what is broken, missing or unusual."""

from dataclasses import dataclass

from langevin.modalities.paths import some


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """Findings on image data.

    Args:
        broken: (name, reason) of images that cannot be read; they are left out.
        absent: files that captions describe and that do not exist.
        without_caption: images without a caption though others have one; theirs is empty.
        captions_unreadable: (name, reason) of captions that cannot be read; they are taken as empty.
        records_unreadable: (file and line, reason) of records of metadata; they are left out.
        without_label: images without a label though others have one; they are trained on without their class.
        singletons: classes with a single image.
        remarks: other findings, as whole sentences.
    """

    broken: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    without_caption: tuple[str, ...] = ()
    captions_unreadable: tuple[tuple[str, str], ...] = ()
    records_unreadable: tuple[tuple[str, str], ...] = ()
    without_label: tuple[str, ...] = ()
    singletons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One sentence per kind of finding; empty if there are none."""
        findings = (
            ("Image files that cannot be read, left out", [f"{name} {reason}" for name, reason in self.broken]),
            ("Captions of files that do not exist", self.absent),
            ("Images without a caption, given an empty one", self.without_caption),
            (
                "Captions that cannot be read, taken as empty",
                [f"{n} {reason}" for n, reason in self.captions_unreadable],
            ),
            ("Records that cannot be read, left out", [f"{n} {reason}" for n, reason in self.records_unreadable]),
            ("Images without a label, trained on without their class", self.without_label),
            ("Classes with a single image", self.singletons),
        )
        return [f"{what}: {len(names):,} ({some(names)})." for what, names in findings if names] + list(self.remarks)
