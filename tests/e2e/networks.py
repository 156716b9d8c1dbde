"""The six reference networks as targets of the command line and of scripts."""

from pathlib import Path

MODELS = Path(__file__).parents[2] / "models"
NAMES = ("digits_cnn", "digits_mobile", "digits_resnet", "digits_vit", "digits_lstm", "digits_unet")
CONVOLUTIONAL = ("digits_cnn", "digits_mobile", "digits_resnet", "digits_unet")
SIZE = (1, 1, 32, 32)


def target(name):
    """Target and weights."""
    if name == "digits_cnn":
        return str(MODELS / "digits_cnn.pt"), None
    return f"{MODELS / name}.py:{name}", str(MODELS / f"{name}.safetensors")


def data(name):
    """The built-in set that a network was trained on."""
    return "digits-ink" if name == "digits_unet" else "digits"
