"""What the scripts know of a notebook: its code, its parameters, its figures, its normal form."""

import ast
import copy
import hashlib
import json
from pathlib import Path


def read_notebook(path: Path) -> dict:
    """Return a notebook's JSON.

    Raises:
        ValueError: naming the file, when it holds no notebook.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
        whole = isinstance(notebook["metadata"], dict) and all(
            isinstance(cell["source"], str | list)
            and isinstance(cell["metadata"], dict)
            and (cell["cell_type"] != "code" or isinstance(cell["outputs"], list))
            for cell in cells
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a notebook: {type(error).__name__}: {error}") from None
    if not whole:
        raise ValueError(f"{path}: not a notebook: a cell without source, metadata or outputs of its kind")
    return notebook


def source(cell: dict) -> str:
    return "".join(cell["source"])


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def code_digest(path: Path) -> str:
    """Return a hash of what is executed, which outputs, prose and captions do not change."""
    cells = [(source(cell), tags(cell)) for cell in code_cells(read_notebook(path))]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def declared_parameters(notebook: dict) -> dict[str, str]:
    """Return name -> annotation from the cell tagged `parameters`."""
    cells = [source(cell) for cell in code_cells(notebook) if "parameters" in tags(cell)]
    statements = ast.parse("\n".join(cells)).body
    return {s.target.id: ast.unparse(s.annotation) for s in statements if isinstance(s, ast.AnnAssign)}


def default_values(notebook: dict) -> dict[str, object]:
    """Return name -> value from the cell tagged `parameters`."""
    cells = [source(cell) for cell in code_cells(notebook) if "parameters" in tags(cell)]
    statements = ast.parse("\n".join(cells)).body
    return {s.target.id: ast.literal_eval(s.value) for s in statements if isinstance(s, ast.AnnAssign)}


def title_of(notebook: dict) -> str:
    """Return the title in the first cell.

    Raises:
        ValueError: when there is none.
    """
    first = source(notebook["cells"][0]) if notebook["cells"] else ""
    titles = [line for line in first.splitlines() if line.startswith("# ")]
    if not titles:
        raise ValueError("a chapter begins with a title, `# ...`")
    return titles[0].removeprefix("# ").strip()


def record_of(notebook: dict) -> dict:
    """Return what a run left in the notebook: its evidence, its address, a hash of its outputs, its machine."""
    return notebook["metadata"].get("cmlib", {})


def outputs_digest(notebook: dict, claims: list[dict]) -> str:
    """Return a hash of what the cells printed and showed, and of the evidence, whatever the prose."""
    outputs = [_whole_texts(cell.get("outputs", [])) for cell in code_cells(notebook)]
    return hashlib.sha256(json.dumps([outputs, claims], sort_keys=True).encode()).hexdigest()[:16]


def figures_of(cell: dict) -> list[dict]:
    """Return {figure, alt} of each figure among the cell's outputs."""
    outputs = cell.get("outputs", [])
    return [out["metadata"]["cmlib"] for out in outputs if "cmlib" in out.get("metadata", {})]


def _whole_texts(value: object) -> object:
    # a text is one string in memory and a list of lines in a file
    if isinstance(value, dict):
        return {key: _whole_texts(item) for key, item in value.items()}
    if isinstance(value, list):
        whole = value and all(isinstance(item, str) for item in value)
        return "".join(value) if whole else [_whole_texts(item) for item in value]
    return value


def normalised(notebook: dict, record: dict) -> str:
    """Return the notebook's text without what changes from run to run, and with its record."""
    import nbformat  # here, because half a second is much for a run with nothing to do

    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        for key in ("papermill", "execution", "jupyter"):
            cell.metadata.pop(key, None)
        if cell.metadata.get("tags") == []:
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
        "cmlib": record | {"content": outputs_digest(notebook, record.get("claims", []))},
    }
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _joined(outputs: list) -> list:
    # on a busy machine one print may arrive in two pieces
    whole = []
    for output in outputs:
        if whole and output.output_type == whole[-1].output_type == "stream" and output.name == whole[-1].name:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def merged(notebook: dict, executed: dict) -> dict:
    """Return the notebook with the executed copy's outputs; a cell of injected values stays visible.

    Raises:
        ValueError: when the two do not have the same code.
    """
    results, cells = iter(code_cells(executed)), []
    for cell in copy.deepcopy(notebook["cells"]):
        if cell["cell_type"] == "code":
            result = next(results)
            if "injected-parameters" in tags(result):
                cells.append(result)
                result = next(results)
            if source(result) != source(cell):
                raise ValueError(f"the executed copy has other code: {source(cell).splitlines()[0]!r}")
            cell |= {"outputs": result["outputs"], "execution_count": result["execution_count"]}
        cells.append(cell)
    return executed | {"cells": cells}
