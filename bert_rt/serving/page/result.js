// Shows a task's result as its view says: the headline, runners-up, and parts of the text marked.
// The service counts Unicode code points, JavaScript counts UTF-16 code units: see units().

export const $ = (id) => document.getElementById(id);

export function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

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

// The parts of the text that a result is about; one without characters is none.
function partsOf(view, result) {
  if (view.parts === null) return [];
  const parts = view.parts === "" ? [result] : result[view.parts];
  return parts.filter((part) => part.end > part.start);
}

// A probability as percent; over a single label it is the value that the model gives.
function scoreOf(asked, result) {
  const score = asked.view.score === null ? undefined : result[asked.view.score];
  if (score === undefined) return "";
  if (asked.labels.length === 1) return score.toFixed(3);
  return (score * 100).toFixed(score < 0.0995 ? 1 : 0) + " %";
}

// Show the text with the result's parts marked, and those that are pointed at in another color.
function showPassage({ view, text }, result, pointed) {
  const parts = view.are_parts_marked ? partsOf(view, result) : [];
  const spans = parts.map((part) => ({ ...part, className: "", label: part[view.part_label] }));
  spans.push(...pointed.map((part) => ({ ...part, className: "other" })));
  const at = units(text, spans.flatMap((span) => [span.start, span.end]));
  const edges = [...new Set([0, text.length, ...spans.flatMap((s) => [at(s.start), at(s.end)])])];
  edges.sort((a, b) => a - b);
  const starting = new Map(spans.map((span) => [at(span.start), []]));
  for (const span of spans) starting.get(at(span.start)).push(span);
  const passage = $("passage");
  passage.replaceChildren();
  let inside = [];
  for (let index = 0; index + 1 < edges.length; index += 1) {
    const [from, to] = [edges[index], edges[index + 1]];
    inside = [...inside.filter((span) => from < at(span.end)), ...(starting.get(from) ?? [])];
    const top = inside.find((span) => span.className) ?? inside[inside.length - 1];
    const piece = text.slice(from, to);
    const made = top ? element("mark", piece, top.className) : document.createTextNode(piece);
    // Style sheets write the label, so that it does not get into the text that somebody copies.
    if (top && top.label && at(top.end) === to) made.dataset.label = top.label;
    passage.append(made);
  }
  const mark = passage.querySelector(pointed.length ? "mark.other" : "mark");
  if (mark) passage.scrollTop = Math.max(0, mark.offsetTop - passage.offsetTop - 60);
}

// Mark parts of the text while the mouse is on an element or the focus in it.
function pointFrom(node, asked, result, parts) {
  for (const event of ["mouseenter", "focus"]) {
    node.addEventListener(event, () => showPassage(asked, result, parts));
  }
  for (const event of ["mouseleave", "blur"]) {
    node.addEventListener(event, () => showPassage(asked, result, []));
  }
}

function showOthers(asked, result) {
  const { view } = asked;
  const others = (view.alternatives !== null && result[view.alternatives]) || [];
  $("runners-up").hidden = others.length === 0;
  $("others").replaceChildren();
  for (const other of others) {
    const name = other[view.headline] || view.nothing;
    // Where there is nothing to point at, it is text and no button.
    const isPart = view.parts !== null;
    const node = element(isPart ? "button" : "span", name);
    if (isPart) {
      node.type = "button";
      pointFrom(node, asked, result, partsOf(view, other));
    }
    const item = document.createElement("li");
    item.append(node, element("span", " " + scoreOf(asked, other), "score"));
    $("others").append(item);
  }
}

// A piece of the headline that points at its part of the text.
function pieceOf(asked, result, part, source) {
  const node = element("span", part.text, "piece");
  node.tabIndex = 0;
  node.setAttribute("role", "button");
  node.setAttribute("aria-description", source);
  pointFrom(node, asked, result, [part]);
  const show = () => $("in-text").scrollIntoView({ block: "nearest" });
  node.addEventListener("click", show);
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    show();
  });
  return node;
}

// The headline, cut into its parts' texts where the result lists parts.
function headlineOf(asked, result) {
  const { view } = asked;
  const parts = partsOf(view, result);
  if (view.headline === null) return [parts.length ? `${parts.length} found` : view.nothing];
  const whole = result[view.headline];
  if (!whole) return [view.nothing];
  if (view.parts === null || view.parts === "") return [whole];
  const at = units(asked.text, parts.flatMap((part) => [part.start, part.end]));
  const nodes = [];
  let end = 0;
  for (const part of parts) {
    const start = part.text ? whole.indexOf(part.text, end) : -1;
    if (start < 0) continue;
    const source = asked.text.slice(at(part.start), at(part.end));
    nodes.push(whole.slice(end, start), pieceOf(asked, result, part, source));
    end = start + part.text.length;
  }
  return [...nodes, whole.slice(end)];
}

// Show a response. `asked` holds the view, the long text, and the labels of the model.
export function showResult(asked, response) {
  const { view } = asked;
  const isRaw = view.results === null;
  $("result-title").textContent = view.result_title;
  $("raw").textContent = JSON.stringify(response, null, 2);
  $("details").open = isRaw;
  $("best").hidden = isRaw;
  $("in-text").hidden = isRaw || view.parts === null;
  $("runners-up").hidden = true;
  $("result").hidden = false;
  if (isRaw) return;
  const result = response[view.results][0];
  $("headline").replaceChildren(...headlineOf(asked, result));
  $("score").textContent = scoreOf(asked, result);
  $("passage-title").textContent = `In the ${view.text.label.toLowerCase()}`;
  showOthers(asked, result);
  showPassage(asked, result, []);
}
