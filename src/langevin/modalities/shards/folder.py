"""The shards of a folder as one folder of files.

Names of shards that begin with `train` and `val` (or `valid`, `validation`, `dev`, `test`) are parts: their files are in
folders of these names. Where shards use the same names for different files, each file's name begins with that of its
shard. Files `.json` and `.cls` of the key of another file describe it, and are read as a `metadata.jsonl`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath

from langevin.files import read_regular
from langevin.modalities.shards.index import indexed
from langevin.modalities.shards.shard import SUFFIX, BadShard, Changed, Member, Shard, scanned

MANIFEST = "shards.json"  # which shards there are, beside those that were packed here
METADATA = "metadata.jsonl"
_PARTS = ("test", "valid", "validation", "val", "dev")
_DESCRIBING = (".json", ".cls")
_TEXT = ".txt"
LONGEST = 2**20  # bytes of a description; larger files are none
_OPENED = set[Path]()  # folders whose shards were opened


@dataclass(frozen=True, kw_only=True, eq=False)
class Shards:
    """The files of some shards by name, with `/` between folders.

    Args:
        files: the shard and the member of each name.
        made: files that are in no shard, such as the records of descriptions.
        remarks: sentences on what is not read, or read otherwise.
    """

    shards: tuple[Shard, ...]
    files: Mapping[str, tuple[int, Member]]
    made: Mapping[str, bytes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @cached_property
    def folders(self) -> frozenset[str]:
        """The folders in which files are."""
        return frozenset(str(folder) for name in self.names for folder in PurePosixPath(name).parents)

    @cached_property
    def names(self) -> list[str]:
        """Every file, sorted."""
        return sorted({*self.files, *self.made})

    def __contains__(self, name: str) -> bool:
        return name in self.files or name in self.made

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return len(self.made[name]) if name in self.made else self.files[name][1].size

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises `Changed` or `OSError` if they cannot be read."""
        if name in self.made:
            return self.made[name]
        shard, member = self.files[name]
        return self.shards[shard].read(member)


def shards_at(path: Path) -> Shards | None:
    """The shards of a folder, or the shard that is a file; None without any. An index is kept while nothing changes.

    Raises:
        BadShard: one of them is cut short, damaged or missing."""
    try:
        found = _archives(path, path.stat().st_mtime_ns)
    except OSError:
        return None
    if not found:
        return None
    _OPENED.add(path.absolute())
    return _opened(path, found)


def were_opened(path: Path) -> bool:
    """Whether the shards of a folder were listed in this process: only then does a path into it lead to them, so that no
    archive that lies about is read for a name that does not exist."""
    return path.absolute() in _OPENED


def is_shard(path: Path) -> bool:
    """Whether a file is one, by its name."""
    return path.suffix.lower() == SUFFIX and path.is_file()


@lru_cache(maxsize=4096)
def _archives(path: Path, changed: int) -> tuple[tuple[str, int, int], ...]:
    """(name, size, time of change) of the archives at a path, which was `changed` last at that time."""
    files = [path]
    if not is_shard(path):
        files = sorted(p for p in path.iterdir() if not p.name.startswith(".") and is_shard(p)) if path.is_dir() else []
    stats = [(file.name, file.stat()) for file in files]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=8)
def _opened(path: Path, archives: tuple[tuple[str, int, int], ...]) -> Shards:
    folder = path.parent if path.is_file() else path
    packed = _packed(folder)
    alone = path.is_file() and path.name in packed.sizes  # without the metadata beside it, which it was packed with
    shards = [scanned(path)] if alone and packed.derived else [indexed(folder / name) for name, _, _ in archives]
    remarks = [] if path.is_file() else _complete(folder, shards, packed)
    shards, more = _without_copies(shards)
    files, twice = _named(shards)
    refused = [(f"{shard.path.name}: {_shown(name)}", reason) for shard in shards for name, reason in shard.refused]
    derived = tuple(suffix for suffix in packed.derived if not (alone and suffix == ".json"))
    kept, others = dict[str, tuple[int, Member]](), dict[str, tuple[int, Member]]()
    for name, (number, member) in files.items():
        if shards[number].path.name not in packed.sizes:
            others[name] = number, member
        elif not name.lower().endswith(derived or ("\0",)):
            (others if alone else kept)[name] = number, member
    others, made = _described(shards, others, path)
    files = kept | others
    empty = [shard.path.name for shard in shards if not shard.members]
    remarks += more
    if refused:
        shown = "; ".join(f"{name} {reason}" for name, reason in refused[:3])
        remarks.append(f"In shards, not read: {len(refused):,} ({shown}).")
    if twice:
        remarks.append(f"Files of one name in several shards: {twice:,}; the name of its shard is put before each.")
    if empty:
        remarks.append(f"Shards without files: {len(empty):,} ({', '.join(empty[:3])}).")
    return Shards(shards=tuple(shards), files=files, made=made, remarks=tuple(remarks))


@dataclass(frozen=True, kw_only=True)
class _Packed:
    """Which shards were packed here, with their sizes; `derived` are suffixes of files that say what others say too."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    derived: tuple[str, ...] = ()


def _packed(folder: Path) -> _Packed:
    try:
        tree = json.loads(read_regular(folder / MANIFEST, most=2**28))
        sizes = {str(name): int(size) for name, size in tree["shards"]}
        return _Packed(sizes=sizes, derived=tuple(map(str, tree["derived"])))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return _Packed()


def _shown(name: str) -> str:
    """A name without what would change how a terminal shows it."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _complete(folder: Path, shards: Sequence[Shard], packed: _Packed) -> list[str]:
    """Remarks on numbers that are missing among the shards.

    Raises:
        BadShard: one is missing that was packed, or is of another size."""
    sizes = {shard.path.name: shard.size for shard in shards}
    for name, size in packed.sizes.items():
        if name not in sizes:
            raise BadShard(f"{folder / name} is missing, which {MANIFEST} lists: fetch it, or pack the data again")
        if sizes[name] != size:
            raise BadShard(
                f"{folder / name} has {sizes[name]:,} bytes, and {size:,} were packed: fetch it, or pack the data, again"
            )
    others = sorted(set(sizes) - set(packed.sizes)) if packed.sizes else []
    remarks = [f"Shards that {MANIFEST} does not list, read too: {', '.join(others[:3])}."] if others else []
    numbers = defaultdict[str, list[int]](list)
    for name in sizes:
        if match := re.search(r"^(.*?)(\d+)\.tar$", name, re.IGNORECASE):
            numbers[match[1]].append(int(match[2]))
    for prefix, found in numbers.items():
        gaps = sorted(set(range(min(found), max(found))) - set(found)) if max(found) - min(found) < 10**6 else []
        if gaps and len(found) > 2 and len(gaps) < len(found):
            remarks.append(
                f"Shards {prefix}* are not numbered throughout: missing are {', '.join(map(str, gaps[:5]))}."
            )
    return remarks


def _without_copies(shards: Sequence[Shard]) -> tuple[list[Shard], list[str]]:
    """The shards without those that hold the same files as an earlier one, and a remark."""
    first, copies = dict[object, Shard](), list[str]()
    for shard in shards:
        key = tuple((m.name, m.size, m.sha256) for m in shard.members)
        twin = first.setdefault(key if key else shard.path, shard)
        if twin is not shard and _same(twin, shard):
            copies.append(f"{shard.path.name} of {twin.path.name}")
        elif twin is not shard:
            first[shard.path] = shard
    return list(first.values()), [f"Shards that are copies, left out: {', '.join(copies[:3])}."] * bool(copies)


def _same(one: Shard, other: Shard) -> bool:
    """Whether two shards with equal names, sizes and known hashes hold equal bytes."""
    pairs = list(zip(one.members, other.members))
    try:
        return all(one.read(a) == other.read(b) for a, b in pairs)
    except OSError:
        return False


def _named(shards: Sequence[Shard]) -> tuple[dict[str, tuple[int, Member]], int]:
    """The files by the names that they are read by, and how many names are those of several files."""
    own = [_part_of(shard.path.stem) for shard in shards]
    parted = "train" in own and len(set(own)) > 1
    count = defaultdict[str, int](int)
    for shard, part in zip(shards, own):
        for member in shard.members:
            count[f"{part}/{member.name}" if parted and part else member.name] += 1
    twice = sum(n > 1 for n in count.values())
    files = dict[str, tuple[int, Member]]()
    for number, (shard, part) in enumerate(zip(shards, own)):
        for member in shard.members:
            folder, slash, name = member.name.rpartition("/")
            name = f"{folder}{slash}{shard.path.stem}~{name}" if twice else member.name
            files[f"{part}/{name}" if parted and part else name] = (number, member)
    return files, twice


def _part_of(stem: str) -> str:
    return next((part for part in ("train", *_PARTS) if re.match(rf"{part}(?![a-z])", stem.lower())), "")


def key_of(name: str) -> str:
    """The key of a file's example: its name up to the first dot after the last `/`."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _described(
    shards: Sequence[Shard], files: dict[str, tuple[int, Member]], folder: Path
) -> tuple[dict[str, tuple[int, Member]], dict[str, bytes]]:
    """The files without those that describe others of their key, and the records that these make."""
    groups = defaultdict[str, list[str]](list)
    for name in files:
        groups[key_of(name)].append(name)
    records, taken = list[str](), set[str]()
    listed = any(PurePosixPath(name).name.lower() in (METADATA, "metadata.csv") for name in files)
    listed = listed or any((folder / name).is_file() for name in (METADATA, "metadata.csv"))
    for names in groups.values():
        about = [name for name in names if PurePosixPath(name).suffix.lower() in _DESCRIBING]
        things = [name for name in names if name not in about and not name.lower().endswith(_TEXT)]
        if not about or not things:
            continue
        taken.update(about)
        if not listed:
            texts = [name for name in names if name.lower().endswith(_TEXT)]
            short = [(name, *files[name]) for name in about + texts if files[name][1].size <= LONGEST]
            said = _said([(PurePosixPath(n).suffix.lower(), shards[place].read(member)) for n, place, member in short])
            records += [json.dumps({**said, "file_name": thing}) for thing in sorted(things)] if said else []
    kept = {name: place for name, place in files.items() if name not in taken}
    return kept, {METADATA: "\n".join(sorted(records)).encode()} if records else {}


def _said(contents: Sequence[tuple[str, bytes]]) -> dict[str, object]:
    """What files of one key say: fields of a JSON object, a class, a text. What cannot be read says nothing."""
    said = dict[str, object]()
    for suffix, content in contents:
        text = content.decode("utf-8-sig", "replace").strip()
        if suffix == ".cls":
            said.setdefault("label", text)
        elif suffix == _TEXT:
            said.setdefault("text", text)
        else:
            try:
                tree = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(tree, dict):
                said |= {str(k): v for k, v in tree.items() if isinstance(v, str | int | float)}
    return said


__all__ = ["MANIFEST", "BadShard", "Changed", "Shards", "is_shard", "key_of", "shards_at", "were_opened"]
