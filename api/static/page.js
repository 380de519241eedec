// Asks the API of this service and shows the answers. The key, if one is needed, stays in this tab.

import { campaigns } from "./campaigns.js";
import { chart } from "./chart.js";
import { badge, count, duration, facts, figure, make, note, table, time } from "./elements.js";
import { events, fieldsOf, hits, nameOf } from "./items.js";

const KEY = "recsys-key";
const RUNS = 30;
const HISTORY = 12;
const byId = (id) => document.getElementById(id);
const place = new URL("./", document.baseURI); // a proxy may serve the page in a folder
let columns = {}; // the catalog's columns and their types

/** An error response, in the service's words. */
class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    Object.assign(this, { status, code });
  }
}

async function request(path, query = {}) {
  const address = new URL(path, place);
  for (const [name, value] of Object.entries(query)) if (value !== "") address.searchParams.set(name, value);
  const key = sessionStorage.getItem(KEY);
  let response;
  try {
    response = await fetch(address, { headers: key ? { Authorization: `Bearer ${key}` } : {}, cache: "no-store" });
  } catch {
    throw new Problem(0, "unreachable", "The service cannot be reached.");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Problem(response.status, body.code ?? "failed", body.detail ?? `The service answered ${response.status}.`);
  }
  return response;
}

const ask = async (path, query) => (await request(path, query)).json();
const askText = async (path) => (await request(path)).text();

// --- the key

function needsKey(problem) {
  return problem.code === "no_valid_key" || problem.code === "wrong_scope";
}

function lock(problem) {
  const tried = sessionStorage.getItem(KEY) !== null;
  sessionStorage.removeItem(KEY);
  byId("content").hidden = true;
  byId("forget").hidden = true;
  for (const part of ["bundle", "runs", "campaigns", "user-answer", "item-answer"]) byId(part).replaceChildren();
  byId("state").textContent = "Locked";
  showKeyFault(tried ? problem.message : "");
  byId("lock").hidden = false;
  byId("key").focus();
}

function showKeyFault(text) {
  byId("key-fault").textContent = text;
  byId("key-fault").hidden = !text;
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  byId("key").value = "";
  if (!/^[\x21-\x7e]+$/.test(key)) {
    showKeyFault("This is no key: keys have neither blanks nor letters beyond a to z.");
    return;
  }
  sessionStorage.setItem(KEY, key);
  start();
});

byId("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  start();
});

// --- what is live, and what the runs did

async function start() {
  byId("refresh").disabled = true;
  try {
    const status = await ask("v1/status");
    columns = status.serving?.columns ?? columns;
    byId("lock").hidden = true;
    byId("content").hidden = false;
    byId("forget").hidden = sessionStorage.getItem(KEY) === null;
    byId("state").textContent = stateOf(status);
    showStatus(status);
    await Promise.all([
      fillIn("runs", showRuns),
      fillIn("campaigns", () => campaigns(ask, askText, showFault)),
      follow(true),
    ]);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (needsKey(problem)) lock(problem);
    else byId("state").replaceChildren(make("strong", { class: "failed" }, problem.message));
  } finally {
    byId("refresh").disabled = false;
  }
}

byId("refresh").addEventListener("click", start);

function stateOf(status) {
  const at = time(new Date().toISOString());
  const what = status.serving ? `answering from a bundle ${duration(status.serving.age_seconds)} old` : "no bundle is loaded";
  return `${what}; database ${status.database}; as of ${at} UTC`;
}

function showStatus(status) {
  const { serving, bundles } = status;
  const current = bundles.find((bundle) => bundle.live);
  const parts = [];
  if (!serving) parts.push(note("No bundle is loaded yet; `recsys train` makes one.", true));
  else if (current && current.version !== serving.version) {
    parts.push(note(`${current.version} is to be live, but answers come from ${serving.version}: it is being loaded, or was refused; the log says which.`, true));
  }
  if (status.database === "away") parts.push(note("The database is away: answers come without what happened since the last training.", true));
  if (serving) parts.push(facts(servingFacts(serving)));
  if (bundles.length) parts.push(make("h3", {}, "Bundles on disk"), bundleTable(bundles));
  byId("bundle").replaceChildren(...parts);
  const names = Object.entries(columns).map(([name, kind]) => `${name} (${kind})`);
  byId("columns").textContent = names.length ? `A filter is column:op:value with op eq, in, between, range, gt, ge, lt, le, prefix, contains or exists. Columns: ${names.join(", ")}.` : "";
}

function servingFacts(serving) {
  const { data, index } = serving;
  const recall = index["recall@20"] ?? {};
  return [
    ["Version", make("code", {}, serving.version), "wide"],
    ["Age", duration(serving.age_seconds)],
    ["Model", `${serving.model}, ${count(serving.dim)} dimensions`],
    ["Index", index.kind ?? "–"],
    ["Recall@20 of the index", figure(recall.plain)],
    ["The same, filtered", figure(recall.filtered)],
    ["Items", count(serving.items)],
    ["New or changed since", count(serving.new_items)],
    ["Sold out", count(serving.sold_out)],
    ["Users", count(data.users)],
    ["Events", count(data.events)],
    ["First and last event", data.first ? `${data.first.slice(0, 10)} to ${data.last.slice(0, 10)}` : "–", "range"],
  ];
}

function bundleTable(bundles) {
  const rows = bundles.map((bundle) => [
    make("code", {}, bundle.version),
    make("span", {}, bundle.live ? badge("live") : null, bundle.live && bundle.pinned ? " " : null, bundle.pinned ? badge("pinned") : null),
    bundle.model,
    figure(bundle["ndcg@20"].candidate),
    figure(bundle["ndcg@20"].popularity),
    `${(bundle.size / 1e6).toFixed(1)} MB`,
  ]);
  return table("Bundles on disk", ["version", "state", "model", "ndcg@20", "popularity", "size"], rows, [3, 4, 5]);
}

async function showRuns() {
  const { runs } = await ask("v1/runs", { limit: RUNS });
  if (!runs.length) return [make("p", {}, "Nothing has run yet.")];
  const box = make("div", { class: "chart" });
  byId("runs").replaceChildren(box); // first: the chart measures its box
  chart(box, runs);
  const last = runs.find((run) => Object.keys(run.models).length);
  const checked = runs.find((run) => run.guards.length || run.findings.length);
  return [box, runTable(runs), checked ? foundIn(checked) : null, last ? figuresOf(last) : null, stepsOf(runs[0])].filter(Boolean);
}

function runTable(runs) {
  const rows = runs.map((run) => [
    String(run.run_id),
    run.job,
    badge(run.status),
    make("td", { class: "time" }, time(run.started_at)),
    duration(run.seconds),
    run.winner,
    figure(run["ndcg@20"].candidate),
    figure(run["ndcg@20"].popularity),
    run.error ? make("td", { class: "text" }, run.error) : make("code", {}, run.bundle ?? "–"),
  ]);
  const names = ["run", "job", "status", "started (UTC)", "took", "winner", "ndcg@20", "popularity", "bundle, or why not"];
  return table("Runs, newest first", names, rows, [4, 6, 7]);
}

function figuresOf(run) {
  const models = Object.keys(run.models);
  const metrics = Object.keys(run.models[models[0]]);
  const value = (model, metric) => (metric === "users" ? count(run.models[model][metric]) : figure(run.models[model][metric]));
  const rows = metrics.map((metric) => [metric, ...models.map((model) => value(model, metric))]);
  const shown = table(`Figures of run ${run.run_id}`, ["metric", ...models], rows, models.map((_, at) => at + 1));
  return make("details", {}, make("summary", {}, `All figures of run ${run.run_id}`), shown);
}

/** What guards and check found in a run: open when something is amiss. */
function foundIn(run) {
  const amiss = run.guards.filter((guard) => guard.outcome !== "ok");
  const earlier = (guard) => guard.earlier.slice(0, 3).map(short).join(", ");
  const guards = [...amiss, ...run.guards.filter((guard) => guard.outcome === "ok")].map((guard) => [
    guard.guard,
    badge(guard.outcome),
    short(guard.figure),
    short(guard.bound),
    earlier(guard),
    make("td", { class: "text" }, guard.text),
  ]);
  const findings = run.findings.map((found) => [found.severity, found.reason, count(found.rows), count(found.of)]);
  const movers = run.movers.map((mover) => [mover.item_id, share(mover.before), share(mover.now)]);
  const words = `Guards and findings of run ${run.run_id}: ${amiss.length} of ${run.guards.length} guards beyond their bounds`;
  const names = ["guard", "outcome", "figure", "bound", "last good nights", "which says"];
  return make(
    "details",
    { id: "found", open: amiss.length ? "" : null },
    make("summary", {}, words),
    guards.length ? table(`Guards of run ${run.run_id}`, names, guards, [2, 3, 4]) : null,
    findings.length ? table(`Findings of run ${run.run_id}`, ["severity", "reason", "rows", "of"], findings, [2, 3]) : null,
    movers.length ? table(`Items that moved most in run ${run.run_id}: share of users in whose ten best they are`, ["item", "live bundle", "this run"], movers, [1, 2]) : null,
  );
}

function share(number) {
  return `${(number * 100).toFixed(1)} %`;
}

function short(number) {
  return typeof number === "number" ? String(Number(number.toPrecision(4))) : "–";
}

function stepsOf(run) {
  const rows = run.steps.map((step) => [step.name, duration(step.seconds)]);
  return make("details", {}, make("summary", {}, `Steps of run ${run.run_id}`), table(`Steps of run ${run.run_id}`, ["step", "took"], rows, [1]));
}

// --- lookups. The id is kept in the fragment of the address, which is never sent to a server.

const latest = {}; // part of the page -> number of its last request

/** Shows what `answer` returns in a part of the page; the answer to an older request is dropped. */
async function fillIn(part, answer) {
  const box = byId(part);
  const number = (latest[part] = (latest[part] ?? 0) + 1);
  box.setAttribute("aria-busy", "true");
  let found;
  try {
    found = await answer();
  } catch (problem) {
    if (!(problem instanceof Problem) || needsKey(problem)) throw problem;
    found = [note(problem.message, true)];
  }
  if (number !== latest[part]) return;
  box.replaceChildren(...found);
  box.removeAttribute("aria-busy");
}

function asked() {
  return new URLSearchParams(location.hash.slice(1));
}

function addressWith(values) {
  const state = asked();
  for (const [name, value] of Object.entries(values)) {
    if (value === "") state.delete(name);
    else state.set(name, value);
  }
  return `#${state}`;
}

const likeThis = (item) => addressWith({ item, "item-filter": "" });

for (const kind of ["user", "item"]) {
  byId(`${kind}-form`).addEventListener("submit", (event) => {
    event.preventDefault();
    const values = Object.fromEntries([kind, `${kind}-k`, `${kind}-filter`].map((id) => [id, byId(id).value]));
    const address = addressWith(values);
    if (address === location.hash) follow(true).catch(fallBack);
    else location.hash = address;
  });
}

const answered = {}; // part of the page -> the request that it shows

/** Looks up what the address asks for; repeats what is shown already only when `again`. */
async function follow(again) {
  const state = asked();
  const work = [];
  for (const [kind, about] of [["user", aboutUser], ["item", aboutItem]]) {
    const ids = [kind, `${kind}-k`, `${kind}-filter`];
    for (const id of ids) byId(id).value = state.get(id) ?? byId(id).defaultValue;
    const question = JSON.stringify(ids.map((id) => byId(id).value));
    if (question === answered[kind] && !again) continue;
    answered[kind] = question;
    const wanted = state.get(kind);
    work.push(fillIn(`${kind}-answer`, () => (wanted ? about(wanted) : [])));
  }
  await Promise.all(work);
}

/** Shows why a report does not open. */
function showFault(problem) {
  if (!(problem instanceof Problem) || needsKey(problem)) fallBack(problem);
  else byId("campaigns").append(note(problem.message, true));
}

function fallBack(problem) {
  if (problem instanceof Problem && needsKey(problem)) lock(problem);
  else throw problem;
}

let shownItem = asked().get("item");
window.addEventListener("hashchange", async () => {
  const item = asked().get("item");
  const isNew = item !== shownItem;
  shownItem = item;
  await follow(false).catch(fallBack);
  if (isNew && item) byId("item-title").scrollIntoView();
});

async function aboutUser(user) {
  const fields = fieldsOf(columns);
  const path = `v1/users/${encodeURIComponent(user)}`;
  const query = { k: byId("user-k").value, filter: byId("user-filter").value, fields };
  const [answer, past] = await Promise.all([
    ask(`${path}/recommendations`, query),
    ask(`${path}/history`, { limit: HISTORY, fields }),
  ]);
  const known = past.events.length ? events(past.events, likeThis) : make("p", {}, "Nothing is known of this user.");
  return [
    ...answer.warnings.map((warning) => note(warning.detail)),
    make("h3", {}, `Recommendations for ${user}`),
    ...hits(answer, likeThis),
    make("h3", {}, past.events.length < HISTORY ? "History, newest first" : `History, the newest ${HISTORY} events`),
    known,
  ];
}

async function aboutItem(item) {
  const query = { k: byId("item-k").value, filter: byId("item-filter").value, fields: fieldsOf(columns) };
  const answer = await ask(`v1/items/${encodeURIComponent(item)}/similar`, query);
  return [
    ...answer.warnings.map((warning) => note(warning.detail)),
    make("h3", {}, `Items like ${nameOf(item)}`),
    ...hits(answer, likeThis),
  ];
}

start();
