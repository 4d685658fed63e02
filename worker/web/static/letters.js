// Dead letters: by reason, page by page, with their fields and audio; pushed again where that is allowed.

import { address, get, post } from "./api.js";
import { announce, ask, el, foreign, note, replace, row, table } from "./dom.js";
import { bytes, count, moment } from "./format.js";

const COLUMNS = [["letter", ""], ["became one (UTC)", "time"], ["user", ""], ["conversation", ""], ["size", "number"], ["reason", ""], ["do", ""]];

export async function show(main, asked) {
  document.title = "Dead letters · audio-batch-worker";
  const view = new Letters(asked);
  replace(main, el("h1", {}, "Dead letters"), el("p", { class: "faint" }, "Entries that could not be processed. To give them up: audio-batch-worker dead-letters drop."),
    view.groups, view.form, view.messages, view.list, view.detail);
  await view.search();
}

class Letters {
  constructor(asked) {
    this.groups = el("div");
    this.messages = el("div", { "aria-live": "polite" });
    this.list = el("div");
    this.detail = el("section", { "aria-label": "One letter" });
    this.fields = Object.fromEntries([["reason", "Reason contains"], ["uid", "User id"], ["conversation", "Conversation id"]]
      .map(([name, text]) => [name, { text, input: el("input", { name, value: asked.get(name) ?? "", autocomplete: "off", spellcheck: "false" }) }]));
    this.form = el("form", { role: "search", submit: (event) => { event.preventDefault(); this.search(); } },
      Object.values(this.fields).map(({ text, input }) => el("label", {}, text, input)), el("button", {}, "Show"));
  }

  wanted() {
    return Object.fromEntries(Object.entries(this.fields).map(([name, { input }]) => [name, input.value]));
  }

  async search(after = "") {
    history.replaceState(null, "", address("/letters", this.wanted()));
    let page;
    try {
      page = await get("/api/letters", { ...this.wanted(), after });
    } catch (error) {
      return replace(this.messages, note("danger", error.message));
    }
    this.allowed = page.allow_replay;
    this.showGroups(page);
    const rows = page.letters.map((letter) => this.cells(letter));
    if (!after) replace(this.list, rows.length ? table("letters, the oldest of each partition first", COLUMNS, rows) : el("p", {}, "None."));
    else this.list.querySelector("tbody").append(...rows.map((cells) => row(COLUMNS, cells)));
    this.names = [...(after ? this.names : []), ...page.letters.map((letter) => letter.name)];
    this.list.querySelector(".row")?.remove();
    this.list.append(el("div", { class: "row" },
      page.more ? el("button", { click: () => this.search(page.letters.at(-1).name) }, "Show more") : null,
      this.allowed && this.names.length ? el("button", { click: () => this.replay(this.names) }, `Push all ${this.names.length} shown again`) : null));
    announce(count(this.names.length, "letter"));
  }

  showGroups(page) {
    const rows = page.groups.map((group) => [group.count.toLocaleString("en"), bytes(group.bytes), el("button", { click: () => this.choose(group.kind) }, foreign(group.kind))]);
    replace(this.groups, page.count ? table(`${count(page.count, "letter")} by reason`, [["letters", "number"], ["size", "number"], ["reason", ""]], rows)
      : note("good", "No entry has failed."), page.unfinished ? note("warning", "There are more: only the first ones are counted.") : null, el("p"));
  }

  choose(kind) {
    this.fields.reason.input.value = kind;
    this.search();
  }

  cells(letter) {
    const whose = { uid: letter.uid ?? "", conversation: letter.conversation_id ?? "" };
    const link = letter.uid && letter.conversation_id ? el("a", { href: address("/conversation", whose) }, foreign(letter.conversation_id)) : foreign(letter.conversation_id ?? "?");
    return [letter.name, moment(letter.moved_ms / 1000), foreign(letter.uid ?? "?"), link, bytes(letter.bytes), foreign(letter.reason),
      [el("button", { "aria-label": `Show letter ${letter.name}`, click: () => this.open(letter.name) }, "Show"), " ",
        this.allowed ? el("button", { "aria-label": `Push letter ${letter.name} again`, click: () => this.replay([letter.name]) }, "Push again") : null]];
  }

  async open(name) {
    let letter;
    try {
      letter = await get("/api/letter", { letter: name });
    } catch (error) {
      return replace(this.detail, note("danger", error.message));
    }
    const rows = letter.fields_shown.map((field) => [foreign(field.name), field.bytes.toLocaleString("en"), field.text === null ? el("code", {}, field.hex) : foreign(field.text)]);
    const heading = el("h2", { tabindex: "-1" }, `Letter ${name}`);
    replace(this.detail, heading, el("p", {}, foreign(letter.reason)),
      letter.fields_shown.some((field) => field.name === "pcm" && field.bytes) ? el("audio", { controls: true, preload: "none", src: address("/letter.wav", { letter: name }), "aria-label": `Audio of letter ${name}` }) : el("p", { class: "faint" }, "It has no audio."),
      table("fields as they were pushed; long ones are cut", [["field", ""], ["bytes", "number"], ["value", ""]], rows));
    heading.focus();
  }

  async replay(names) {
    if (!(await ask(`Push ${count(names.length, "dead letter")} again, exactly as ${names.length === 1 ? "it was" : "they were"}? If the cause is not mended, they come back.`, "Push again"))) return;
    try {
      const { outcomes } = await post("/api/letters/replay", { letters: names });
      const words = Object.entries(outcomes).map(([outcome, number]) => `${outcome}: ${number}`).join(", ");
      replace(this.messages, note("good", words));
      await this.search();
    } catch (error) {
      replace(this.messages, note("danger", error.message));
    }
  }
}
