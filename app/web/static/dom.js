// Building what is seen. Text becomes text nodes alone: names with markup in them are shown, not obeyed.

// Controls but tab and line feed; marks that turn the direction of what follows.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A text in which every character is seen. */
export const seen = (value) => String(value).replace(UNSEEN, "\ufffd");

/**
 * An element. `on` has listeners, `class` the classes; value, checked and the like are set as properties,
 * all else as attributes. What is null, undefined or false is left out.
 */
export function h(tag, props, ...children) {
  return furnish(document.createElement(tag), props, children);
}

/** The same for drawings. */
export function svg(tag, props, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "open", "indeterminate", "multiple"]);
const SHOWN = new Set(["title", "alt", "placeholder", "aria-label", "value"]);

function furnish(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (PROPERTIES.has(name) && name in element) element[name] = value;
    else element.setAttribute(name, value === true ? "" : SHOWN.has(name) ? seen(value) : value);
  }
  add(element, children);
  // A select takes its value only when its options are there.
  if (props?.value !== undefined && element.tagName === "SELECT") element.value = props.value;
  return element;
}

/** Appends elements, texts, and lists of them. */
export function add(parent, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : seen(child));
  }
}

/** Puts other content into an element. The focus stays on what has the same `data-focus` as before. */
export function fill(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  parent.replaceChildren();
  add(parent, children);
  if (focused !== undefined) parent.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  return parent;
}

/**
 * Keeps a parent's children the ones of a list. A child is made anew only where its item has changed, so that
 * what nobody changed keeps its focus and its place.
 */
export function keyed(parent, keyOf, make) {
  let known = new Map();
  return (items) => {
    const next = new Map();
    const focused = parent.contains(document.activeElement) ? document.activeElement : null;
    let at = parent.firstChild;
    for (const item of items) {
      const key = keyOf(item);
      const told = JSON.stringify(item);
      let entry = known.get(key);
      if (entry === undefined || entry.told !== told) {
        const node = make(item);
        if (entry !== undefined) {
          const refocus = entry.node.contains(focused) ? focused.dataset.focus : undefined;
          if (at === entry.node) at = node;
          entry.node.replaceWith(node);
          if (refocus !== undefined) node.querySelector(`[data-focus="${CSS.escape(refocus)}"]`)?.focus();
        }
        entry = { told, node };
      }
      next.set(key, entry);
      if (entry.node === at) at = at.nextSibling;
      else parent.insertBefore(entry.node, at);
    }
    for (const [key, entry] of known) if (!next.has(key)) entry.node.remove();
    known = next;
  };
}

/** Waits until nothing new came for so many milliseconds. */
export function calmly(act, wait = 250) {
  let timer;
  return (...sent) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...sent), wait);
  };
}

/** A button that copies what `text()` gives. */
export function copier(label, text) {
  const button = h("button", { type: "button", class: "small", on: { click: copy } }, label);
  async function copy() {
    await copyText(text());
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  }
  return button;
}

/** A text with the button that copies it. */
export function copyable(text) {
  return h("div", { class: "copyable" }, h("pre", { tabindex: "0" }, text), copier("Copy", () => text));
}

/** Puts a text on the clipboard; browsers allow the new way on safe origins alone. */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "offstage", value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** A part of the page with its heading. */
export function section(title, ...children) {
  return h("section", { class: "panel" }, h("h2", {}, title), ...children);
}

/** What stands where there is nothing yet. */
export function empty(sentence, ...more) {
  return h("div", { class: "empty" }, h("p", {}, sentence), ...more);
}

/** A table that scrolls where it is too wide or, with `tall`, too long; by keyboard, too. */
export function scrolling(label, table, { tall = false } = {}) {
  return h("div", { class: tall ? "scroll table-tall" : "scroll", tabindex: "0", role: "group", "aria-label": label }, table);
}

/**
 * A table of figures: the first column names the row, the others are numbers but for the columns in `texts`.
 */
export function grid(caption, heads, rows, { texts = [], tall = false } = {}) {
  const kind = (index) => index > 0 && !texts.includes(index) && "num";
  const cells = (row) => row.map((value, index) => h(index === 0 ? "th" : "td", { class: kind(index), scope: index === 0 && "row" }, value));
  const head = heads.map((name, index) => h("th", { scope: "col", class: kind(index) }, name));
  const body = rows.map((row) => h("tr", {}, cells(row)));
  return scrolling(caption, h("table", {}, h("caption", { class: "sr" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)), { tall });
}
