"""Model ids as clients write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol.model_id import (
    ModelId,
    instance_named,
    other_named,
    read_model_id,
)


@pytest.mark.parametrize(
    ("text", "instance", "slug"),
    [
        ("gpt-5.5", None, "gpt-5.5"),
        ("openai-codex:gpt-5.5", "openai-codex", "gpt-5.5"),
        ("openai-codex/gpt-5.5", "openai-codex", "gpt-5.5"),
        ("openai/gpt-5.5", "openai-codex", "gpt-5.5"),
        ("OpenAI/gpt-5.5", "openai-codex", "gpt-5.5"),
        ("openai_codex.2:gpt-5.5", "openai-codex.2", "gpt-5.5"),
        ("OPENAI-Codex.2/gpt-5.5", "openai-codex.2", "gpt-5.5"),
        ("openai_codex.10:gpt-5.5", "openai-codex.10", "gpt-5.5"),
        ("openai-codex.1:gpt-5.5", "openai-codex.1", "gpt-5.5"),
        ("openai-codex:GPT-5.5?verbosity=low", "openai-codex", "GPT-5.5?verbosity=low"),
        ("openai-codex:openai/gpt-5.5", "openai-codex", "openai/gpt-5.5"),
        ("openai-codex-v2:gpt-5.5", "openai-codex", "gpt-5.5"),
        ("OpenAI_Codex_V2/gpt-5.5", "openai-codex", "gpt-5.5"),
        ("openai-codex:a:b", "openai-codex", "a:b"),
    ],
)
def test_a_prefix_names_the_instance_in_any_spelling(
    text: str, instance: str | None, slug: str
) -> None:
    assert read_model_id(text) == ModelId(instance, slug)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/",
        ":gpt-5.5",
        "openai-codex",
        "openai-codex:",
        "openai/",
        "openai:gpt-5.5",
        "openai.2/gpt-5.5",
        "openai-codex.0:gpt-5.5",
        "openai-codex.02:gpt-5.5",
        "openai-codex.٢:gpt-5.5",
        "openai-codex.:gpt-5.5",
        "openai-codex.2.3:gpt-5.5",
        "openai-codex-v2:",
        "openai-codex-v2.2:gpt-5.5",
        "openai-codex-v3:gpt-5.5",
        "openai-codex :gpt-5.5",
        "openai-codex\n:gpt-5.5",
        "ollama:llama3",
        "vendor/openai/gpt-5.5",
    ],
)
def test_what_has_no_known_prefix_or_nothing_behind_it_stays_as_it_came(text: str) -> None:
    assert read_model_id(text) == ModelId(None, text)


PIECES = [*("openai", "codex", "v2", "gpt"), *"_-.20:/? \nİK"]


@given(text=st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text())
def test_no_text_raises_or_loses_a_character(text: str) -> None:
    read = read_model_id(text)
    assert text.endswith(read.slug)
    if read.instance is None:
        assert read.slug == text
    else:
        assert read.slug
        assert instance_named(read.instance) == read.instance


@given(number=st.integers(1, 99), slug=st.text(min_size=1))
def test_a_canonical_name_before_any_model_is_read_back(number: int, slug: str) -> None:
    instance = f"openai-codex.{number}"
    assert read_model_id(f"{instance}:{slug}") == ModelId(instance, slug)


@pytest.mark.parametrize(
    ("text", "instance", "slug"),
    [
        ("local:qwen3", "local", "qwen3"),
        ("LOCAL/qwen3", "local", "qwen3"),
        ("local:Qwen3:8b", "local", "Qwen3:8b"),
        ("local/org/model", "local", "org/model"),
        ("my_box.2:m", "my-box.2", "m"),
        ("openai/gpt", "openai", "gpt"),
        ("openai:gpt", "openai", "gpt"),
        ("openai-codex:gpt-5.5", "openai-codex", "gpt-5.5"),
        ("other:qwen3", None, "other:qwen3"),
        ("local:", None, "local:"),
        ("local", None, "local"),
    ],
)
def test_a_configured_backend_is_a_prefix_and_beats_the_old_name_of_the_family(
    text: str, instance: str | None, slug: str
) -> None:
    assert read_model_id(text, {"local", "my-box.2", "openai"}) == ModelId(instance, slug)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("local", "local"),
        ("My_Box.2", "my-box.2"),
        ("openai", "openai"),
        ("openai_codex_mini", "openai-codex-mini"),
        ("openai-codex", None),
        ("OpenAI_Codex", None),
        ("openai-codex.2", None),
        ("openai-codex.x", None),
        ("OpenAI_Codex_V2", None),
        ("", None),
        ("2local", None),
        ("-local", None),
        ("a b", None),
        ("a:b", None),
        ("a/b", None),
        ("ä", None),
        ("a\n", None),
    ],
)
def test_other_backends_have_plain_names_that_are_none_of_the_familys(
    name: str, canonical: str | None
) -> None:
    assert other_named(name) == canonical
