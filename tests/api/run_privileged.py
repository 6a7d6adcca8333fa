"""A set-uid program does not trust the variables that its caller wrote; the same program without that right does.

usage: run_privileged.py program

Exit codes: 0 good, 1 failed, 77 skipped: not root, or the folder for temporary files forbids set-uid.
"""
import os
import shutil
import subprocess
import sys
import tempfile

NOBODY = 65534


def drop():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def main():
    if os.getuid() != 0:
        print("skipped: making a set-uid program needs root")
        return 77
    env = {"MIMALLOC_VERBOSE": "3", "MI_VERBOSE": "3", "MIMALLOC_PURGE_DELAY": "4711"}
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = os.path.join(folder, "program")
        shutil.copy(sys.argv[1], program)
        for mode in (0o755, 0o4755):
            os.chmod(program, mode)
            done = subprocess.run([program], env=env, preexec_fn=drop, capture_output=True, text=True, timeout=100,
                                  check=True)
            seen.append((done.stdout, done.stderr))
            print(oct(mode), done.stdout, end="")
    if "secure 0" in seen[1][0]:
        print("skipped: set-uid has no effect in", tempfile.gettempdir())
        return 77
    good = "verbose 3 delay 4711" in seen[0][0] and "verbose 0" in seen[1][0] and "4711" not in seen[1][0] and not seen[1][1]
    print("good" if good else f"failed: {seen}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
