#!/usr/bin/env python3
"""The house check must find each kind of broken rule: a small tree with one fault at a time is made and checked."""
import pathlib
import subprocess
import sys
import tempfile

CHECK = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "check_house.py"
GOOD = {"src/base/base.h": "#include <stddef.h>\n", "src/core/page.h": '#include "base/base.h"\n',
        "src/core/page.c": '#include "core/page.h"\nint f(void) {\n    return 1;\n}\n', "tools/minject/main.c": "int a;\n"}
FAULTS = [
    ("upward include", "src/base/base.h", '#include "core/page.h"\n', "may not include"),
    ("redirect includes core", "src/redirect/dll.c", '#include "core/page.h"\n', "may not include"),
    ("include not from src/", "src/core/free.c", '#include "page.h"\n', "not spelled from src/"),
    ("missing header", "src/core/free.c", '#include "core/none.h"\n', "does not exist"),
    ("own header not first", "src/core/page.c", '#include "base/base.h"\n#include "core/page.h"\n', "first include"),
    ("a .c included", "src/core/free.c", '#include "core/page.c"\n', "source file"),
    ("system header in core", "src/core/free.c", "#include <sys/mman.h>\n", "does not belong"),
    ("long file", "src/core/free.c", "int x;\n" * 801, "at most 800"),
    ("long function", "src/core/free.c", "void f(void) {\n" + "    g();\n" * 70 + "}\n", "at most 70"),
    ("thread-local in core", "src/core/free.c", "static _Thread_local int x;\n", "thread-local"),
    ("thread-local in redirect", "src/redirect/crt.c", "int f(void) { return TlsAlloc(); }\n", "turn.c"),
    ("_WIN32 in core", "src/core/free.c", "#ifdef _WIN32\n#endif\n", "_WIN32"),
]


def run(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return subprocess.run([sys.executable, CHECK, "--root", folder], capture_output=True, text=True)


passed = failed = 0
for what, name, text, expected in [("sound tree", None, None, "0 broken rules")] + FAULTS:
    result = run(GOOD if name is None else {**GOOD, name: text})
    if expected in result.stdout and result.returncode == (0 if name is None else 1):
        passed += 1
    else:
        failed += 1
        print(f"{what}: exit code {result.returncode}, expected text {expected!r}, got:\n{result.stdout}")
print(f"{passed} checks passed, {failed} failed")
sys.exit(1 if failed else 0)
