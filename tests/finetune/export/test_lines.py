import itertools
import re
from pathlib import Path

import pytest

from finetune.export.lines import checkpoint_lines, lines_of
from finetune.export.orders import Format

DOCUMENT = (Path(__file__).parents[3] / "docs" / "loading.md").read_text()
ANSWERS, BUILDERS = ("classes", "labels", "embedding"), ("torchvision", "timm", "own")
# What may be imported by whom: the weights need torchvision, a graph that prepares images does not.
NEEDED = {
    (Format.ONNX, True): {"json", "numpy", "onnxruntime", "PIL"},
    (Format.ONNX, False): {"json", "numpy", "onnxruntime", "PIL", "torch", "torchvision"},
    (Format.EXPORTED, True): {"json", "numpy", "PIL", "torch"},
    (Format.EXPORTED, False): {"json", "PIL", "torch", "torchvision"},
    (Format.TORCH, False): {"PIL", "torch", "torchvision", "timm"},
    (Format.SAFETENSORS, False): {"json", "PIL", "torch", "torchvision", "safetensors", "timm"},
}


@pytest.mark.parametrize(("opened", "inside"), NEEDED)
def test_lines_are_python_and_import_no_more_than_they_need(opened, inside):
    for answer, builder in itertools.product(ANSWERS, BUILDERS):
        lines = lines_of(opened, answer, builder, "model.x", inside)
        compile(lines, "lines", "exec")
        imported = set(re.findall(r"^ *(?:import|from) (\w+)", lines, re.MULTILINE))
        assert imported <= NEEDED[opened, inside]
        assert "model.x" in lines
        assert ("your_network(" in lines) is (builder == "own" and not opened.is_graph)


def test_lines_of_a_checkpoint_are_those_of_the_documentation():
    classify, _, embed, *_ = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    for objective, lines in (("cross_entropy", classify), ("triplet", embed)):
        spec = {"objective": {"name": objective}, "backbone": {"name": "resnet18"}}
        assert checkpoint_lines(spec) == lines
