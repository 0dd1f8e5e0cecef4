// The page: asks the model that is chosen, as its task's view says (/page/tasks.json), and knows
// no task itself. result.js shows what comes back.
import { $, element, showResult } from "./result.js";

const LOADING_MS = 2000; // From one look at models that are loading to the next.

const models = new Map(); // Those that can be asked, with their views, by name.
const kept = new Map(); // What stands in fields, also in those that are not shown now.
let model = null; // The chosen one.
let shown = null; // What was asked for the result on the screen.
let turn = 0; // Counts requests and choices: a response that comes after the next is dropped.

function say(text, isBad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", isBad);
}

function nameOf(field) {
  return field.label.toLowerCase();
}

// Where a text is kept: one for all tasks, but a request as JSON is its task's own.
function textSlot({ view, task }) {
  return view.text.name === null ? `request of ${task}` : "text";
}

// The fields that are shown, each with the element that it is written in.
function fieldsOf(view) {
  const fields = [{ ...view.text, node: $("text") }];
  if (view.line) fields.push({ ...view.line, node: $("line") });
  return fields;
}

function choose(name) {
  if (model && model.name === name) return;
  if (model) {
    kept.set(textSlot(model), $("text").value);
    if (model.view.line) kept.set(model.view.line.key, $("line").value);
  } else {
    kept.set("text", $("text").value); // Browsers fill in what stood there before a reload.
  }
  model = models.get(name);
  turn += 1;
  const { view } = model;
  $("model").value = name;
  document.title = `${view.title} - bert-rt`;
  $("title").textContent = view.title;
  $("hint").textContent = view.hint;
  $("submit").textContent = view.button;
  $("submit").disabled = false;
  $("text-label").textContent = view.text.label;
  for (const id of ["line", "line-label"]) $(id).hidden = !view.line;
  $("line-label").textContent = view.line
    ? view.line.label + (view.line.is_optional ? " (optional)" : "")
    : "";
  $("examples").replaceChildren("Examples:");
  for (const example of view.examples) $("examples").append(" ", exampleButton(example));
  $("line").value = (view.line && kept.get(view.line.key)) ?? "";
  const isRaw = view.text.name === null;
  $("text").value = kept.get(textSlot(model)) ?? (isRaw ? view.examples[0].text : "");
  $("result").hidden = true;
  $("form").hidden = false;
  say("");
}

function exampleButton(example) {
  const button = element("button", example.name, "link");
  button.type = "button";
  button.addEventListener("click", () => {
    $("text").value = example.text;
    $("line").value = example.line;
    ask();
  });
  return button;
}

// Make the request of what is written; throws an Error with the mistake and where it is.
function currentRequest() {
  const { view } = model;
  let request = { ...view.fixed };
  for (const { name, node, is_optional: isOptional, ...field } of fieldsOf(view)) {
    const isEmpty = !node.value.trim();
    if (isEmpty && !isOptional) {
      node.focus();
      throw new Error(`The ${nameOf(field)} is empty.`);
    }
    if (name === null) request = parsed(node.value, nameOf(field));
    else if (!isEmpty) request[name] = node.value;
  }
  return { model: model.name, ...request };
}

function parsed(text, what) {
  let value = null;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`The ${what} is no JSON: ${error.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new Error(`The ${what} is not an object in JSON.`);
  }
  return value;
}

async function ask() {
  turn += 1;
  const mine = turn;
  const { view, labels, route } = model;
  const asked = { view, labels, route, text: $("text").value, link: link(), request: null };
  try {
    asked.request = currentRequest();
    $("submit").disabled = true;
    say("Waiting for the model ...");
    const began = performance.now();
    const response = await fetch(route.slice(1), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked.request),
    });
    const body = await response.json();
    if (mine !== turn) return;
    if (!response.ok) throw new Error(`${body.error} (status ${response.status})`);
    shown = asked;
    showResult(asked, body);
    const milliseconds = Math.round(performance.now() - began);
    say(`${body.usage.tokens} tokens in ${milliseconds} ms, by ${body.model}.`);
    history.replaceState(null, "", asked.link);
  } catch (error) {
    if (mine !== turn) return;
    $("result").hidden = true;
    say(error.message, true);
  } finally {
    if (mine === turn) $("submit").disabled = false;
  }
}

// The part behind "#" is never sent to a server, so no text gets into a log.
function link() {
  const given = fieldsOf(model.view).map(({ key, node }) => [key, node.value]);
  const fields = new URLSearchParams(given.filter(([, value]) => value).reverse());
  if (models.size > 1) fields.set("m", model.name);
  return `${location.pathname}#${fields}`;
}

function givenByLink() {
  return new URLSearchParams(location.hash.slice(1));
}

// Fill in and ask what a link says; where it names no model, its keys say which one can answer.
function follow(given) {
  const isWhole = ({ view }) =>
    [view.text, view.line].every((field) => !field || field.is_optional || given.has(field.key));
  const named = models.get(given.get("m"));
  const found = named && isWhole(named) ? named : [...models.values()].find(isWhole);
  if (!found) {
    say("No model here takes what the link asks.", true);
    return;
  }
  choose(found.name);
  for (const { key, node } of fieldsOf(found.view)) node.value = given.get(key) ?? "";
  ask();
}

function curlOf({ request, route }) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const url = new URL(route.slice(1), location.href.split("#")[0]);
  const body = JSON.stringify(request);
  return `curl ${quote(url.href)} -H 'Content-Type: application/json' -d ${quote(body)}`;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`);
  } catch {
    // Without HTTPS or permission browsers have no clipboard; the text can be taken from here.
    $("raw").textContent = text;
    $("details").open = true;
    $("raw").focus();
    say(`This browser does not let a page copy; the ${what.toLowerCase()} stands below.`);
  }
}

async function readFile(file) {
  if (file.size > 4_000_000) {
    say(`${file.name} has ${file.size} bytes, more than 4 million.`, true);
    return;
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    $("text").value = text;
    say(`${file.name} is the ${nameOf(model.view.text)} now.`);
    $(model.view.line ? "line" : "submit").focus();
  } catch {
    say(`${file.name} is not a text in UTF-8.`, true);
  }
}

// Offer the models that are there; returns whether others are still loading.
async function listModels(views) {
  const all = (await (await fetch("v1/models")).json()).models;
  for (const entry of all) {
    const view = views[entry.task];
    if (!view || models.has(entry.name)) continue;
    models.set(entry.name, { ...entry, view });
    $("model").append(new Option(`${entry.name} (${entry.task})`, entry.name));
  }
  $("model-field").hidden = models.size < 2;
  return all.some((entry) => entry.state === "loading");
}

async function watchModels() {
  const views = await (await fetch("page/tasks.json")).json();
  const given = givenByLink();
  for (;;) {
    const isLoading = await listModels(views);
    const isAwaited = isLoading && given.has("m") && !models.has(given.get("m"));
    if (!model && models.size && !isAwaited) {
      choose([...models.keys()][0]);
      if (location.hash.length > 1) follow(given);
    }
    if (!isLoading) break;
    if (!model) say("The model is loading ...");
    await new Promise((resolve) => setTimeout(resolve, LOADING_MS));
  }
  if (!models.size) say("No model could be loaded.", true);
}

function start() {
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  $("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
  });
  $("model").addEventListener("change", (event) => choose(event.target.value));
  $("file").addEventListener("change", (event) => {
    if (event.target.files[0]) readFile(event.target.files[0]);
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    $("text").addEventListener(name, (event) => {
      const files = event.dataTransfer.files;
      if (name !== "drop" || files.length) event.preventDefault();
      event.target.classList.toggle("over", name === "dragover");
      if (name === "drop" && files[0]) readFile(files[0]);
    });
  }
  const absolute = () => new URL(shown.link, location.href).href;
  $("copy-link").addEventListener("click", () => copy(absolute(), "Link"));
  $("copy-curl").addEventListener("click", () => copy(curlOf(shown), "Command"));
  window.addEventListener("hashchange", () => {
    if (model) follow(givenByLink());
  });
  watchModels().catch(() => say("The service does not answer.", true));
}

start();
