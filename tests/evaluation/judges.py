"""A judge that compares texts, in the form that each of our judge prompts asks for."""

from __future__ import annotations

import json
import re
from typing import Any

_BLOCK = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)
_BOX = re.compile(r"\\boxed\{(.*)\}")


def honest(body: dict[str, Any], k: int = 0) -> str:
    """The reply to a judge prompt: right where the boxed answer is in the truth or names it."""
    prompt = body["messages"][-1]["content"]
    blocks = dict(_BLOCK.findall(prompt))
    if "response" not in blocks:  # whether it is there at all
        return "ready"
    box = _BOX.search(blocks["response"])
    said = box[1] if box else blocks["response"]
    truth = blocks.get("truth", "")
    right = bool(said) and (said in truth or truth in said)
    if "steps of 0.1" in prompt:
        return "1.0" if said == "-1 and -5" else "0.0"
    if '"YES" or "NO"' in prompt:
        return json.dumps({"reasoning": "looked", "verdict": "NO" if "nut" in said else "YES"})
    if "extracted_final_answer" in prompt:
        reply = {"extracted_final_answer": said, "reasoning": "compared"}
        return json.dumps(reply | {"correct": "yes" if right else "no", "confidence": 100})
    if '"score": 0 or 1' in prompt:
        return json.dumps({"extracted_answer": said, "score": int(right)})
    if "extracted_answer" in prompt:
        return json.dumps({"extracted_answer": said, "verdict": "correct" if right else "wrong"})
    return json.dumps({"verdict": "correct" if right else "wrong"})
