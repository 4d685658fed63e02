// Makes elements. Text becomes text nodes only: nothing here or elsewhere makes markup from data.

const SVG = "http://www.w3.org/2000/svg";
const UNSEEN = /[\p{C}\u2028\u2029]/gu; // control and format characters: line ends, changes of direction

/** An element with attributes (a function is a listener of that event) and children: nodes or texts. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Text of others: unseen characters are written out, and its direction does not change the text around it. */
export function foreign(text) {
  return el("bdi", {}, shown(text));
}

export function shown(text) {
  return String(text).replace(UNSEEN, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
}

export function replace(node, ...children) {
  node.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

/** A table that scrolls by itself. Columns are [heading, "number" or ""]; rows are lists of nodes or texts. */
export function table(caption, columns, rows) {
  const head = el("tr", {}, columns.map(([heading, kind]) => el("th", { scope: "col", class: kind || null }, heading)));
  const body = el("tbody", {}, rows.map((cells) => row(columns, cells)));
  const whole = el("table", {}, el("caption", {}, caption), el("thead", {}, head), body);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole);
}

export function row(columns, cells) {
  return el("tr", {}, cells.map((cell, i) => el("td", { class: columns[i][1] || null }, cell)));
}

/** A list of facts as pairs of a name and a text or node. */
export function facts(pairs) {
  return el("dl", { class: "facts" }, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

export function note(kind, ...children) {
  return el("p", { class: `note ${kind}` }, ...children);
}

/** Say something to those who hear the page. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Ask before something is done; true if the person agrees. */
export function ask(question, action) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-label": question, close: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      el("form", { method: "dialog" },
        el("p", {}, question),
        el("div", { class: "row" }, el("button", { value: "no", autofocus: true }, "Cancel"), el("button", { value: "yes" }, action))));
    document.body.append(dialog);
    dialog.showModal();
  });
}
