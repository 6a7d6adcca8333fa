"""What the tests of minject and of the PE reader share: checks that are counted, and programs that are run."""
import os
import subprocess
import sys
import tempfile

passed = failed = 0


def check(fact, what):
    global passed, failed
    if fact:
        passed += 1
    else:
        failed += 1
        print(f"failed: {what}", file=sys.stderr)
    return fact


def finish():
    """Says how many; the exit code. No check at all is a failure, too."""
    print(f"{passed} checks passed, {failed} failed")
    return 1 if failed or not passed else 0


def run_bytes(command, cwd, data=b"", timeout=120, **env):
    """(exit code, stdout, stderr as text), through files: Wine's background processes keep pipes open."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(data)
        source.seek(0)
        code = subprocess.run([str(c) for c in command], cwd=cwd, stdin=source, stdout=out, stderr=err, timeout=timeout,
                              env={**os.environ, **env}).returncode
        out.seek(0), err.seek(0)
        return code, out.read(), err.read().decode("utf-8", "replace")


def run(command, cwd, text="", **more):
    """The same with text."""
    code, out, err = run_bytes(command, cwd, text.encode(), **more)
    return code, out.decode("utf-8", "replace"), err
