// One conversation: hear it, see it, and whether all of it is there.

import { address, get } from "./api.js";
import { announce, el, facts, foreign, note, replace, table } from "./dom.js";
import { bytes, clock, count, moment, seconds } from "./format.js";
import { TimeLine } from "./timeline.js";
import { Waveform } from "./waveform.js";

const ROWS = 200; // of blobs that are shown at first
const SHORT = 0.5; // of the usual length
const LOOK_AGAIN_MS = 10000;
const COLUMNS = [["hear", ""], ["start (UTC)", "time"], ["at", "number"], ["length", "number"], ["size", "number"], ["codec", ""], ["protection", ""],
  ["closed by", ""], ["chunks", "number"], ["seq", ""], ["before it", ""], ["file", ""]];

export async function show(main, asked) {
  const whose = { uid: asked.get("uid") ?? "", conversation: asked.get("conversation") ?? "" };
  document.title = `${whose.conversation} · audio-batch-worker`;
  replace(main, heading(whose), el("p", { class: "faint" }, "Looking …"));
  const verdict = el("div", { "aria-live": "polite" }, el("p", { class: "faint" }, "Comparing with Redis …"));
  let found;
  try {
    found = await get("/api/conversation", whose);
  } catch (error) {
    replace(main, heading(whose), note("danger", error.message), verdict);
    return void judge(whose, verdict, null);
  }
  const view = new View(found, Number(asked.get("at") ?? 0));
  replace(main, heading(whose), verdict, view.nodes());
  view.begin();
  await judge(whose, verdict, view);
}

function heading({ uid, conversation }) {
  return [el("p", {}, el("a", { href: address("/find", { uid }) }, "User ", foreign(uid))), el("h1", {}, foreign(conversation))];
}

class View {
  constructor(found, at) {
    this.found = found;
    this.first = at;
    this.messages = el("div", { "aria-live": "polite" });
    const { uid, conversation, version } = found;
    this.file = address("/audio.wav", { uid, conversation, v: version });
    this.audio = el("audio", {
      controls: true, preload: "metadata", src: this.file, "aria-label": "The recording",
      timeupdate: () => this.line.place(this.audio.currentTime), play: () => this.tick(), error: () => this.failed(),
      loadedmetadata: () => { if (this.first) this.audio.currentTime = this.first; },
    });
    this.line = new TimeLine(found, { seek: (second, play) => this.seek(second, play), moved: (from, to) => this.moved(from, to) });
    this.wave = new Waveform(found, (error) => this.waved(error));
    this.line.waveform = this.wave;
    this.rows = el("div");
  }

  nodes() {
    const { found, line } = this;
    const { uid, conversation } = found;
    return [
      facts([
        ["start (UTC)", moment(found.start)], ["length", seconds(found.seconds)], ["stored", `${count(found.blobs.length, "blob")}, ${bytes(found.bytes)}`],
        ["sample rate", `${found.sample_rate / 1000} kHz`], ["silence in gaps", seconds(sum(found.blobs, "silence"))],
        ["left out", seconds(sum(found.blobs, "left_out"))],
      ]),
      this.audio, line.node,
      el("ul", { class: "legend" }, [["wave", "audio"], ["blob", "blobs, in turn"], ["silent", "silence"], ["gap", "gap"],
        ["overlap", "overlap, or missing"], ["redis", "still in Redis"]].map(([name, text]) => el("li", {}, el("i", { class: name }), text))),
      el("div", { class: "row" },
        el("button", { click: () => line.zoom(0.5, line.at) }, "Zoom in"), el("button", { click: () => line.zoom(2, line.at) }, "Zoom out"),
        el("button", { click: () => line.whole() }, "Whole"),
        el("a", { class: "button", href: address(this.file, {}) + "&download=1", download: `${conversation}.wav` }, "Download WAV"),
        el("button", { click: () => this.link() }, "Link to this place")),
      this.messages, notes(found), el("h2", {}, "Blobs"), this.rows,
      found.unknown.length ? [el("h2", {}, "Other objects"), table("objects that are no blobs", [["name", ""], ["reason", ""]],
        found.unknown.map((other) => [foreign(other.name), foreign(other.reason)]))] : null,
      el("p", { class: "faint" }, "The same on a terminal: ", el("code", {}, "audio-batch-worker audit --uid … --conversation …"), "; keys on the time line:"
        + " arrows 5 s, Page Up and Page Down, Home, End, + and −. User ", foreign(uid), "."),
    ];
  }

  begin() {
    this.list(ROWS);
    this.wave.load(this.line.from, this.line.to);
  }

  list(most) {
    const blobs = this.found.blobs;
    const usual = Math.max(0, ...blobs.map((blob) => blob.seconds));
    const rows = blobs.slice(0, most).map((blob, number) => this.cells(blob, number, usual));
    replace(this.rows, table(`${count(blobs.length, "blob")} in the order of time`, COLUMNS, rows),
      blobs.length > most ? el("button", { click: () => this.list(Infinity) }, `Show all ${blobs.length}`) : null);
  }

  cells(blob, number, usual) {
    const play = el("button", { "aria-label": `Play blob ${number + 1} from ${clock(blob.at)}`, click: () => this.seek(blob.at, true) }, "▶");
    const isShort = blob.seconds < SHORT * usual && number < this.found.blobs.length - 1;
    const before = [blob.silence ? `silence ${seconds(blob.silence)}` : "", blob.left_out ? `left out ${seconds(blob.left_out)}` : "",
      blob.cut ? `cut ${seconds(blob.cut)}` : "", blob.overlap > 0.05 ? `${seconds(blob.overlap)} late` : ""].filter(Boolean).join(", ");
    return [play, moment(blob.start), clock(blob.at), seconds(blob.seconds) + (isShort ? " (short)" : ""), bytes(blob.bytes),
      `${blob.codec} ${blob.sample_rate / 1000} kHz`, blob.protection, blob.trigger ? foreign(blob.trigger) : "?", blob.chunks ?? "?", foreign(blob.seqs ?? "?"), before, foreign(blob.file)];
  }

  seek(second, play) {
    this.audio.currentTime = Math.min(second, this.found.seconds);
    this.line.place(this.audio.currentTime);
    if (play) this.audio.play().catch(() => {});
  }

  tick() {
    this.line.place(this.audio.currentTime);
    if (!this.audio.paused) requestAnimationFrame(() => this.tick());
  }

  moved(from, to) {
    clearTimeout(this.later);
    if (!this.wave.complete) this.later = setTimeout(() => this.wave.load(from, to), 300);
  }

  waved(error) {
    if (error) this.messages.append(note("warning", `The waveform is not complete: ${error.message}`));
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => { this.drawing = 0; this.line.draw(); });
  }

  async failed() {
    const reply = await fetch(this.file, { method: "HEAD" });
    const reason = reply.status === 410 ? "The conversation has grown." : "The audio could not be read.";
    replace(this.messages, note("warning", reason, " ", again()));
  }

  link() {
    const { uid, conversation } = this.found;
    const at = Math.floor(this.line.at);
    history.replaceState(null, "", address("/conversation", { uid, conversation, at }));
    navigator.clipboard?.writeText(location.href).catch(() => {});
    announce("The address of this page leads to this place");
    replace(this.messages, note("good", `The address of this page now leads to ${clock(at)}.`));
  }

  /** Look now and then whether the conversation has grown. */
  watch() {
    const { uid, conversation, version } = this.found;
    const timer = setInterval(async () => {
      if (document.hidden) return;
      const now = await get("/api/conversation", { uid, conversation }).catch(() => null);
      if (now && now.version !== version) {
        clearInterval(timer);
        replace(this.messages, note("good", "More of this conversation is stored now. ", again()));
      }
    }, LOOK_AGAIN_MS);
  }
}

function again() {
  return el("button", { click: () => location.reload() }, "Load again");
}

function notes(found) {
  const items = [
    ...found.problems.map((each) => note("danger", foreign(each.name), ": ", foreign(each.reason), each.instead ? " Another blob gives the same audio." : " It is silent here.")),
    ...found.repeated.map((each) => note("warning", foreign(each.name), " is left out: its audio is in ", foreign(each.inside))),
  ];
  return items.length ? [el("h2", {}, "What needs a look"), ...items] : null;
}

async function judge(whose, verdict, view) {
  let audit;
  try {
    audit = await get("/api/audit", whose);
  } catch (error) {
    return replace(verdict, note("warning", `Whether it is complete can't be told: ${error.message}`));
  }
  if (audit.unavailable) return replace(verdict, el("p", { class: "faint" }, `Whether it is complete is not told: ${audit.unavailable}.`));
  const words = { complete: ["good", audit.numbered ? "Complete: every number is stored once." : "No gap in time; without seq this is all that can be told."],
    incomplete: ["danger", "Not complete."], unknown: ["warning", "Whether it is complete can't be proven."] }[audit.verdict];
  const { waiting, letters, missing } = audit;
  const onlyWaiting = audit.verdict === "incomplete" && audit.problems.every((problem) => problem.startsWith("still in Redis"));
  replace(verdict, onlyWaiting ? note("warning", "The rest is still on its way: ", audit.problems.join("; ")) : [note(...words), el("ul", {}, audit.problems.map((each) => el("li", {}, foreign(each))))],
    letters.length ? el("p", {}, el("a", { href: address("/letters", whose) }, `${count(letters.length, "dead letter")} of this conversation`)) : null);
  if (!view) return;
  view.line.marks = missing.filter((each) => each.after !== null).map((each) => ({ at: placeOf(view.found, each.after) }));
  view.line.wait(waiting);
  if (waiting.length) view.watch();
}

/** The second of the recording at which a Unix time is heard. */
function placeOf(found, time) {
  const blob = found.blobs.findLast((each) => each.start <= time) ?? found.blobs[0];
  return blob ? Math.min(blob.at + time - blob.start, blob.at + blob.seconds) : 0;
}

function sum(items, name) {
  return items.reduce((total, item) => total + item[name], 0);
}
