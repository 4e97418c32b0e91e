"""Cuts symbols out of the compiled modules below a folder. `python3 scripts/strip_symbols.py FOLDER`

Some packages publish modules of which nine tenths are symbols, and an image has no use for them. `strip` would do the
same, but neither the base image nor PyPI has it. Here: the program headers of an ELF file tell what is loaded; what
stands behind the last byte of it goes, and with it the table of sections.
"""

import struct
import sys
from pathlib import Path

# The ELF header of 64 bit, little-endian: 16 bytes that identify it, type, machine, version, entry, where the program
# headers are, where the sections' table is, flags, own size; size and number of the former, and of the latter; names.
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
IDENTITY = b"\x7fELF\x02\x01"


def stripped(module: bytes) -> bytes:
    """The module without symbols; anything else than such an ELF file is returned as it is."""
    if len(module) < HEADER.size or not module.startswith(IDENTITY):
        return module
    *front, table, _, flags, own_size, entry_size, entries, section_size, _, _ = HEADER.unpack_from(module)
    ends = [table + entry_size * entries]
    for number in range(entries):
        _, _, offset, _, _, size, _, _ = PROGRAM_HEADER.unpack_from(module, table + number * entry_size)
        ends.append(offset + size)
    no_sections = (*front, table, 0, flags, own_size, entry_size, entries, section_size, 0, 0)
    return HEADER.pack(*no_sections) + module[HEADER.size : max(ends)]


def main(folder: Path) -> None:
    before = after = 0
    for file in sorted(folder.rglob("*.so*")):
        if file.is_symlink() or not file.is_file():
            continue
        module = file.read_bytes()
        smaller = stripped(module)
        file.write_bytes(smaller)
        before, after = before + len(module), after + len(smaller)
    print(f"compiled modules: {before / 1e6:.1f} MB, without symbols {after / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
