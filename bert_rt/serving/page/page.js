// The page: asks /v1/answer and shows the answer in its passage.
// The service counts Unicode code points, JavaScript counts UTF-16 code units: see units().
"use strict";

const EXAMPLES = [
  {
    question: "When was the tower finished?",
    context:
      "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris. It was " +
      "designed by the company of Gustave Eiffel and finished in March 1889 for the World's Fair. " +
      "At 330 metres it was the tallest structure in the world for 41 years.",
  },
  {
    question: "Who was the first person on the Moon?",
    context:
      "\u{1F680} Apollo 11 was launched on 16 July 1969 from Kennedy Space Center. Four days later " +
      "Neil Armstrong became the first person to walk on the Moon; Buzz Aldrin followed 19 " +
      "minutes later, while Michael Collins stayed in orbit.",
  },
  {
    question: "What does a ticket cost?",
    context: "The museum is open from ten to six. It is closed on Mondays.",
  },
];

const $ = (id) => document.getElementById(id);
let shown = null; // The passage and the answer on the screen.

// Turn positions in code points into positions in code units.
function units(text, positions) {
  const sorted = [...new Set(positions)].sort((a, b) => a - b);
  const found = new Map();
  let unit = 0;
  let point = 0;
  for (const wanted of sorted) {
    while (point < wanted && unit < text.length) {
      unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
      point += 1;
    }
    found.set(wanted, unit);
  }
  return (position) => found.get(position);
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function say(text, isBad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", isBad);
}

function percent(score) {
  return (score * 100).toFixed(score < 0.0995 ? 1 : 0) + " %";
}

// Show the passage with the answer marked, or with a runner-up beside it.
function showPassage(other) {
  const { context, best } = shown;
  const spans = [];
  if (best.text) spans.push({ ...best, className: "" });
  if (other && other.text) spans.push({ ...other, className: "other" });
  const at = units(context, spans.flatMap((span) => [span.start, span.end]));
  const edges = [...new Set([0, context.length, ...spans.flatMap((s) => [at(s.start), at(s.end)])])];
  edges.sort((a, b) => a - b);
  const passage = $("passage");
  passage.replaceChildren();
  for (let index = 0; index + 1 < edges.length; index += 1) {
    const [from, to] = [edges[index], edges[index + 1]];
    const inside = spans.filter((span) => at(span.start) <= from && to <= at(span.end));
    const text = context.slice(from, to);
    const top = inside[inside.length - 1];
    passage.append(top ? element("mark", text, top.className) : document.createTextNode(text));
  }
  const mark = passage.querySelector(other ? "mark.other" : "mark");
  if (mark) passage.scrollTop = Math.max(0, mark.offsetTop - passage.offsetTop - 60);
}

function showOthers(alternatives) {
  $("runners-up").hidden = alternatives.length === 0;
  $("others").replaceChildren();
  for (const other of alternatives) {
    const button = element("button", other.text || "no answer");
    button.type = "button";
    for (const event of ["mouseenter", "focus"]) {
      button.addEventListener(event, () => showPassage(other));
    }
    for (const event of ["mouseleave", "blur"]) {
      button.addEventListener(event, () => showPassage(null));
    }
    const item = document.createElement("li");
    item.append(button, element("span", " " + percent(other.score), "score"));
    $("others").append(item);
  }
}

function show(request, response, milliseconds) {
  const best = response.answers[0];
  shown = { context: request.context, best, request };
  $("answer").textContent = best.text || "No answer in this passage";
  $("score").textContent = percent(best.score);
  $("raw").textContent = JSON.stringify(response, null, 2);
  showOthers(best.alternatives || []);
  $("result").hidden = false;
  showPassage(null);
  say(`${response.usage.tokens} tokens in ${milliseconds} ms, by ${response.model}.`);
}

function currentRequest() {
  const request = { question: $("question").value, context: $("context").value, top_k: 4 };
  if ($("model").value) request.model = $("model").value;
  return request;
}

async function ask() {
  const request = currentRequest();
  for (const [id, what] of [["context", "passage"], ["question", "question"]]) {
    if (!$(id).value.trim()) {
      say(`The ${what} is empty.`, true);
      $(id).focus();
      return;
    }
  }
  $("submit").disabled = true;
  say("Asking ...");
  const began = performance.now();
  try {
    const response = await fetch("v1/answer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
    const body = await response.json();
    if (!response.ok) throw new Error(`${body.error} (status ${response.status})`);
    show(request, body, Math.round(performance.now() - began));
    history.replaceState(null, "", linkOf(request));
  } catch (error) {
    $("result").hidden = true;
    say(error.message, true);
  } finally {
    $("submit").disabled = false;
  }
}

// The part behind "#" is never sent to a server, so no passage gets into a log.
function linkOf(request) {
  const fields = new URLSearchParams({ q: request.question, c: request.context });
  return `${location.pathname}#${fields}`;
}

function curlOf(request) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const url = new URL("v1/answer", location.href.split("#")[0]);
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
    $("raw").parentElement.open = true;
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
    $("context").value = text;
    say(`${file.name} is the passage now.`);
    $("question").focus();
  } catch {
    say(`${file.name} is not a text in UTF-8.`, true);
  }
}

async function listModels() {
  const { models } = await (await fetch("v1/models")).json();
  const usable = models.filter((model) => model.route === "/v1/answer");
  for (const model of usable) $("model").append(new Option(model.name, model.name));
  $("model-field").hidden = usable.length < 2;
  if (!usable.length) say("No model here answers questions yet.", true);
}

function fill({ question, context }) {
  $("question").value = question;
  $("context").value = context;
}

function start() {
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  $("context").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
  });
  for (const button of document.querySelectorAll("[data-example]")) {
    button.addEventListener("click", () => {
      fill(EXAMPLES[button.dataset.example]);
      ask();
    });
  }
  $("file").addEventListener("change", (event) => {
    if (event.target.files[0]) readFile(event.target.files[0]);
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    $("context").addEventListener(name, (event) => {
      const files = event.dataTransfer.files;
      if (name !== "drop" || files.length) event.preventDefault();
      event.target.classList.toggle("over", name === "dragover");
      if (name === "drop" && files[0]) readFile(files[0]);
    });
  }
  const absolute = () => new URL(linkOf(shown.request), location.href).href;
  $("copy-link").addEventListener("click", () => copy(absolute(), "Link"));
  $("copy-curl").addEventListener("click", () => copy(curlOf(shown.request), "Command"));
  listModels().catch(() => say("The service does not answer.", true));
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("q") && given.has("c")) {
    fill({ question: given.get("q"), context: given.get("c") });
    ask();
  }
}

start();
