import os
import tempfile

# Before torch and the Hugging Face libraries are imported: one thread, no network, and caches that go when we do.
_CACHES = tempfile.TemporaryDirectory(prefix="nlp-al-tests-")
os.environ.update(
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_CACHE=f"{_CACHES.name}/datasets",
    NLP_AL_CACHE=f"{_CACHES.name}/nlp-al",
)

import torch  # noqa: E402

torch.set_num_threads(1)
