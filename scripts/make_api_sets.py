#!/usr/bin/env python3
"""Writes tools/minject/api_sets.c from the schema in an apisetschema.dll (Windows' own or Wine's): which DLL stands
behind each API set. The tool reads the schema of the system it judges when there is one; the table is for the rest.

  make_api_sets.py APISETSCHEMA.DLL > tools/minject/api_sets.c
"""
import collections
import pathlib
import re
import struct
import sys


def read_schema(path):
    """{set without the last number of its version: host}"""
    data = pathlib.Path(path).read_bytes()
    nt, = struct.unpack_from("<I", data, 0x3C)
    count, = struct.unpack_from("<H", data, nt + 6)
    optional, = struct.unpack_from("<H", data, nt + 20)
    for i in range(count):
        name, _, _, size, raw = struct.unpack_from("<8s4I", data, nt + 24 + optional + 40 * i)
        if name.rstrip(b"\0") == b".apiset":
            break
    else:
        raise SystemExit(f"{path} has no section .apiset")
    b, out = data[raw:raw + size], {}
    version, _, _, count, entries = struct.unpack_from("<5I", b)
    assert version == 6
    for i in range(count):
        _, at, _, hashed, values, n = struct.unpack_from("<6I", b, entries + 24 * i)
        for k in range(n):
            _, _, importer, host, length = struct.unpack_from("<5I", b, values + 20 * k)
            if importer == 0 and length:
                out[b[at:at + hashed].decode("utf-16le")] = b[host:host + length].decode("utf-16le").lower()
    return out


def main():
    sets = read_schema(sys.argv[1])
    by_family = collections.defaultdict(collections.Counter)
    for name, host in sets.items():
        by_family[re.sub(r"-l\d+-\d+$", "", name)][host] += 1
    # One row per family; the rare family whose versions differ has a row per version as well.
    rows = {family: hosts.most_common(1)[0][0] for family, hosts in by_family.items()}
    for name, host in sets.items():
        if rows[re.sub(r"-l\d+-\d+$", "", name)] != host:
            rows[name] = host
    print("""// Made by scripts/make_api_sets.py; not edited by hand. Sets without their version, and the DLL behind them.
#include "minject/api_sets.h"

const mi_api_set_row_t mi_api_set_rows[] = {""")
    for name, host in sorted(rows.items()):
        print(f'    {{"{name}", "{host}"}},')
    print("    {0, 0}};")


if __name__ == "__main__":
    main()
