"""A folder with `steps` and `pipelines` of its own, as ZenML's own projects have, hides none of ours."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = f"""
import sys
from pathlib import Path
sys.path[:0] = [{{here!r}}, {str(ROOT)!r}]
{{before}}
from selftrain.adapters.process.own_packages import own_packages_first
with own_packages_first(Path({str(ROOT)!r})):
    import steps
print(steps.__file__, sys.path[0])
"""


def run(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "steps").mkdir()
    (folder / "steps" / "__init__.py").write_text("")
    program = PROGRAM.format(here=str(folder), before=before)
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)


def test_our_steps_are_found_before_those_of_the_current_folder(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.stdout.split() == [str(ROOT / "steps" / "__init__.py"), str(tmp_path)]


def test_a_process_that_has_loaded_others_is_told_to_start_selftrain_by_itself(tmp_path: Path) -> None:
    done = run(tmp_path, "import steps")
    assert f"the package 'steps' of {tmp_path}/steps is loaded" in done.stderr.splitlines()[-1]
