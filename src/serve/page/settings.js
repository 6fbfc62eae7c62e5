// System prompt and sampling: what the user has set, in the browser's storage.
import { byId } from "./dom.js";

const kKey = "mobe.settings";
const kSampling = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"];
// OpenAI's default would be 16.
const kTextTokens = 256;

let settings = {};

const fields = () => byId("settings").querySelector("form").elements;

function store() {
  settings = {};
  for (const name of ["system", ...kSampling]) {
    const field = fields()[name];
    if (field.value === "" || !field.validity.valid) continue;
    settings[name] = name === "system" ? field.value : Number(field.value);
  }
  localStorage.setItem(kKey, JSON.stringify(settings));
}

export function openSettings() {
  byId("settings").showModal();
}

// `props`: of /props, whose sampling is what an empty field means.
export function setUpSettings(props) {
  try {
    settings = JSON.parse(localStorage.getItem(kKey)) ?? {};
  } catch {
    settings = {};
  }
  for (const name of ["system", ...kSampling]) {
    fields()[name].value = settings[name] ?? "";
  }
  for (const name of kSampling) {
    const value = props.sampling[name];
    if (value !== undefined) fields()[name].placeholder = Number(value.toPrecision(6));
  }
  fields().max_tokens.placeholder = props.chat ? "no limit" : kTextTokens;
  fields().seed.placeholder = "random";
  fields().system.disabled = !props.chat;
  const form = byId("settings").querySelector("form");
  form.addEventListener("input", store);
  byId("reset").addEventListener("click", () => {
    for (const name of ["system", ...kSampling]) fields()[name].value = "";
    store();
  });
}

export const systemPrompt = () => settings.system ?? "";

// The members of a request.
export function sampling(kind) {
  const body = kind === "text" ? { max_tokens: kTextTokens } : {};
  for (const name of kSampling) {
    if (settings[name] !== undefined) body[name] = settings[name];
  }
  return body;
}
