// Each problem at its field, in the API's own words.

import { fill, h } from "./dom.js";

/**
 * Puts problems (`{param, message}`) at the fields below `form`. What belongs to no field that is there stands
 * in `rest`, with its path.
 */
export function placeProblems(form, rest, problems) {
  const slots = [...form.querySelectorAll("[data-param]")];
  const texts = new Map(slots.map((slot) => [slot, []]));
  const homeless = [];
  for (const problem of problems) {
    const slot = slotFor(problem.param, slots);
    if (slot === null) homeless.push(problem);
    else texts.get(slot).push(within(problem, slot));
  }
  for (const [slot, messages] of texts) {
    const text = messages.join(" ");
    if (slot.textContent !== text) slot.textContent = text;
    const control = document.getElementById(slot.dataset.for);
    if (text) control?.setAttribute("aria-invalid", "true");
    else control?.removeAttribute("aria-invalid");
    if (text) slot.closest("details")?.setAttribute("open", "");
  }
  const lines = homeless.map(({ param, message }) => h("li", {}, param ? `${param}: ${message}` : message));
  fill(rest, lines.length > 0 && h("div", { class: "notice error", role: "alert" }, h("strong", {}, "To mend first"), h("ul", {}, lines)));
}

/** The field of a problem: its own, else the nearest one around it, else the first one inside. */
function slotFor(param, slots) {
  if (!param) return null;
  const own = slots.find((slot) => slot.dataset.param === param);
  if (own) return own;
  const around = slots.filter((slot) => param.startsWith(`${slot.dataset.param}.`));
  if (around.length) return around.reduce((a, b) => (b.dataset.param.length > a.dataset.param.length ? b : a));
  return slots.find((slot) => slot.dataset.param.startsWith(`${param}.`)) ?? null;
}

function within({ param, message }, slot) {
  const inner = param.slice(slot.dataset.param.length + 1);
  return param !== slot.dataset.param && param.startsWith(slot.dataset.param) ? `${inner}: ${message}.` : sentence(message);
}

const sentence = (text) => {
  const upper = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
};
