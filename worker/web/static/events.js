// Events: what workers announce to backends, as it comes.

import { address, follow } from "./api.js";
import { announce, el, foreign, note, replace, row, table } from "./dom.js";
import { bytes, moment, seconds } from "./format.js";

const MOST_ROWS = 500;
const COLUMNS = [["announced (UTC)", "time"], ["user", ""], ["conversation", ""], ["audio from (UTC)", "time"], ["length", "number"], ["size", "number"], ["closed by", ""], ["protection", ""], ["object", ""]];

export async function show(main) {
  document.title = "Events · audio-batch-worker";
  const state = el("div", { "aria-live": "polite" });
  const filter = el("input", { name: "filter", autocomplete: "off", spellcheck: "false", input: () => sift() });
  const pause = el("button", { "aria-pressed": "false", click: () => toggle() }, "Pause");
  const list = table("done events, the newest first", COLUMNS, []);
  const body = list.querySelector("tbody");
  let held = [];
  replace(main, el("h1", {}, "Done events"), el("p", { class: "faint" }, "One per stored blob, as backends read them."),
    el("div", { class: "row" }, el("label", {}, "User or conversation contains", filter), pause), state, list);

  const toggle = () => {
    const paused = pause.getAttribute("aria-pressed") === "false";
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) add(held.splice(0));
  };
  const fits = (line) => !filter.value || line.dataset.whose.includes(filter.value);
  const sift = () => { for (const line of body.rows) line.hidden = !fits(line); };
  const add = (events) => {
    for (const event of events) {
      const line = row(COLUMNS, cells(event));
      line.dataset.whose = `${event.uid} ${event.conversation_id}`;
      line.hidden = !fits(line);
      body.prepend(line);
    }
    while (body.rows.length > MOST_ROWS) body.lastElementChild.remove();
  };
  follow("/api/events", (news) => {
    if (news.error) return replace(state, note("danger", news.error));
    replace(state);
    if (pause.getAttribute("aria-pressed") === "true") held = [...held, ...news].slice(-MOST_ROWS);
    else add(news);
  }, () => { announce("The connection is lost"); replace(state, note("warning", "The connection is lost; trying again …")); });
}

function cells(event) {
  const link = el("a", { href: address("/conversation", { uid: event.uid, conversation: event.conversation_id }) }, foreign(event.conversation_id));
  const length = event.samples && event.sample_rate ? seconds(event.samples / event.sample_rate) : "?";
  return [moment(Number(event.id.split("-")[0]) / 1000), foreign(event.uid), link, event.start === undefined ? "?" : moment(event.start), length,
    event.bytes === undefined ? "?" : bytes(event.bytes), foreign(event.trigger ?? "?"), foreign(event.protection ?? "?"), foreign(event.object)];
}
