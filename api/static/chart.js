// The chart of NDCG@20: the winner beside popularity, run by run, with refused and failed runs marked.

import { draw, figure, make, time } from "./elements.js";

const HEIGHT = 240;
const EDGE = { left: 46, right: 14, top: 14, bottom: 30 };
const LABEL = 34; // pixels for the number of a run

/** Draws the runs, given newest first, into a box in the document, and again when its width changes. */
export function chart(box, runs) {
  const trained = runs.filter((run) => run.job === "train").reverse();
  if (!trained.length) return;
  const paper = draw("svg", { role: "img", "aria-label": describe(trained) });
  box.append(make("p", { class: "quiet" }, "ndcg@20 on each run's holdout, oldest run first"), legend(), paper);
  let drawn = 0;
  const redraw = () => {
    const width = Math.max(260, Math.round(box.clientWidth));
    if (width === drawn) return;
    drawn = width;
    paper.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    paper.replaceChildren(...plot(trained, width));
  };
  redraw();
  new ResizeObserver(redraw).observe(box);
}

function judged(run) {
  return run["ndcg@20"];
}

function describe(runs) {
  const last = runs[runs.length - 1];
  const said = `run ${last.run_id} is ${last.status}, winner ${figure(judged(last).candidate)}`;
  return `ndcg@20 of the winner and of popularity in ${runs.length} runs; ${said}. The table below has every figure.`;
}

function plot(runs, width) {
  const values = runs.flatMap((run) => [judged(run).candidate, judged(run).popularity]).filter((v) => v !== null);
  const step = niceStep(Math.max(0.01, ...values) / 4);
  const top = step * Math.ceil(Math.max(0.01, ...values) / step);
  const inner = width - EDGE.left - EDGE.right;
  const scale = {
    x: (at) => EDGE.left + (inner * (at + 0.5)) / runs.length,
    y: (value) => HEIGHT - EDGE.bottom - ((HEIGHT - EDGE.top - EDGE.bottom) * value) / top,
  };
  const every = Math.ceil((LABEL * runs.length) / inner);
  return [
    ...grid(top, step, width, scale),
    ...runs.map((run, at) => ((runs.length - 1 - at) % every ? null : label(run, scale.x(at)))).filter(Boolean),
    line("popularity", runs.map((run, at) => [scale.x(at), judged(run).popularity]), scale),
    line("winner", runs.map((run, at) => [scale.x(at), run.status === "done" ? judged(run).candidate : null]), scale),
    ...runs.flatMap((run, at) => marks(run, scale.x(at), scale)),
  ];
}

function niceStep(rough) {
  const size = 10 ** Math.floor(Math.log10(rough));
  return size * [1, 2, 2.5, 5, 10].find((factor) => factor * size >= rough);
}

function grid(top, step, width, scale) {
  const lines = [];
  for (let value = 0; value <= top + step / 2; value += step) {
    const y = scale.y(value);
    lines.push(draw("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y }));
    lines.push(draw("text", { x: EDGE.left - 6, y: y + 4, "text-anchor": "end" }, value.toFixed(step < 0.01 ? 3 : 2)));
  }
  return lines;
}

function label(run, x) {
  return draw("text", { x, y: HEIGHT - 10, "text-anchor": "middle" }, String(run.run_id));
}

function line(kind, points, scale) {
  const known = points.filter(([, value]) => value !== null).map(([x, value]) => `${x},${scale.y(value)}`);
  return draw("polyline", { class: `line ${kind}`, points: known.join(" ") });
}

function marks(run, x, scale) {
  const found = [];
  const { candidate, popularity } = judged(run);
  if (popularity !== null) found.push(square(x, scale.y(popularity)));
  if (candidate !== null && run.status === "done") found.push(circle(x, scale.y(candidate)));
  else if (run.status === "refused") found.push(diamond(x, scale.y(candidate ?? 0)));
  else if (run.status === "failed") found.push(cross(x, scale.y(candidate ?? 0)));
  const words = [`run ${run.run_id}, ${run.status}, ${time(run.started_at)} UTC`];
  if (candidate !== null) words.push(`${run.winner} ${figure(candidate)}`, `popularity ${figure(popularity)}`);
  return [draw("g", { class: `run ${run.status}` }, draw("title", {}, words.join("; ")), ...found)];
}

const circle = (x, y) => draw("circle", { class: "winner", cx: x, cy: y, r: 4.5 });
const square = (x, y) => draw("rect", { class: "popularity", x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
const diamond = (x, y) => draw("path", { class: "mark hollow", d: `M${x} ${y - 6.5}l6.5 6.5l-6.5 6.5l-6.5 -6.5z` });
const cross = (x, y) => draw("path", { class: "mark", d: `M${x - 5} ${y - 5}l10 10m0 -10l-10 10` });

function legend() {
  const shown = [
    ["", circle(12, 7), "winner"],
    ["", square(12, 7), "popularity"],
    ["refused", diamond(12, 7), "refused"],
    ["failed", cross(12, 7), "failed"],
  ];
  const entries = shown.map(([kind, mark, word]) => {
    const sample = draw("svg", { viewBox: "0 0 24 14", "aria-hidden": "true", class: kind }, mark);
    return make("li", {}, sample, ` ${word}`);
  });
  return make("ul", { class: "legend" }, ...entries);
}
