// The way to the server: all that there is, then news. What is lost is sought again, ever more rarely, then when asked.

const WAITS_S = [1, 2, 4, 8, 16, 32, 60, 60, 60]; // a browser's console keeps every failure: there is an end to it
const STEADY_MS = 10_000; // what fails after so long fails for the first time

const GONE = "The lab has ended or cannot be reached.";
const SILENT = "The lab answers, but sends no news: other viewers may have all places.";

export class Connection {
  /**
   * `take` is given the answers of /api/constellation and /api/chains together, `hear` every piece of news, `tell` how
   * things stand: `{ isLive, words, heard_ms }`, where words are null but for a loss that lasts, and heard_ms is the
   * Date of the last thing that was heard, or null.
   */
  constructor(take, hear, tell) {
    Object.assign(this, { take, hear, tell, source: null, timer: null, failures: 0, attempt: 0, heard_ms: null });
  }

  async begin() {
    clearTimeout(this.timer);
    this.source?.close();
    this.attempt += 1;
    const { attempt } = this;
    let all = null;
    try {
      const snapshot = await ask("/api/constellation"); // alone: where nobody answers, one request is enough to know
      all = { ...snapshot, ...(await ask("/api/chains")) };
    } catch {
      if (attempt === this.attempt) this.lose(GONE);
      return;
    }
    if (attempt !== this.attempt) return;
    this.heard_ms = Date.now();
    this.take(all);
    this.listen(all.cursor);
  }

  listen(cursor) {
    const source = new EventSource(`/api/events?after=${encodeURIComponent(cursor)}`);
    this.source = source;
    let opened_ms = Infinity;
    source.onopen = () => {
      opened_ms = Date.now();
      this.tell({ isLive: true, words: null, heard_ms: opened_ms });
    };
    source.addEventListener("news", (message) => {
      this.heard_ms = Date.now();
      JSON.parse(message.data).forEach((item) => this.hear(item));
    });
    source.addEventListener("reset", () => this.begin());
    source.onerror = () => {
      if (source !== this.source) return;
      if (Date.now() - opened_ms > STEADY_MS) this.failures = 0;
      this.lose(this.failures ? SILENT : null);
    };
  }

  lose(words) {
    this.source?.close();
    this.source = null;
    this.tell({ isLive: false, words, heard_ms: this.heard_ms });
    const wait_s = WAITS_S[this.failures];
    this.failures += 1;
    if (wait_s !== undefined) this.timer = setTimeout(() => this.begin(), wait_s * 1000);
  }
}

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}
