import subprocess
import sys

LIGHT = "finetune.spec, finetune.recipes, finetune.lr, finetune.events, finetune.errors, finetune.predictions"


def test_spec_recipes_rates_events_errors_and_predictions_load_without_torch():
    heavy = "[name for name in ('torch', 'torchvision', 'numpy') if name in sys.modules]"
    code = f"import sys, finetune, {LIGHT}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_train_is_the_same_function_however_often_and_after_whatever_it_is_asked_for():
    code = "import finetune, finetune.training; f = finetune.train; print(finetune.train is f, callable(f))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
