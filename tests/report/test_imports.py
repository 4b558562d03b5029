import subprocess
import sys

HEAVY = ("torch", "transformers", "matplotlib", "datasets", "pyarrow")
SCRIPT = """
import pkgutil, importlib, sys, manako.report as room
for module in pkgutil.iter_modules(room.__path__):
    importlib.import_module(f"manako.report.{module.name}")
from manako.report.samples import write_samples_page
from pathlib import Path
write_samples_page([], Path(sys.argv[1]), lang="ja")
print(*sorted(name for name in sys.argv[2:] if name in sys.modules))
"""


def test_a_report_opens_without_any_framework(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "page.html"), *HEAVY]
    found = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8")
    assert found.stdout.split() == []
    assert (tmp_path / "page.html").is_file()
