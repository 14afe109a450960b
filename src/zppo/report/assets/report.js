// Values under the pointer, and which runs and which smoothing are shown. All text goes in as text.
const charts = JSON.parse(document.getElementById("data").textContent);
const off = new Set();
const NS = "http://www.w3.org/2000/svg";

for (const button of document.querySelectorAll(".bar button[data-member]")) {
  button.addEventListener("click", () => {
    const member = Number(button.dataset.member);
    off.has(member) ? off.delete(member) : off.add(member);
    button.setAttribute("aria-pressed", String(!off.has(member)));
    for (const part of document.querySelectorAll(`[data-run="${member}"]`)) {
      part.toggleAttribute("hidden", off.has(member));
    }
  });
}

const smooth = document.getElementById("smooth");
smooth?.addEventListener("click", () => {
  const raw = document.body.classList.toggle("raw-only");
  smooth.setAttribute("aria-pressed", String(!raw));
});

for (const figure of document.querySelectorAll("figure.chart")) watch(figure, charts[figure.id]);

function watch(figure, chart) {
  const svg = figure.querySelector("svg");
  const [left, right, top, bottom] = chart.plot;
  const across = x => left + (x - chart.x[0]) / (chart.x[1] - chart.x[0]) * (right - left);
  const up = y => bottom + (y - chart.y[0]) / (chart.y[1] - chart.y[0]) * (top - bottom);
  const xs = chart.xs;
  let tip, marks, at = -1;

  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const wanted = chart.x[0] + (x - left) / (right - left) * (chart.x[1] - chart.x[0]);
    show(nearest(xs, wanted));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", event => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (move === undefined) return event.key === "Escape" && hide();
    event.preventDefault();
    const from = at < 0 ? xs.length - 1 - (move < 0 ? -1 : 1) : at;
    show(Math.max(0, Math.min(xs.length - 1, from + move)));
  });

  function show(index) {
    const rows = chart.series
      .filter(s => s.r === null || !off.has(s.r))
      .map(s => [s, s.p[index]])
      .filter(row => row[1] !== null);
    if (!rows.length) return hide();
    at = index;
    if (!tip) {
      tip = figure.appendChild(document.createElement("div"));
      tip.className = "tip";
      tip.setAttribute("role", "status");
      marks = svg.appendChild(document.createElementNS(NS, "g"));
    }
    tip.replaceChildren(head(index), ...rows.map(row => line(row, chart.unit)));
    const x = across(xs[index]);
    marks.replaceChildren(part("path", { class: "guide", d: `M${x} ${top}V${bottom}` }));
    for (const [s, y] of chart.y ? rows : []) {
      marks.append(part("circle", { cx: x, cy: up(y), r: 3, style: `fill:${s.c}` }));
    }
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    const middle = x * scale;
    const inset = svg.getBoundingClientRect().left - figure.getBoundingClientRect().left;
    const leftward = middle > svg.clientWidth / 2;
    tip.style.left = leftward ? "" : `${inset + middle + 10}px`;
    tip.style.right = leftward ? `${figure.clientWidth - inset - middle + 10}px` : "";
    tip.style.top = `${svg.getBoundingClientRect().top - figure.getBoundingClientRect().top + 8}px`;
  }

  function hide() {
    tip?.remove();
    marks?.remove();
    tip = marks = undefined;
    at = -1;
  }

  function head(index) {
    const title = document.createElement("b");
    title.textContent = chart.names ? chart.names[index] : `${chart.axis} ${short(xs[index])}`;
    return title;
  }
}

function line([series, value], unit) {
  const row = document.createElement("div");
  const key = row.appendChild(document.createElement("i"));
  key.style.background = series.c;
  row.appendChild(document.createElement("span")).textContent = series.n;
  row.appendChild(document.createElement("em")).textContent = say(value, unit);
  return row;
}

function part(name, attributes) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function nearest(xs, wanted) {
  let best = 0;
  for (let i = 1; i < xs.length; i++) {
    if (Math.abs(xs[i] - wanted) < Math.abs(xs[best] - wanted)) best = i;
  }
  return best;
}

function say(value, unit) {
  if (unit === "share") return `${(100 * value).toFixed(1)}%`;
  if (unit === "count") return value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
  if (unit === "seconds" && value >= 60) {
    const s = Math.round(value);
    const two = n => String(n).padStart(2, "0");
    const minutes = Math.floor(s / 60);
    return minutes < 60 ? `${minutes}:${two(s % 60)}`
      : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(s % 60)}`;
  }
  return Number(value.toPrecision(3)) + (unit === "seconds" ? " s" : "");
}

function short(x) {
  return Number.isInteger(x) ? x : x.toFixed(1);
}
