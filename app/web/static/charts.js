// Line charts by Plotly, which is fetched when a page first draws one.

import { fill, h } from "./dom.js";

let loading = null;

function loadPlotly() {
  loading ??= new Promise((done, fail) => {
    const script = document.createElement("script");
    script.src = document.querySelector('meta[name="plotly"]').content;
    script.addEventListener("load", () => done(window.Plotly));
    script.addEventListener("error", () => {
      loading = null; // the next chart that is drawn tries again
      fail(new Error("The charts could not be loaded from the server."));
    });
    document.head.append(script);
  });
  return loading;
}

const drawn = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => drawn.forEach((redraw) => redraw()));

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The colour of the series at an index, in the present scheme. */
export const series = (index) => colour(`series-${(index % 6) + 1}`);

/**
 * A chart that is told what to show as often as wanted: `draw({lines, bands, x, y, log, share})`.
 *
 * `lines` are `{name, x, y, colour: index, dash, markers, mode}`; `bands` are `{from, to, name}` of stages, in the
 * units of x. What it shows is said in words, too: `label`.
 */
export function chart(label, { low = false } = {}) {
  const place = h("div", { class: low ? "chart low" : "chart", role: "img", "aria-label": label });
  let told = null;
  const redraw = async () => {
    if (told === null) return;
    let plotly;
    try {
      plotly = await loadPlotly();
    } catch (error) {
      return void fill(place, h("p", { class: "muted" }, error.message));
    }
    if (!place.isConnected) return;
    if (!place.classList.contains("js-plotly-plot")) fill(place);
    await plotly.react(place, traces(told), layout(told), { displayModeBar: false, responsive: true });
  };
  drawn.add(redraw);
  return {
    element: place,
    draw(next) {
      told = next;
      return redraw();
    },
  };
}

function traces({ lines }) {
  return lines.map(({ name, x, y, colour: index, dash, mode = "lines", symbol, width = 2, hover, hidden, text }) => ({
    type: "scatter",
    name: escaped(name),
    x,
    y,
    text: text?.map(escaped),
    mode,
    showlegend: !hidden,
    connectgaps: false,
    line: { color: series(index), dash, width, shape: "linear" },
    marker: { color: series(index), size: 6, symbol },
    hovertemplate: hover,
  }));
}

function layout({ lines, bands = [], x, y, log = false, share = false, integers = true, logX = false, range, diagonal }) {
  const ink = colour("muted");
  const grid = colour("line");
  const axis = { gridcolor: grid, zeroline: false, linecolor: grid, tickfont: { size: 11 }, automargin: true };
  const shaded = bands.filter((_, index) => index % 2 === 1);
  return {
    autosize: true,
    margin: { l: 8, r: 8, t: 26, b: 8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
    hoverlabel: { bgcolor: colour("surface"), bordercolor: grid, font: { color: colour("ink") } },
    hovermode: "x unified",
    showlegend: lines.filter(({ hidden }) => !hidden).length > 1,
    legend: { orientation: "h", x: 0, y: -0.22, yanchor: "top", font: { size: 12 } },
    xaxis: { ...axis, title: { text: x, standoff: 6 }, ...(integers && { tickformat: "d", nticks: 12, rangemode: "tozero" }), ...(range && { range }), ...(logX && { type: "log", exponentformat: "power", dtick: 1 }) },
    yaxis: { ...axis, title: { text: y, standoff: 6 }, type: log ? "log" : "linear", ...(log && { exponentformat: "power", dtick: 1 }), ...(share && { tickformat: ".0%" }) },
    shapes: [
      ...shaded.map(({ from, to }) => ({ type: "rect", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1, fillcolor: colour("band"), line: { width: 0 }, layer: "below" })),
      ...(diagonal ? [{ type: "line", x0: 0, y0: 0, x1: 1, y1: 1, line: { color: ink, width: 1, dash: "dot" } }] : []),
    ],
    annotations: bands.map(({ from, to, name }) => ({ x: (from + to) / 2, y: 1, xref: "x", yref: "paper", yanchor: "bottom", text: escaped(name), showarrow: false, font: { size: 11, color: ink } })),
  };
}

/** Plotly reads a few tags in texts; a stage's name is text. */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
