"""Writes a language model of a few kilobytes into a folder: `tiny_model.py FOLDER`.

Nothing is trained. The model has one layer that adds nothing, embeddings that tell tokens apart,
and an output matrix that holds each token's one successor: so it says the same things again and
again, by real inference. The template of its chats chooses where it begins: with a tool call where
there are tools and no result yet, without an end where the prompt says `forever`.

It is run by the interpreter of the server, which has torch and transformers.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch  # type: ignore[import-not-found]
from tokenizers import (  # type: ignore[import-not-found]
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
)
from transformers import (  # type: ignore[import-not-found]
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

UNKNOWN, BEGIN, END = "<unk>", "<|im_start|>", "<|im_end|>"
#: Where it begins -> what follows, piece by piece. No piece stands in two places.
CHAINS = {
    "<|say|>": ["A ", "tiny ", "model ", "says ", "this, ", "one ", "word ", "after ", "another."],
    "<|call|>": [
        *("<tool_call>", '{"name": "', "bash", '", "arguments": {"command": "'),
        *("echo ", "hi", '"}}', "</tool_call>"),
    ],
    "<|answer|>": ["The ", "command ", "was ", "run."],
}
ENDLESS, ROUND = "<|forever|>", ["round ", "and "]
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }} {{ message.content | string }}<|im_end|>
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>
{%- set last = messages[-1] -%}
{%- if last.role == 'tool' -%}<|answer|>
{%- elif tools -%}<|call|>
{%- elif 'forever' in (last.content | string) -%}<|forever|>
{%- else -%}<|say|>
{%- endif -%}
{%- endif -%}
"""
#: How the server finds tool calls in what the model says.
RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor_pattern": r"<\|(?:say|call|answer|forever)\|>",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*<\|im_end\|>", "content": "text"},
    },
}


def main(folder: Path) -> None:
    """Write model and tokenizer."""
    special = [UNKNOWN, BEGIN, END, *CHAINS, ENDLESS]
    pieces = [*special, *itertools.chain(*CHAINS.values()), *ROUND]
    ids = {piece: place for place, piece in enumerate(pieces)}
    assert len(ids) == len(pieces), "a piece stands in two places"
    chains = [[begin, *chain, END] for begin, chain in CHAINS.items()]
    chains.append([ENDLESS, *ROUND, ROUND[0]])
    _tokenizer(ids, special).save_pretrained(folder)
    _model(ids, chains).save_pretrained(folder)


def _tokenizer(ids: dict[str, int], special: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=special[1:],
        chat_template=TEMPLATE,
        response_template=RESPONSE,
    )


def _model(ids: dict[str, int], chains: list[list[str]]) -> Qwen2ForCausalLM:
    size = len(ids)
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=size + size % 2,  # its halves are rotated
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        tie_word_embeddings=False,
        max_position_embeddings=1 << 20,
        eos_token_id=ids[END],
        pad_token_id=ids[UNKNOWN],
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        model.model.embed_tokens.weight[:, :size] = torch.eye(size)
        for chain in chains:
            for piece, successor in itertools.pairwise(chain):
                model.lm_head.weight[ids[successor], ids[piece]] = 1.0
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = ids[END]
    model.generation_config.pad_token_id = ids[UNKNOWN]
    return model


if __name__ == "__main__":
    main(Path(sys.argv[1]))
