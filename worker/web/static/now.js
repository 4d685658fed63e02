// Now: what needs a person, what waits, who works on it; live.

import { follow } from "./api.js";
import { announce, el, facts, foreign, note, replace, table } from "./dom.js";
import { bytes, count, moment, seconds } from "./format.js";
import { line } from "./lines.js";

const SAFE = "Audio is safe and flows.";

export async function show(main) {
  document.title = "Now · audio-batch-worker";
  const state = el("p", { class: "faint" }, "Looking …");
  const concerns = el("div", { role: "status" }), totals = el("div"), picture = el("div"), details = el("div");
  replace(main, el("h1", {}, "Now"), concerns, totals, picture, details, state);
  let said = null;
  follow("/api/now", (look) => {
    if (look.error) return replace(state, note("danger", `Redis can't be asked: ${look.error}`));
    const words = look.concerns.map((concern) => `${concern.severity}: ${concern.text}`).join("\n");
    if (words !== said) { // a screen reader hears only what is new
      said = words;
      replace(concerns, look.concerns.length ? look.concerns.map((concern) => note(concern.severity, foreign(concern.text))) : note("good", SAFE));
    }
    replace(totals, tiles(look), el("div", { class: "lines" }, lines(look.history)));
    replace(picture, partitions(look));
    const open = details.querySelector("details")?.open;
    replace(details, workers(look), servers(look), busy(look, open));
    replace(state, el("span", { class: "faint" }, `Looked at ${moment(look.now_ms / 1000)} UTC, on Redis' clock.`));
  }, () => { announce("The connection is lost"); replace(state, note("warning", "The connection is lost; trying again …")); });
}

function tiles(look) {
  const { totals } = look;
  const states = Object.entries(totals.states).map(([state, number]) => `${state} ${number.toLocaleString("en")}`).join(", ");
  return facts([
    ["not stored yet", `${count(totals.entries, "chunk")}, ${bytes(totals.bytes)}`],
    ["oldest of them", totals.oldest_age_ms === null ? "none" : seconds(totals.oldest_age_ms / 1000)],
    ["chunks by state", states], ["sealed batches", totals.sealed_batches.toLocaleString("en")], ["stored blobs", totals.stored.toLocaleString("en")],
    ["dead letters", totals.dead ? el("a", { href: "/letters" }, totals.dead.toLocaleString("en")) : "0"],
    ...(look.spool ? [["in the spool", `${count(Object.values(look.spool.blobs).reduce((a, b) => a + b, 0), "blob")}, ${bytes(look.spool.bytes)}`]] : []),
    ["Redis is full in", totals.full_in_s === null ? "can't be told, or it does not grow" : seconds(totals.full_in_s)],
  ]);
}

function lines(history) {
  const of = (column) => history.map((point) => [point[0], point[column]]);
  return [
    line("Chunks not stored yet", of(1), (value) => Math.round(value).toLocaleString("en")),
    line("Oldest unstored audio", of(2), (value) => seconds(value / 1000)),
    line("Stored blobs a minute", rates(history), (value) => value.toFixed(value < 10 ? 1 : 0)),
    line("Memory of Redis", of(4), bytes),
  ];
}

function rates(history) {
  return history.slice(1).map((point, i) => [point[0], ((point[3] - history[i][3]) * 60000) / Math.max(1, point[0] - history[i][0])]);
}

function partitions(look) {
  const owners = [...new Set(look.partitions.map((view) => view.owner).filter((owner) => owner !== null))].sort();
  const unowned = look.partitions.filter((view) => view.owner === null).length;
  const cells = look.partitions.map((view) => {
    const words = `partition ${view.number}: ${view.owner === null ? "no owner" : view.owner}, ${count(view.entries, "chunk")}`;
    const cell = el("span", { title: words, class: [view.owner === null ? "unowned" : "", view.entries ? "busy" : ""].join(" ").trim() || null });
    if (view.owner !== null) cell.style.setProperty("background", color(owners.indexOf(view.owner), owners.length));
    return cell;
  });
  const words = `${count(look.partitions.length, "partition")}, ${count(owners.length, "owner")}, ${unowned} without an owner`;
  return [el("h2", {}, "Partitions and owners"), el("p", { class: "faint" }, `${words}. Each colour is an owner; a frame marks audio that waits.`),
    el("div", { class: "partitions", role: "img", "aria-label": words }, cells)];
}

function color(number, of) {
  return `hsl(${Math.round((360 * number) / Math.max(1, of) + 210) % 360} 60% 60%)`;
}

function workers(look) {
  if (!look.workers) return note("warning", "The workers can't be listed.");
  const owned = (name) => look.partitions.filter((view) => view.owner === name).length;
  const columns = [["worker", ""], ["revision", ""], ["up for", "number"], ["partitions", "number"], ["says", ""]];
  return [el("h2", {}, "Workers"), table(count(look.workers.length, "worker"), columns, look.workers.map((worker) => [
    foreign(worker.name), foreign(worker.revision || "-"), worker.started_ms ? seconds((look.now_ms - worker.started_ms) / 1000) : "-",
    String(owned(worker.name)), foreign(worker.trouble || worker.notice || "")]))];
}

function servers(look) {
  const columns = [["node", ""], ["version", ""], ["role", ""], ["memory", "number"], ["limit", "number"], ["policy", ""], ["appendonly", ""], ["replicas", "number"]];
  return [el("h2", {}, "Redis"), table(count(look.servers.length, "node"), columns, look.servers.map((server) => [
    foreign(server.name), foreign(server.version), foreign(server.role), bytes(server.memory), server.memory_limit ? bytes(server.memory_limit) : "none",
    foreign(server.policy), foreign(server.saving), String(server.replicas)]))];
}

function busy(look, open) {
  const views = look.partitions.filter((view) => view.entries || view.sealed_batches || view.dead || view.lost);
  const columns = [["partition", "number"], ["owner", ""], ["chunks", "number"], ["oldest", "number"], ["sealed", "number"], ["dead", "number"], ["lost", "number"], ["stored", "number"]];
  return el("details", { open: Boolean(open) }, el("summary", {}, `${count(views.length, "partition")} with something in them`),
    table("partitions that hold audio, dead letters or losses", columns, views.map((view) => [String(view.number), view.owner === null ? "none" : foreign(view.owner),
      view.entries.toLocaleString("en"), view.oldest ? seconds(Math.max(0, look.now_ms - Number(view.oldest.split("-")[0])) / 1000) : "-",
      String(view.sealed_batches), String(view.dead), String(view.lost), view.stored.toLocaleString("en")])));
}
