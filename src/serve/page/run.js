// Answers that are being written, each for a conversation, whether it is shown
// or not.
import { describe, streamOf } from "./api.js";
import { conversations, save } from "./store.js";

const kSaveEvery = 1000;  // milliseconds
const kFew = 5;  // tokens, whose rate says nothing

// By the conversation's id: {stop, changed, leave, stats}. `changed` belongs to
// whoever shows the conversation, and is called with true when the answer has
// ended.
export const runs = new Map();
// Browsers break connections off between these two, and some tell only the second.
for (const event of ["beforeunload", "pagehide"]) {
  addEventListener(event, () => runs.forEach(({ leave }) => leave()));
}

// When the first and the last token came, and how many there were; what is
// received counts as one until the usage tells.
class Clock {
  constructor() {
    this.sent = performance.now();
    this.stats = { tokens: 0 };
  }

  tick() {
    this.last = performance.now();
    this.first ??= this.last;
    ++this.stats.tokens;
    this.stats.wait = (this.first - this.sent) / 1000;
    this.rate();
  }

  usage(usage) {
    this.stats.tokens = usage.completion_tokens;
    this.stats.prompt = usage.prompt_tokens;
    if (this.first !== undefined) this.rate();
  }

  // The first token came with the prompt, so its time is not the others'.
  rate() {
    const seconds = (this.last - this.first) / 1000;
    const { tokens } = this.stats;
    this.stats.rate = tokens >= kFew && seconds > 0 ? (tokens - 1) / seconds : null;
  }
}

// Asks for an answer, hands each choice of the stream to `take`, which tells
// whether there was text in it, and `end` how it ended: a finish_reason or
// "stopped"; null: by an error, which conversation.error then tells.
export async function run(conversation, { path, body, take, end }) {
  const abort = new AbortController();
  const clock = new Clock();
  // Once: when the page is left, what fails after that is of no account.
  const finish = (how) => {
    if (runs.get(conversation.id) !== self) return;
    runs.delete(conversation.id);
    end(how);
    keep(conversation);
  };
  const self = {
    stop: () => abort.abort(),
    changed: () => {},
    leave: () => {
      finish("stopped");
      abort.abort();
    },
    stats: clock.stats,
  };
  runs.set(conversation.id, self);
  delete conversation.error;
  let reason = null;
  let saved = performance.now();
  try {
    for await (const event of streamOf(path, body, abort.signal)) {
      if (event.usage) clock.usage(event.usage);
      const [choice] = event.choices;
      if (choice && take(choice)) clock.tick();
      reason = choice?.finish_reason ?? reason;
      self.changed(false);
      if (performance.now() - saved > kSaveEvery) {
        keep(conversation);
        saved = performance.now();
      }
    }
  } catch (error) {
    reason = error.name === "AbortError" ? "stopped" : null;
    if (reason === null && runs.has(conversation.id)) conversation.error = describe(error);
  }
  finish(reason);
  self.changed(true);
}

// It may have been deleted meanwhile.
function keep(conversation) {
  if (conversations.has(conversation.id)) save(conversation);
}

export function statsLine({ tokens, prompt, wait, rate } = {}) {
  if (wait === undefined) return "";
  const parts = [`${tokens} ${tokens === 1 ? "token" : "tokens"}`];
  if (rate) parts.push(`${rate.toFixed(rate < 10 ? 2 : 1)} tokens/s`);
  parts.push(`first after ${wait.toFixed(2)} s`);
  if (prompt !== undefined) parts.push(`prompt of ${prompt}`);
  return parts.join(" · ");
}
