"""``tg.cuda`` where there is no GPU: it says so."""

from __future__ import annotations

import pytest

import tinygrad_ja as tg


@pytest.mark.skipif(tg.cuda.is_available(), reason="says what happens where no GPU can be used")
@pytest.mark.parametrize("name", ["synchronize", "get_device_name", "memory_allocated", "memory_reserved", "empty_cache"])
def test_without_a_gpu_every_question_is_answered_with_the_reason(name: str) -> None:
    assert not tg.cuda.is_available() and tg.cuda.device_count() == 0
    with pytest.raises(tg.errors.DeviceError, match=r"TG-D00[234]"):
        getattr(tg.cuda, name)()
