// Draws the time line to scale: waveform, blobs, silence, gaps, overlaps, what is still in Redis, where it plays.

import { el } from "./dom.js";
import { clock, moment } from "./format.js";

const WAVE = 0.66; // shares of the height
const STRIP = 0.8;
const LEAST_SECONDS = 2; // of a view

export class TimeLine {
  constructor(conversation, { seek, moved }) {
    this.conversation = conversation;
    this.waveform = null;
    this.waiting = [];
    this.marks = [];
    this.length = conversation.seconds;
    this.from = 0;
    this.to = this.length;
    this.at = 0;
    this.seek = seek;
    this.moved = moved;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.node = el("div", {
      class: "timeline", role: "slider", tabindex: "0", "aria-label": "Place in the recording", "aria-orientation": "horizontal",
      "aria-valuemin": "0", "aria-valuemax": Math.round(this.length), "aria-valuenow": "0",
      keydown: (event) => this.key(event), click: (event) => this.seek(this.second(event), true), wheel: (event) => this.wheel(event),
    }, this.canvas);
    this.picture = document.createElement("canvas");
    new ResizeObserver(() => this.draw()).observe(this.node);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.place(0);
  }

  /** Chunks that are still in Redis lie behind the stored audio. */
  wait(chunks) {
    const start = this.conversation.start ?? 0;
    const last = this.conversation.blobs.at(-1);
    const end = last ? last.start + last.seconds : start;
    this.waiting = chunks.filter((chunk) => chunk.start !== null && chunk.end !== null)
      .map((chunk) => ({ at: this.length + Math.max(0, chunk.start - end), seconds: chunk.end - chunk.start }));
    const reach = Math.max(this.conversation.seconds, ...this.waiting.map((chunk) => chunk.at + chunk.seconds));
    if (this.to >= this.length) this.to = reach;
    this.reach = reach;
    this.draw();
  }

  get end() {
    return this.reach ?? this.length;
  }

  second(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.from + ((event.clientX - box.left) / box.width) * (this.to - this.from);
  }

  key(event) {
    const page = (this.to - this.from) / 10;
    const steps = { ArrowRight: 5, ArrowUp: 5, ArrowLeft: -5, ArrowDown: -5, PageUp: page, PageDown: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      event.preventDefault();
      this.seek(Math.min(this.length, Math.max(0, this.at + steps[event.key])), false);
    } else if (event.key === "+" || event.key === "-") {
      this.zoom(event.key === "+" ? 0.5 : 2, this.at);
    }
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? 0.8 : 1.25, this.second(event));
  }

  zoom(factor, around) {
    const width = Math.min(this.end, Math.max(LEAST_SECONDS, (this.to - this.from) * factor));
    const share = (around - this.from) / (this.to - this.from || 1);
    this.look(around - width * Math.min(1, Math.max(0, share)), width);
  }

  look(from, width) {
    this.from = Math.max(0, Math.min(from, this.end - width));
    this.to = Math.min(this.end, this.from + width);
    this.draw();
    this.moved(this.from, this.to);
  }

  whole() {
    this.look(0, this.end);
  }

  /** Show where it plays. */
  place(at) {
    this.at = at;
    const blob = this.blobAt(at);
    const when = blob ? moment(blob.start + (at - blob.at)) : "";
    this.node.setAttribute("aria-valuenow", Math.round(at));
    this.node.setAttribute("aria-valuetext", `${clock(at)} of ${clock(this.length)}, ${when} UTC`);
    this.paint();
  }

  blobAt(at) {
    const blobs = this.conversation.blobs;
    let low = 0, high = blobs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (blobs[middle].at <= at) low = middle + 1;
      else high = middle;
    }
    return blobs[Math.max(0, low - 1)];
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    for (const canvas of [this.canvas, this.picture]) [canvas.width, canvas.height] = [width, height];
    const style = getComputedStyle(this.node);
    this.color = (name) => style.getPropertyValue(`--${name}`);
    this.drawBlobs(this.picture.getContext("2d"), width, height);
    this.paint();
  }

  drawBlobs(pen, width, height) {
    const x = (second) => ((second - this.from) / (this.to - this.from || 1)) * width;
    this.conversation.blobs.forEach((blob, number) => {
      if (blob.at > this.to || blob.at + blob.seconds < this.from) return;
      if (blob.silence) box(pen, this.color("silent"), x(blob.at - blob.silence), x(blob.at), height * WAVE * 0.48, height * WAVE * 0.52);
      if (blob.silence || blob.left_out) box(pen, this.color("gap"), x(blob.at - blob.silence), Math.max(x(blob.at), x(blob.at - blob.silence) + 2), height * WAVE, height * STRIP);
      box(pen, this.color(number % 2 ? "blob-next" : "blob"), x(blob.at), Math.max(x(blob.at + blob.seconds), x(blob.at) + 1), height * WAVE, height * STRIP);
      if (blob.cut || blob.overlap > 0.05) box(pen, this.color("overlap"), x(blob.at), x(blob.at) + 3, height * WAVE, height * STRIP);
      this.drawWave(pen, blob, number, x, height);
    });
    for (const chunk of this.waiting) box(pen, this.color("redis"), x(chunk.at), x(chunk.at + chunk.seconds), height * (STRIP + 0.04), height);
    for (const mark of this.marks) box(pen, this.color("overlap"), x(mark.at) - 1, x(mark.at) + 2, 0, height);
  }

  drawWave(pen, blob, number, x, height) {
    const first = Math.max(0, Math.floor(x(blob.at)));
    const last = Math.min(this.picture.width, Math.ceil(x(blob.at + blob.seconds)));
    const perPixel = (this.to - this.from) / this.picture.width;
    const middle = (height * WAVE) / 2;
    pen.fillStyle = this.color("wave");
    for (let column = first; column < last; column++) {
      const second = this.from + column * perPixel - blob.at;
      const level = this.waveform?.level(number, second, second + perPixel);
      if (level === undefined) return;
      const half = Math.max(0.5, (level / 255) * middle);
      pen.fillRect(column, middle - half, 1, 2 * half);
    }
  }

  paint() {
    const pen = this.canvas.getContext("2d");
    if (!this.color || !this.picture.width) return;
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this.picture, 0, 0);
    const x = ((this.at - this.from) / (this.to - this.from || 1)) * this.canvas.width;
    box(pen, this.color("text"), x - 1, x + 1, 0, this.canvas.height);
  }
}

function box(pen, color, left, right, top, bottom) {
  pen.fillStyle = color;
  pen.fillRect(left, top, right - left, bottom - top);
}
