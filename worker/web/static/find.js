// Find: users by the beginning of their id; conversations of a user by id and day.

import { address, get } from "./api.js";
import { announce, el, foreign, note, replace, table } from "./dom.js";
import { bytes, count, moment, seconds } from "./format.js";

export async function show(main, asked) {
  document.title = "Find · audio-batch-worker";
  const uid = asked.get("uid") ?? "";
  replace(main, uid ? conversations(asked, uid) : users(asked));
}

function users(asked) {
  const found = el("div");
  const prefix = input("prefix", "User id begins with", asked);
  const list = async (after = "") => {
    const page = await get("/api/users", { prefix: prefix.input.value, after });
    const rows = page.users.map((user) => [el("a", { href: address("/find", { uid: user }) }, foreign(user))]);
    append(found, after, page, [["user", ""]], rows, "users", () => list(page.users.at(-1)));
  };
  start(list, found);
  return [
    el("h1", {}, "Find a conversation"),
    el("form", { role: "search", submit: (event) => { event.preventDefault(); remember({ prefix: prefix.input.value }); start(list, found); } },
      prefix.label, el("button", {}, "Search")),
    el("form", { action: "/conversation", method: "get" }, input("uid", "User id", new Map(), true).label,
      input("conversation", "Conversation id", new Map(), true).label, el("button", {}, "Open")),
    found,
  ];
}

function conversations(asked, uid) {
  document.title = `${uid} · audio-batch-worker`;
  const found = el("div");
  const prefix = input("prefix", "Conversation id begins with", asked);
  const day = input("day", "Day (UTC)", asked, false, "date");
  const columns = [["conversation", ""], ["start (UTC)", "time"], ["length", "number"], ["audio", "number"], ["blobs", "number"], ["size", "number"]];
  const list = async (after = "") => {
    const page = await get("/api/conversations", { uid, prefix: prefix.input.value, day: day.input.value, after });
    const rows = page.conversations.map((each) => [
      el("a", { href: address("/conversation", { uid, conversation: each.conversation }) }, foreign(each.conversation)),
      moment(each.start), seconds(each.end - each.start), each.unmeasured ? `${seconds(each.seconds)} + ${each.unmeasured} unmeasured` : seconds(each.seconds),
      each.blobs.toLocaleString("en"), bytes(each.bytes),
    ]);
    append(found, after, page, columns, rows, "conversations", () => list(page.conversations.at(-1).conversation));
  };
  start(list, found);
  return [
    el("p", {}, el("a", { href: "/find" }, "All users")),
    el("h1", {}, "User ", foreign(uid)),
    el("form", { role: "search", submit: (event) => { event.preventDefault(); remember({ uid, prefix: prefix.input.value, day: day.input.value }); start(list, found); } },
      prefix.label, day.label, el("button", {}, "Search")),
    found,
  ];
}

function start(list, found) {
  replace(found, el("p", { class: "faint" }, "Searching …"));
  list().catch((error) => replace(found, note("danger", error.message)));
}

/** Show a page of results: in place of what is there, or behind it. */
function append(found, after, page, columns, rows, what, more) {
  if (!after) replace(found, rows.length ? table(`${what}, in the order of their ids`, columns, rows) : el("p", {}, `No ${what} found.`));
  else found.querySelector("tbody").append(...table("", columns, rows).querySelectorAll("tbody tr"));
  found.querySelector("#more")?.remove();
  if (page.unfinished) found.append(note("warning", "The search has not seen all: write more of the id."));
  if (page.more) {
    const button = el("button", { id: "more", click: () => more().catch((error) => found.append(note("danger", error.message))) }, "Show more");
    found.append(button);
  }
  announce(count(found.querySelectorAll("tbody tr").length, "result"));
}

function input(name, text, asked, required = false, type = "text") {
  const field = el("input", { name, type, value: asked.get(name) ?? "", required, autocomplete: "off", spellcheck: "false" });
  return { input: field, label: el("label", {}, text, field) };
}

function remember(parameters) {
  history.replaceState(null, "", address("/find", parameters));
}
