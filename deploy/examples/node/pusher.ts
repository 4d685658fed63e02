// Pushes raw PCM (16-bit little-endian mono) from standard input into Redis, by one plain XADD for each five seconds.
//
//   ffmpeg -i speech.mp3 -f s16le -ac 1 -ar 16000 - | node pusher.ts alice lunch
//
// REDIS_URL, PARTITIONS (256), STREAM_PREFIX (pcm) and SAMPLE_RATE (16000) come from the environment.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { Redis, ReplyError } from "ioredis";

const CHUNK_SECONDS = 5;
const FIRST_DELAY_MS = 50;
const LONGEST_DELAY_MS = 5_000;
const REPLY_TIMEOUT_MS = 5_000;

type Fields = Record<string, string | Buffer>;

/** One life of a pusher: it numbers the chunks of one conversation, and keeps their order. */
export class Conversation {
  // A new random session whenever counting begins at 0 again: workers recognise repetitions by both.
  private readonly session = randomBytes(8).toString("hex");
  private readonly redis: Redis;
  private readonly ids: Fields;
  private readonly stream: string;
  private seq = 0;

  constructor(redis: Redis, uid: string, id: string, { prefix = "pcm", partitions = 256 } = {}) {
    this.redis = redis;
    this.ids = { uid, conversation_id: id, session: this.session };
    this.stream = `${prefix}:{${crc32(id) % partitions}}`; // the braces are part of the key
  }

  /** Resolves when Redis has the chunk. `timestamp` is Unix seconds of its first sample. */
  async push(timestamp: number, pcm: Buffer, sampleRate: number): Promise<void> {
    const seq = String(this.seq++);
    await this.add({ timestamp: timestamp.toFixed(6), seq, sample_rate: String(sampleRate), pcm });
  }

  /** The conversation is over; `seq` tells how many chunks there were, so that a lost tail shows. */
  async end(): Promise<void> {
    await this.add({ end: "1", seq: String(this.seq) });
  }

  // The same values again after every error: a chunk whose reply was lost comes twice then, and is stored once.
  private async add(fields: Fields): Promise<void> {
    const entry = { ...this.ids, ...fields };
    for (let delay = FIRST_DELAY_MS; ; delay = Math.min(2 * delay, LONGEST_DELAY_MS)) {
      try {
        await this.redis.xadd(this.stream, "*", ...Object.entries(entry).flat());
        return;
      } catch (error) {
        if (!isPassing(error)) throw error;
        console.error(`pushed again in ${delay} ms: ${error}`);
        await sleep(delay * (0.5 + Math.random() / 2));
      }
    }
  }
}

/** Whether the same push can succeed later. Never drop a chunk because Redis is away, full, failing over or loading. */
function isPassing(error: unknown): boolean {
  const refusals = /^(OOM|LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|UNBLOCKED|BUSY)/;
  return !(error instanceof ReplyError) || refusals.test((error as Error).message);
}

/** Standard input in pieces of `size` bytes; the last one may be shorter. */
async function* chunks(input: AsyncIterable<Buffer>, size: number): AsyncGenerator<Buffer> {
  let held = Buffer.alloc(0);
  for await (const piece of input) {
    held = Buffer.concat([held, piece]);
    for (; held.length >= size; held = held.subarray(size)) yield held.subarray(0, size);
  }
  if (held.length > 1) yield held;
}

async function main(): Promise<void> {
  const [uid, id, start] = process.argv.slice(2);
  if (!uid || !id) throw new Error("usage: node pusher.ts USER CONVERSATION [UNIX-SECONDS] < audio.pcm");
  const rate = Number(process.env.SAMPLE_RATE ?? 16000);
  // No silent retries and no waiting for a connection inside the client: `add` repeats, in order.
  const redis = new Redis(process.env.REDIS_URL ?? "redis://localhost:6379/0", {
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    commandTimeout: REPLY_TIMEOUT_MS,
    retryStrategy: (times) => Math.min(FIRST_DELAY_MS * 2 ** times, LONGEST_DELAY_MS),
  });
  redis.on("error", () => {}); // every failed command tells it
  const conversation = new Conversation(redis, uid, id, {
    prefix: process.env.STREAM_PREFIX,
    partitions: Number(process.env.PARTITIONS ?? 256),
  });
  let time = start ? Number(start) : Date.now() / 1000;
  for await (const pcm of chunks(process.stdin, 2 * rate * CHUNK_SECONDS)) {
    await conversation.push(time, pcm, rate);
    time += pcm.length / 2 / rate; // the sample count keeps time; arrival times jitter
  }
  await conversation.end();
  await redis.quit();
}

await main();
