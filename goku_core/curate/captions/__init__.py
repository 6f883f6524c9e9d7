"""Captions: what lies beside a file, what models say of a picture or clip, and what is made of both.

Recipe of the paper (section 4.6): pictures by InternVL; clips by InternVL on key frames and by Tarsier2 on the whole
clip, merged by a Qwen LLM. Three models, each optional; without any, captions are those of the sidecars.
"""

from goku_core.curate.captions.sidecar import caption_of, training_text

__all__ = ["caption_of", "training_text"]
