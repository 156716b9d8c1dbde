"""Small packages that look to netgauge as timm, torchvision and transformers do; the zoos themselves are optional.

What they imitate is written down in the zoos' own documentation; tests/zoo runs the same on the real ones.
"""

TIMM = {
    "timm/__init__.py": """
        import torch
        from torch import nn

        CALLS = []
        SIZES = {"small": (3, 32, 32), "fixed": (1, 8, 8)}

        class Net(nn.Module):
            def __init__(self, size, num_classes, in_chans):
                super().__init__()
                self.conv = nn.Conv2d(in_chans or size[0], 4, 3, padding=1)
                self.head = nn.Linear(4, num_classes)
                self.pretrained_cfg = {"input_size": size, "fixed_input_size": size[0] == 1}

            def forward(self, x):
                return self.head(self.conv(x).mean((2, 3)))

        def list_models():
            return list(SIZES)

        def is_model(name):
            return name.partition(".")[0] in SIZES

        def create_model(name, pretrained=False, num_classes=10, in_chans=None, img_size=None):
            CALLS.append((name, pretrained))
            assert pretrained is False
            return Net(SIZES[name.partition(".")[0]], num_classes, in_chans)
    """,
}

_BUILDER = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self, convolution, pictures=1, **options):
            super().__init__()
            self.conv, self.pictures, self.options = convolution, pictures, options

        def forward(self, x, y=None):
            if isinstance(x, list):
                return [self.conv(one[None]) for one in x]
            return self.conv(x) if y is None else self.conv(x) - self.conv(y)
"""
TORCHVISION = {
    "torchvision/__init__.py": "",
    "torchvision/models/__init__.py": """
        from functools import partial
        from types import SimpleNamespace

        from torchvision.models import resnet, vit
        from torchvision.models.detection import detector
        from torchvision.models.optical_flow import flow
        from torchvision.models.segmentation import fcn
        from torchvision.models.video import film

        BUILDERS = {f.__name__: f for f in (
            *(resnet.plain, resnet.unpublished, resnet.googlenet, vit.vit),
            *(fcn.fcn, detector.detector, film.film, flow.flow),
        )}
        def entry(**keywords):
            return SimpleNamespace(transforms=partial(dict, **keywords))
        WEIGHTS = {
            "plain": [entry(crop_size=96), entry(crop_size=64)],
            "vit": [entry(crop_size=48)],
            "fcn": [entry(resize_size=40)],
            "film": [entry(crop_size=(24, 24))],
            "googlenet": [entry(crop_size=32)],
        }

        def list_models():
            return sorted(BUILDERS)

        def get_model_builder(name):
            return BUILDERS[name]

        def get_model_weights(name):
            if name not in WEIGHTS:
                raise ValueError("no weights")
            return WEIGHTS[name]
    """,
    "torchvision/models/base.py": _BUILDER,
    "torchvision/models/resnet.py": """
        from torch import nn
        from torchvision.models.base import Net

        def plain(*, weights=None, num_classes=4):
            assert weights is None
            return Net(nn.Conv2d(3, num_classes, 3))

        def unpublished(*, weights=None):
            return Net(nn.Conv2d(3, 2, 3))

        def googlenet(*, weights=None, init_weights=None):
            assert init_weights is False
            return Net(nn.Conv2d(3, 2, 3))
    """,
    "torchvision/models/vit.py": """
        from torch import nn
        from torchvision.models.base import Net

        def vit(*, weights=None, image_size=16):
            net = Net(nn.Conv2d(3, 2, 3))
            net.image_size = image_size
            return net
    """,
    "torchvision/models/segmentation/__init__.py": "",
    "torchvision/models/segmentation/fcn.py": """
        from torch import nn
        from torchvision.models.base import Net

        def fcn(*, weights=None, weights_backbone="downloaded"):
            assert weights_backbone is None
            return Net(nn.Conv2d(3, 2, 3))
    """,
    "torchvision/models/detection/__init__.py": "",
    "torchvision/models/detection/detector.py": """
        from types import SimpleNamespace
        from torch import nn
        from torchvision.models.base import Net

        def detector(*, weights=None, weights_backbone="downloaded", **kwargs):
            assert weights_backbone is None
            net = Net(nn.Conv2d(3, 2, 3))
            net.transform = SimpleNamespace(min_size=(20,), fixed_size=None)
            return net
    """,
    "torchvision/models/video/__init__.py": "",
    "torchvision/models/video/film.py": """
        from torch import nn
        from torchvision.models.base import Net

        def film(*, weights=None):
            return Net(nn.Conv3d(3, 2, 3))
    """,
    "torchvision/models/optical_flow/__init__.py": "",
    "torchvision/models/optical_flow/flow.py": """
        from torch import nn
        from torchvision.models.base import Net

        def flow(*, weights=None):
            return Net(nn.Conv2d(3, 2, 3))
    """,
}
MISFIT = {
    "torchvision/__init__.py": 'raise RuntimeError("operator torchvision::nms does not exist")',
    "timm/__init__.py": "import torchvision",
}

TRANSFORMERS = {
    "huggingface_hub/__init__.py": "from huggingface_hub import constants",
    "huggingface_hub/constants.py": "HF_HUB_OFFLINE = False\nENDPOINT = 'https://hub.invalid'",
    "transformers/__init__.py": """
        import torch
        from torch import nn
        from huggingface_hub import constants

        SEEN = []

        class logging:
            bars = True

            @classmethod
            def is_progress_bar_enabled(cls):
                return cls.bars

            @classmethod
            def disable_progress_bar(cls):
                cls.bars = False

            @classmethod
            def enable_progress_bar(cls):
                cls.bars = True

        class Config:
            model_type = ""
            attribute_map = {}
            dtype = None
            use_cache = True

            def __init__(self, **values):
                for name, value in values.items():
                    setattr(self, self.attribute_map.get(name, name), value)

            def to_dict(self):
                return dict(vars(self))

            @classmethod
            def from_dict(cls, values):
                SEEN.append(values)
                return cls(**values)

        class TextConfig(Config):
            model_type = "text"
            attribute_map = {"num_hidden_layers": "n_layer"}

            def __init__(self, vocab_size=50, hidden_size=8, n_layer=2, **values):
                self.vocab_size, self.hidden_size, self.n_layer = vocab_size, hidden_size, n_layer
                self.pad_token_id, self.eos_token_id = 3, 2
                if hidden_size == "huge":
                    raise TypeError("hidden_size is a number")
                super().__init__(**values)

            @property
            def num_hidden_layers(self):
                return self.n_layer

        class PictureConfig(Config):
            model_type = "picture"

            def __init__(self, num_channels=3, image_size=16, **values):
                self.num_channels, self.image_size = num_channels, image_size
                super().__init__(**values)

        class PairConfig(Config):
            model_type = "pair"

            def __init__(self, text_config=None, vision_config=None, **values):
                self.text_config = TextConfig(**(text_config or {}))
                self.vision_config = PictureConfig(**(vision_config or {}))
                super().__init__(**values)

        class SeriesConfig(Config):
            model_type = "series"

        class OpenConfig(Config):
            model_type = "open"

        CONFIG_MAPPING = {c.model_type: c for c in (TextConfig, PictureConfig, PairConfig, SeriesConfig, OpenConfig)}

        class PreTrainedModel(nn.Module):
            main_input_name = "input_ids"

            def __init__(self, config):
                super().__init__()
                assert constants.HF_HUB_OFFLINE
                self.config = config

            @classmethod
            def _from_config(cls, config):
                return cls(config)

            @classmethod
            def from_pretrained(cls, name, *, config, state_dict, output_loading_info, trust_remote_code):
                assert name is None and output_loading_info and trust_remote_code is False
                assert constants.HF_HUB_OFFLINE and not logging.bars
                model = cls(config)
                missing, unexpected = model.load_state_dict(state_dict, strict=False)
                return model, {"missing_keys": set(missing), "unexpected_keys": set(unexpected)}

        class TextModel(PreTrainedModel):
            config_class = TextConfig

            def __init__(self, config):
                super().__init__(config)
                self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
                width = config.hidden_size
                self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(config.n_layer)))

            def forward(self, input_ids=None, attention_mask=None, labels=None):
                if (input_ids == self.config.pad_token_id).any():
                    raise ValueError("padding among the tokens")
                return self.layers(self.embed(input_ids)) * attention_mask[..., None]

        class TextHead(TextModel):
            def __init__(self, config):
                super().__init__(config)
                self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

            def forward(self, input_ids=None, attention_mask=None):
                return self.head(super().forward(input_ids, attention_mask))

        class PictureModel(PreTrainedModel):
            config_class = PictureConfig
            main_input_name = "pixel_values"

            def __init__(self, config):
                super().__init__(config)
                self.conv = nn.Conv2d(config.num_channels, 4, 3)

            def forward(self, pixel_values, interpolate=False):
                return self.conv(pixel_values)

        class PairModel(PreTrainedModel):
            config_class = PairConfig

            def __init__(self, config):
                super().__init__(config)
                self.text, self.vision = TextModel(config.text_config), PictureModel(config.vision_config)

            def forward(self, input_ids=None, pixel_values=None, attention_mask=None):
                return self.text(input_ids, attention_mask).sum() + self.vision(pixel_values).sum()

        class SeriesModel(PreTrainedModel):
            config_class = SeriesConfig
            main_input_name = "waves"

            def forward(self, waves):
                return waves * 2

        class OpenModel(PreTrainedModel):
            config_class = OpenConfig

            def forward(self, this=None, that=None):
                return this if that is None else that

        class HeadlessConfig(Config):
            model_type = "headless"

        class HeadlessForNothing(OpenModel):
            config_class = HeadlessConfig

        CONFIG_MAPPING["headless"] = HeadlessConfig
        MODEL_MAPPING = {m.config_class: m for m in (TextModel, PictureModel, PairModel, SeriesModel, OpenModel)}

        class AutoModel:
            @staticmethod
            def from_config(config):
                return MODEL_MAPPING[type(config)]._from_config(config)

        def pipeline(*_args, **_kwargs):
            raise AssertionError("no model class, never to be called")
    """,
}
