"""Plays the step of every pipeline file that rehearses, as the pipeline would, for check.sh.

Gets the program and a folder with `recording` and `checkgate.yaml`. Each step must end with 1, as the recording holds a
block, and leave every report that it names.
"""

import os
import pathlib
import re
import subprocess
import sys

from ruamel.yaml import YAML

HERE = pathlib.Path(__file__).parent
PROGRAM = "checkgate-source/target/release/checkgate"


def texts(node):
    """Every text of a document."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)


def steps(file):
    """The scripts of a pipeline file that rehearse."""
    if file.suffix == ".yml":
        scripts = texts(YAML(typ="safe").load(file))
    else:
        # Groovy reads two backslashes as one.
        scripts = (text.replace("\\\\", "\\") for text in re.findall(r"'''(.*?)'''", file.read_text(), re.S))
    return [script for script in scripts if f"{PROGRAM} rehearse" in script]


def play(file, binary, folder):
    [script] = steps(file)
    place = folder / file.name.split(".")[0]
    place.mkdir()
    for name in ("recording", "checkgate.yaml"):
        (place / name).symlink_to(folder / name)
    script = script.replace(PROGRAM, str(binary)).replace("/tmp/recording", "recording")
    temporary = {"RUNNER_TEMP": ".", "AGENT_TEMPDIRECTORY": "."}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=place, env={**os.environ, **temporary}, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 1, f"{file.name} ended with {done.returncode}: {done.stderr}"
    reports = re.findall(r"--write [a-z]+=(\S+)", script)
    assert reports, f"{file.name} keeps no report"
    for report in reports:
        assert (place / report).stat().st_size > 0, f"{file.name}: {report} is empty"
    print(f"{file.name}: ends with 1, and leaves {', '.join(reports)}")


def main(binary, folder):
    for file in [*sorted(HERE.glob("*.yml")), HERE / "Jenkinsfile"]:
        play(file, binary, folder)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
