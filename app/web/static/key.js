// The key: asked for where the server wants one, and kept for the session of this tab alone.

import { h } from "./dom.js";

const NAME = "thaw.key";

/** The key, or null. */
export const storedKey = () => sessionStorage.getItem(NAME);

/** Forgets the key, and what the page shows with it. */
export function forgetKey() {
  sessionStorage.removeItem(NAME);
  location.assign("/");
}

let open = null;

/**
 * Asks the reader for a key; one dialog for all calls that wait for it. `refused` is the key that was sent: if
 * another one has been given since, there is nothing to ask.
 */
export function askKey(reason, refused) {
  if (storedKey() !== refused) return Promise.resolve();
  open ??= new Promise((done) => show(reason, refused, done)).finally(() => (open = null));
  return open;
}

function show(reason, refused, done) {
  const input = h("input", {
    type: "password",
    id: "key",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    placeholder: "thaw_…",
    "aria-describedby": "key-reason",
  });
  const form = h(
    "form",
    { method: "dialog", on: { submit: take } },
    h("h2", { id: "key-title" }, refused ? "This key was refused" : "This server wants a key"),
    h("p", { id: "key-reason", class: refused ? "problem" : "muted" }, reason),
    h("label", { for: "key" }, "Key"),
    input,
    h("p", { class: "muted" }, "It is kept until this tab is closed, and sent to this server alone."),
    h("div", { class: "actions" }, h("button", { class: "primary" }, "Use this key")),
  );
  const dialog = h("dialog", { "aria-labelledby": "key-title", on: { cancel: (e) => e.preventDefault() } }, form);

  function take(event) {
    event.preventDefault();
    const key = input.value.trim();
    if (!key) return;
    sessionStorage.setItem(NAME, key);
    dialog.close();
    dialog.remove();
    done();
  }
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}
