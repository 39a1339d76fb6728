"""The files: a row of `FORMATS` for each format says how it is written and how it is opened anew."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from finetune.backbones import Registry
from finetune.export.graph import INPUT, output_of, silence, trace
from finetune.export.orders import Format, Order
from finetune.trained import TrainedModel, open_model

Answers = Callable[[Tensor], Tensor]
"""From what the file's model takes (N, 3, …) to what it answers (N, …), float32 on the CPU."""

LARGEST_PROTOBUF = 2**31 - 2**20  # bytes of a model that fits into one ONNX file, with room for its graph


@dataclass(frozen=True)
class FileFormat:
    """`write(model, order, path)`; `open_anew(path, model, registry)` takes weights from the file alone."""

    file: str
    write: Callable[[TrainedModel, Order, Path], None]
    open_anew: Callable[[Path, TrainedModel, Registry], Answers]


def _copy_weights(model: TrainedModel, order: Order, path: Path) -> None:
    shutil.copyfile(order.weights, path)


def _open_weights(path: Path, model: TrainedModel, registry: Registry) -> Answers:
    return _answers(open_model(path, registry).network, model)


def _save_torch(model: TrainedModel, order: Order, path: Path) -> None:
    state = model.network.state_dict()  # not copied into a plain dict: it has the versions of modules, too
    for name, tensor in state.items():
        state[name] = tensor.contiguous()
    about = dict(sorted(model.about.items()))  # safetensors gives them in another order each time
    with path.open("wb") as file:  # given a path, torch writes the file's name into it
        torch.save({"state_dict": state, **about}, file)


def _open_torch(path: Path, model: TrainedModel, registry: Registry) -> Answers:
    read = torch.load(path, weights_only=True)
    network = registry.find(read["backbone"]).make(read["outputs"], read["preprocessing"]["crop"])
    network.load_state_dict(read["state_dict"])
    return _answers(network.eval(), model)


def _answers(network: nn.Module, model: TrainedModel) -> Answers:
    def answer(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return model.answers_of(network(images))

    return answer


def _save_onnx(model: TrainedModel, order: Order, path: Path) -> None:
    program = trace(model, order.wanted.preprocessing)
    with silence():
        made = torch.onnx.export(
            program, dynamo=True, input_names=[INPUT], output_names=[output_of(model)], verbose=False
        )
    assert made is not None, "the exporter gives a program when it is given no file"
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()  # what the exporter thought, with addresses in memory
    tensors = model.network.state_dict().values()
    made.save(path, external_data=sum(t.nbytes for t in tensors) > LARGEST_PROTOBUF)


def _open_onnx(path: Path, model: TrainedModel, registry: Registry) -> Answers:
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    # Its threads would go on turning after an answer, and take the processor from torch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options)

    def answer(images: Tensor) -> Tensor:
        (answers,) = session.run(None, {INPUT: images.numpy()})
        return torch.from_numpy(answers)

    return answer


def _save_exported(model: TrainedModel, order: Order, path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(trace(model, order.wanted.preprocessing), file)


def _open_exported(path: Path, model: TrainedModel, registry: Registry) -> Answers:
    with silence():
        network = torch.export.load(path).module()

    def answer(images: Tensor) -> Tensor:
        with torch.inference_mode():
            answers: Tensor = network(images)
            return answers

    return answer


FORMATS = {
    Format.SAFETENSORS: FileFormat("model.safetensors", _copy_weights, _open_weights),
    Format.TORCH: FileFormat("model.pt", _save_torch, _open_torch),
    Format.ONNX: FileFormat("model.onnx", _save_onnx, _open_onnx),
    Format.EXPORTED: FileFormat("model.pt2", _save_exported, _open_exported),
}
