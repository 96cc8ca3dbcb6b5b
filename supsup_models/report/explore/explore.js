"use strict";
// Shows what `Explored` holds. Names come from files that anybody may have written: they are only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const state = { image: 0, mask: 0 };

function make(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties || {})) {
    if (key.startsWith("aria-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

// One pixel of the canvas for each value; style sheets make it larger.
function drawing({ rows, columns, channels, bytes }, what, scale = 1) {
  const canvas = make("canvas", { width: columns, height: rows, "aria-label": what });
  canvas.setAttribute("role", "img");
  if (scale > 1) canvas.style.width = `${columns * scale}px`;
  const values = Uint8Array.from(atob(bytes), each => each.charCodeAt(0));
  const image = new ImageData(columns, rows);
  for (let cell = 0; cell < rows * columns; cell++) {
    for (let channel = 0; channel < 3; channel++)
      image.data[4 * cell + channel] = values[channels === 1 ? cell : channels * cell + Math.min(channel, channels - 1)];
    image.data[4 * cell + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const best = image => image.scores.reduce((top, score, row) => (score > (image.scores[top] ?? -Infinity) ? row : top), 0);
const percent = share => `${(100 * share).toFixed(1)} %`;
const kind = image => (image.task < 0 ? "unknown" : best(image) === image.task ? "right" : "wrong");
const task = row => (row < 0 ? "unknown task" : data.names[row]);

function bars(rows) {
  const list = make("div", { className: "rows" });
  for (const { name, share, value, marks, chosen } of rows) {
    const fill = make("span", { className: `fill ${marks}` });
    fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
    const label = chosen ? make("button", { type: "button", textContent: name, onclick: chosen }) : make("span", { textContent: name });
    list.append(label, make("div", { className: "track" }, fill), make("span", { textContent: value }));
  }
  return list;
}

function thumbnails() {
  const all = make("div", { className: "thumbs" });
  data.images.forEach((image, index) => {
    const says = `image ${index + 1} of ${task(image.task)}, label ${image.label}`;
    const button = make("button", { type: "button", className: kind(image), title: says, "aria-label": says,
      "aria-pressed": index === state.image, onclick: () => pick(index) });
    button.append(drawing(image.pixels, says));
    all.append(button);
  });
  return make("section", { id: "images" }, make("h2", { textContent: "Images" }),
    make("p", { className: "note", textContent: "Pick one. A dashed frame: another mask than its own has the highest score." }), all);
}

function scores(image) {
  const order = image.scores.map((_, row) => row).sort((a, b) => (image.scores[b] ?? -Infinity) - (image.scores[a] ?? -Infinity));
  const known = image.scores.filter(each => each !== null);
  const low = Math.min(...known), span = Math.max(...known) - low || 1;
  return bars(order.slice(0, 200).map(row => ({
    name: data.names[row], share: image.scores[row] === null ? 0 : (image.scores[row] - low) / span,
    value: image.scores[row] === null ? "no number" : image.scores[row].toPrecision(3),
    marks: `${row === order[0] ? "best" : ""} ${row === image.task ? "own" : ""}`, chosen: () => show(row),
  })));
}

function answer(image) {
  const at = image.tried.indexOf(state.mask);
  const title = make("h2", { textContent: `Labels under the mask of ${task(state.mask)}` });
  if (at < 0) return [title, make("p", { className: "muted", textContent: "This image was not run under this mask: only the masks with the best scores were tried." })];
  const entropy = image.entropies[at];
  const said = image.probabilities[at].map((share, label) => ({ name: `${label}`, share: share ?? 0, value: share === null ? "no number" : percent(share),
    marks: label === image.label ? "own" : "best" }));
  return [title, make("p", { className: "muted", id: "entropy", textContent: `Entropy of all outputs: ${entropy === null ? "no number" : entropy.toFixed(3)} nats. The image's own label is ${image.label}.` }), bars(said)];
}

function chosenImage() {
  const image = data.images[state.image], top = best(image);
  const verdict = image.task < 0 ? `The highest score has ${task(top)}.`
    : `It is of ${task(image.task)}; the highest score has ${task(top)}${top === image.task ? "" : ", which is another task"}.`;
  return make("section", { id: "image" }, make("h2", { textContent: `Image ${state.image + 1}` }),
    make("div", { className: "chosen" }, drawing(image.pixels, "the image as the network sees it"), make("p", { id: "verdict", textContent: verdict })),
    make("h2", { textContent: "Scores of the masks" }), scores(image), ...answer(image));
}

function chosenMask() {
  const select = make("select", { id: "mask-choice", onchange: () => show(Number(select.value)) });
  data.names.forEach((name, row) => select.append(make("option", { value: row, textContent: name, selected: row === state.mask })));
  const accuracy = data.accuracies[state.mask];
  const cost = `${data.bits[state.mask].toFixed(3)} coded bits a weight${accuracy === null ? "" : `; accuracy ${percent(accuracy)}, its task given`}.`;
  const section = make("section", { id: "mask" }, make("h2", { textContent: "A mask" }),
    make("label", { textContent: "of task " }, select), make("p", { textContent: cost }));
  const layers = data.pictures[state.mask];
  if (!layers) section.append(make("p", { className: "muted", textContent: `Pictures are kept of the first ${data.pictures.length} masks only.` }));
  else section.append(make("p", { className: "note", textContent: "Each layer as a picture, a row for each neuron or channel: the brighter, the more weights are kept." }),
    make("div", { className: "pictures" }, ...layers.map((layer, index) => {
      const [name, shape] = data.layers[index];
      const most = Math.max(...Uint8Array.from(atob(layer.cells.bytes), each => each.charCodeAt(0)), 1);
      const bright = btoa(String.fromCharCode(...Uint8Array.from(atob(layer.cells.bytes), each => each.charCodeAt(0) * 255 / most)));
      return make("figure", {}, drawing({ ...layer.cells, bytes: bright }, `mask of ${name}`, 3),
        make("figcaption", { textContent: `${name} (${shape.join(" × ")}): ${percent(layer.kept)} kept` }));
    })));
  return section;
}

function confusion() {
  const known = data.images.filter(image => image.task >= 0);
  const rows = [...new Set(known.map(image => image.task))].sort((a, b) => a - b);
  if (!rows.length) return [];
  const columns = [...new Set([...rows, ...known.map(best)])].sort((a, b) => a - b);
  const counts = new Map();
  for (const image of known) counts.set(`${image.task} ${best(image)}`, (counts.get(`${image.task} ${best(image)}`) || 0) + 1);
  const table = make("table", {}, make("tr", {}, make("th", { textContent: "own task" }), ...columns.map(row => make("th", { textContent: task(row) }))));
  for (const row of rows)
    table.append(make("tr", {}, make("th", { textContent: task(row) }), ...columns.map(column => {
      const count = counts.get(`${row} ${column}`) || 0;
      return make("td", { className: `${count ? "some" : ""} ${row === column ? "own" : ""}`, textContent: count || "" });
    })));
  return [make("section", { id: "confusion" }, make("h2", { textContent: "Which task is taken for which" }),
    make("p", { className: "note", textContent: "Images of each task (rows), by the mask with the highest score (columns)." }), make("div", { className: "scroll" }, table))];
}

function draw() {
  const at = document.querySelector(".thumbs")?.scrollTop || 0;
  main.replaceChildren(thumbnails(), chosenImage(), chosenMask(), ...confusion());
  document.querySelector(".thumbs").scrollTop = at;
}

function pick(index) {
  state.image = index;
  state.mask = best(data.images[index]);
  draw();
  document.querySelectorAll(".thumbs button")[index].focus();
}

function show(row) {
  state.mask = row;
  draw();
}

state.mask = best(data.images[0]);
draw();
