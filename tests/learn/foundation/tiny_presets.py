"""Tiny presets: KerasHub's own networks with random weights, saved as presets to a folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
from numpy.typing import NDArray

SIDE = 32
TOKENS = 40  # a text has about one a letter, as the tiny vocabularies hold little else
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISED = {"scale": [1 / (255 * s) for s in STD], "offset": [-m / s for m, s in zip(MEAN, STD, strict=True)]}
CENTRED = {"scale": 1 / 127.5, "offset": -1.0}


def vit(folder: Path) -> Path:
    network = keras_hub.models.ViTBackbone(
        image_shape=(SIDE, SIDE, 3), patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    return _saved(folder, network, keras_hub.layers.ViTImageConverter(image_size=(SIDE, SIDE), **CENTRED))


def dinov2(folder: Path, *, side: int = SIDE) -> Path:
    network = keras_hub.models.DINOV2Backbone(
        patch_size=8,
        num_layers=1,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        num_register_tokens=2,
        image_shape=(SIDE, SIDE, 3),
        position_embedding_shape=(SIDE, SIDE),
    )
    converter = keras_hub.layers.DINOV2ImageConverter(
        image_size=(side, side), interpolation="bicubic", antialias=True, **NORMALISED
    )
    return _saved(folder, network, converter)


def dinov3(folder: Path) -> Path:
    network = keras_hub.models.DINOV3Backbone(
        patch_size=8,
        num_layers=1,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        num_register_tokens=2,
        image_shape=(SIDE, SIDE, 3),
    )
    return _saved(folder, network, keras_hub.layers.DINOV3ImageConverter(image_size=(SIDE, SIDE), **NORMALISED))


def resnet(folder: Path) -> Path:
    network = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
    )
    return _saved(folder, network, keras_hub.layers.ResNetImageConverter(image_size=(SIDE, SIDE), **NORMALISED))


def mobilenet(folder: Path) -> Path:
    network = keras_hub.models.MobileNetBackbone(
        stackwise_expansion=[[8], [16]],
        stackwise_num_blocks=[1, 1],
        stackwise_num_filters=[[8], [16]],
        stackwise_kernel_size=[[3], [3]],
        stackwise_num_strides=[[2], [1]],
        stackwise_se_ratio=[[0.25], [None]],
        stackwise_activation=[["relu"], ["hard_swish"]],
        stackwise_padding=[[1], [1]],
        output_num_filters=32,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=16,
        image_shape=(None, None, 3),
    )
    return _saved(folder, network, keras_hub.layers.MobileNetImageConverter(image_size=(SIDE, SIDE), **CENTRED))


def clip(folder: Path) -> Path:
    vision = keras_hub.models.CLIPVisionEncoder(
        patch_size=8, hidden_dim=16, num_layers=1, num_heads=2, intermediate_dim=32, image_shape=(SIDE, SIDE, 3)
    )
    text = keras_hub.models.CLIPTextEncoder(
        vocabulary_size=64, embedding_dim=16, hidden_dim=16, num_layers=1, num_heads=2, intermediate_dim=32,
        max_sequence_length=TOKENS,
    )  # fmt: skip
    network = keras_hub.models.CLIPBackbone(vision, text, projection_dim=12)
    converter = keras_hub.layers.CLIPImageConverter(image_size=(SIDE, SIDE), interpolation="bicubic", **NORMALISED)
    preprocessor = keras_hub.models.CLIPPreprocessor(_clip_tokenizer(), converter, sequence_length=TOKENS)
    return _saved(folder, network, preprocessor)


def siglip(folder: Path) -> Path:
    vision = keras_hub.models.SigLIPVisionEncoder(
        patch_size=8, hidden_dim=16, num_layers=1, num_heads=2, intermediate_dim=32, image_shape=(SIDE, SIDE, 3)
    )
    text = keras_hub.models.SigLIPTextEncoder(
        vocabulary_size=64, embedding_dim=16, hidden_dim=16, num_layers=1, num_heads=2, intermediate_dim=32,
        max_sequence_length=TOKENS,
    )  # fmt: skip
    network = keras_hub.models.SigLIPBackbone(vision, text)
    network.siglip_head.logit_scale.assign(2.0)
    network.siglip_head.logit_bias.assign(-3.0)
    converter = keras_hub.layers.SigLIPImageConverter(image_size=(SIDE, SIDE), **CENTRED)
    preprocessor = keras_hub.models.SigLIPPreprocessor(_siglip_tokenizer(), converter, sequence_length=TOKENS)
    return _saved(folder, network, preprocessor)


def _saved(folder: Path, network: keras.Model, *parts: Any) -> Path:
    folder.mkdir(parents=True)
    for part in (network, *parts):
        part.save_to_preset(str(folder))
    return folder


def _clip_tokenizer() -> Any:
    letters = "abcdefghijklmnopqrstuvwxyz."
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "at</w>", "<|startoftext|>", "<|endoftext|>"]
    return keras_hub.models.CLIPTokenizer({token: at for at, token in enumerate(tokens)}, ["a t</w>"])


def _siglip_tokenizer() -> Any:
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a cat", "a photo of a dog", "the quick brown fox jumps"]),
        model_writer=written,
        vocab_size=40,
        minloglevel=2,
        num_threads=1,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="</s>",
        bos_piece="<s>",
        unk_piece="<unk>",
    )
    return keras_hub.models.SigLIPTokenizer(written.getvalue())


WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def clip_of_digits(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Path:
    """A tiny CLIP whose image encoder learned that scans (n, SIDE, SIDE, 3) of digits lie near their words."""
    clip(folder)
    network = keras_hub.models.Backbone.from_preset(str(folder))
    texts = keras_hub.models.CLIPPreprocessor.from_preset(str(folder))(
        {"prompts": [f"a {word}" for word in WORDS], "images": np.zeros((len(WORDS), 8, 8, 3), np.float32)}
    )
    directions = keras.utils.normalize(keras.ops.convert_to_numpy(network.get_text_embeddings(texts["token_ids"])))
    seen = keras.Input((SIDE, SIDE, 3))
    scores = keras.layers.Dense(len(WORDS), use_bias=False, trainable=False, name="texts")
    embedded = keras.layers.UnitNormalization()(network.get_vision_embeddings(seen))
    model = keras.Model(seen, scores(embedded))
    scores.set_weights([directions.T * float(np.exp(network.clip_head.logit_scale))])
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    prepared = keras_hub.layers.ImageConverter.from_preset(str(folder))(images.astype(np.float32))
    model.fit(prepared, labels, batch_size=32, epochs=12, verbose=0)
    network.save_to_preset(str(folder))
    return folder
