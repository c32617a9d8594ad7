"""The example project with the installed package: `dg` checks and lists it, and materializes a cell to its snapshot.

Run by the interpreter of an environment that has the package from its wheel, and dagster-dg-cli.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from embedding_assets.sandbox import Sandbox

EXAMPLE = Path(__file__).parents[1] / "examples" / "dagster_project"
DG = Path(sys.executable).with_name("dg")
SNAPSHOTS = "receipts/snapshots"


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        project = shutil.copytree(EXAMPLE, folder / "project")
        for name in ("store", "home"):
            (folder / name).mkdir()
        (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        with Sandbox.start(folder / "sandbox", api_key="key-of-the-project") as sandbox:
            environment = {
                **os.environ,
                "DAGSTER_HOME": str(folder / "home"),
                "PYTHONPATH": str(project / "src"),
                "SHOP_STORE": f"file://{folder}/store",
                "SHOP_MODEL": "wordllama-256",
                "OPENAI_BASE_URL": sandbox.base_url,
                "OPENAI_API_KEY": sandbox.api_key,
            }

            def dg(*words: str) -> str:
                print("dg", *words, flush=True)
                done = subprocess.run(
                    [str(DG), *words], cwd=project, env=environment, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    sys.exit(f"{done.stdout}\n{done.stderr}\ndg {' '.join(words)} ended with {done.returncode}")
                return done.stdout

            assert "embedding_assets.components.EmbeddingCollections" in dg("list", "components", "--json")
            dg("check", "yaml")
            dg("check", "defs")
            listed = json.loads(dg("list", "defs", "--json"))
            assert SNAPSHOTS in {asset["asset_key"] for asset in listed["assets"]}
            cell = f"lines|{datetime.now(timezone.utc).date()}"
            dg("launch", "--assets", "key:receipts/embedding_requests", "--partition", cell)
            deadline = time.monotonic() + 120
            while not any((folder / "store" / "lines" / "delta").glob("*/*/manifest.json")):
                assert time.monotonic() < deadline, "the batch does not finish"
                dg("launch", "--assets", "key:receipts/batch_results or key:receipts/deltas", "--partition", cell)
            dg("launch", "--assets", f"key:{SNAPSHOTS}", "--partition", "lines")
            count = len(list((folder / "store" / "lines" / "snapshot" / "log").glob("*.json")))
            assert count == 1, f"{count} snapshots were committed"
    print("the example project works with the installed package")


main()
