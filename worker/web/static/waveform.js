// Reads the stream of a conversation's peaks: 20 levels per second, blob by blob, the shown part first.

import { address } from "./api.js";

export class Waveform {
  constructor(conversation, changed) {
    this.conversation = conversation;
    this.peaks = new Map(); // number of the blob → its levels
    this.changed = changed;
    this.stop = new AbortController();
  }

  get complete() {
    return this.peaks.size === this.conversation.blobs.length;
  }

  /** Ask for all that is not there, beginning with what is shown. */
  async load(from, to) {
    this.stop.abort();
    this.stop = new AbortController();
    const { uid, conversation, version } = this.conversation;
    const path = address("/api/waveform", { uid, conversation, v: version, from: Math.floor(from), to: Math.ceil(to) });
    try {
      const response = await fetch(path, { signal: this.stop.signal });
      if (!response.ok) throw new Error(await response.text());
      await this.read(response.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch (error) {
      if (error.name !== "AbortError") this.changed(error);
    }
  }

  async read(reader) {
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) this.take(JSON.parse(line));
      this.changed(null);
    }
  }

  take({ blob, peaks }) {
    this.peaks.set(blob, Uint8Array.from(atob(peaks), (char) => char.charCodeAt(0)));
  }

  /** The highest level of a blob between two seconds in it; undefined while it is not known. */
  level(blob, from, to) {
    const levels = this.peaks.get(blob);
    if (!levels) return undefined;
    let highest = 0;
    const last = Math.min(levels.length, Math.max(Math.ceil(to * 20), Math.floor(from * 20) + 1));
    for (let i = Math.max(0, Math.floor(from * 20)); i < last; i++) if (levels[i] > highest) highest = levels[i];
    return highest;
  }
}
