"""What `import cmlib` adds to `import torch`: best of five fresh interpreters each."""

import subprocess
import sys

CODE = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import cmlib
print(middle - start, time.perf_counter() - middle)
"""

runs = [subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True) for _ in range(5)]
torch_seconds, cmlib_seconds = (min(float(run.stdout.split()[i]) for run in runs) for i in range(2))
print(f"import torch {torch_seconds:.2f} s, import cmlib after it {cmlib_seconds:.2f} s")
print(f"ratio {cmlib_seconds / torch_seconds:.2f}")
