"""vllm_generate.py FOLDER PROMPTS OPTIONS: vLLM's greedy tokens after each prompt, as JSON.
A process for each model, since vLLM leaves things behind."""

import json
import sys

from vllm import LLM, SamplingParams

if __name__ == "__main__":  # vLLM starts processes that import this
    folder, prompts, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    greedy = SamplingParams(temperature=0, max_tokens=options.pop("tokens"))
    llm = LLM(folder, max_model_len=256, max_num_seqs=4, enforce_eager=True, **options)
    answers = llm.generate(prompts, greedy)
    print(json.dumps([list(answer.outputs[0].token_ids) for answer in answers]))
