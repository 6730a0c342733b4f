/**
 * live.js: Kingpost's events in a browser. No dependencies; copy it into your own page.
 *
 *   import { connect } from "/console/live.js";
 *
 *   const live = connect({
 *     channels: ["items"],                    // or a function that returns them
 *     token: async () => accessToken,        // null: nobody is signed in, public events only
 *     onEvent: (event, channel) => { … },     // {id, type, time, subject, data}
 *     onState: (state) => { … },              // "connecting" | "live" | "offline"
 *     onGap: () => { … },                     // away for too long: load everything anew
 *     onRefused: async () => { … },           // the token is refused: get another one
 *   });
 *   live.renew();                             // after `token` has a newer one
 *   live.restart();                           // after somebody signed in or out
 *   live.close();
 *
 * It reconnects by itself, with growing random pauses and at once when the network is back, and
 * resumes each channel after the last event that it saw, so that none is lost and none comes twice.
 * Signed in it speaks WebSocket, else it reads the stream of server-sent events.
 */

const FIRST_PAUSE = 500; // milliseconds
const LONGEST_PAUSE = 30_000;
const POLICY_VIOLATION = 1008; // the token is no good any more, or the person is not welcome
const SILENCE = 60_000; // the service pings more often, but browsers do not show it: ask by ourselves

export function connect(options) {
  return new Connection(options);
}

class Connection {
  #options;
  #seen = new Map(); // channel → id of the last event
  #attempts = 0;
  #generation = 0; // an end that belongs to an older attempt changes nothing
  #timer = 0;
  #heartbeat = 0;
  #socket = null;
  #stream = null;
  #isClosed = false;
  #isRefused = false;

  constructor(options) {
    this.#options = { origin: location.origin, onEvent() {}, onState() {}, onGap() {}, onMessage() {}, onRefused() {}, ...options };
    addEventListener("online", this.#now);
    addEventListener("offline", this.#lost);
    this.#open();
  }

  get #channels() {
    const { channels } = this.#options;
    return typeof channels === "function" ? channels() : channels;
  }

  /** Tell the service of a newer token before the old one runs out. */
  async renew() {
    const token = await this.#options.token();
    if (token) this.#send({ action: "authenticate", token });
  }

  /** Connect anew, as whoever is signed in now. */
  restart() {
    this.#attempts = 0;
    this.#isRefused = false;
    this.#end();
    this.#open();
  }

  /** Publish to a room, or send any other message of the protocol. */
  send(message) {
    return this.#send(message);
  }

  close() {
    this.#isClosed = true;
    removeEventListener("online", this.#now);
    removeEventListener("offline", this.#lost);
    this.#end();
  }

  #now = () => {
    if (this.#timer) this.restart();
  };

  #lost = () => this.#options.onState("offline");

  async #open() {
    const generation = ++this.#generation;
    this.#options.onState("connecting");
    let token = null;
    try {
      if (this.#isRefused) await this.#options.onRefused();
      this.#isRefused = false;
      token = await this.#options.token();
    } catch {
      this.#retry(generation);
      return;
    }
    if (generation !== this.#generation || this.#isClosed) return;
    if (token) this.#openSocket(generation, token);
    else this.#openStream(generation);
  }

  #openSocket(generation, token) {
    const socket = new WebSocket(this.#options.origin.replace(/^http/, "ws") + "/ws");
    this.#socket = socket;
    socket.onopen = () => this.#send({ action: "authenticate", token });
    socket.onmessage = ({ data }) => {
      if (generation === this.#generation) this.#take(JSON.parse(data));
    };
    socket.onclose = ({ code }) => {
      if (generation === this.#generation) this.#isRefused = code === POLICY_VIOLATION;
      this.#retry(generation);
    };
  }

  #take(message) {
    this.#watch();
    switch (message.type) {
      case "welcome":
        this.#attempts = 0;
        this.#options.onState("live");
        for (const channel of this.#channels) {
          const since = channel.startsWith("room:") ? undefined : this.#seen.get(channel);
          if (since === undefined) this.#seen.set(channel, message.event_id);
          this.#send({ action: "subscribe", channel, since });
        }
        break;
      case "event":
        this.#seen.set(message.channel, message.event.id);
        this.#options.onEvent(message.event, message.channel);
        break;
      case "error":
        if (message.error_code === "EVENTS_EXPIRED") this.#forget();
        break;
      default:
        this.#options.onMessage(message);
    }
  }

  #openStream(generation) {
    const url = new URL("/api/v1/events", this.#options.origin);
    for (const channel of this.#channels) url.searchParams.append("channel", channel);
    const stream = new EventSource(url); // reconnects and resumes by itself
    this.#stream = stream;
    stream.onopen = () => {
      this.#attempts = 0;
      if (generation === this.#generation) this.#options.onState("live");
    };
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) this.#retry(generation);
      else if (generation === this.#generation) this.#options.onState("connecting");
    };
    for (const kind of this.#options.kinds ?? KINDS) {
      stream.addEventListener(kind, ({ data }) => {
        if (generation === this.#generation) this.#options.onEvent(JSON.parse(data), null);
      });
    }
  }

  #forget() {
    this.#seen.clear();
    this.#options.onGap();
    this.restart();
  }

  #retry(generation) {
    if (generation !== this.#generation || this.#isClosed) return;
    this.#end();
    this.#options.onState("offline");
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.#attempts++);
    this.#timer = setTimeout(() => this.#open(), longest * (0.5 + Math.random() / 2));
  }

  #watch() {
    clearTimeout(this.#heartbeat);
    this.#heartbeat = setTimeout(() => {
      this.#send({ action: "ping" });
      this.#heartbeat = setTimeout(() => this.#socket?.close(), SILENCE / 4);
    }, SILENCE);
  }

  #send(message) {
    const isOpen = this.#socket?.readyState === WebSocket.OPEN;
    if (isOpen) this.#socket.send(JSON.stringify(message));
    return isOpen;
  }

  #end() {
    this.#generation++;
    clearTimeout(this.#timer);
    clearTimeout(this.#heartbeat);
    this.#timer = 0;
    this.#socket?.close();
    this.#stream?.close();
    this.#socket = this.#stream = null;
  }
}

const KINDS = [
  "item.created",
  "item.updated",
  "item.deleted",
  "item.restored",
  "file.added",
  "file.removed",
];
