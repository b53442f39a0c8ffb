// A visitor's talk: what the chat page (chat.js) and the chat on other sites (widget.js) do alike. Sends one message after the
// other, shows answers as they are written and what people say as it happens, survives a lost connection.
// A module for the page; into /widget.js the server puts it as it is, without "export" (web/widget.py).

// Whatever people or models wrote enters as text.
export const make = (tag, attributes = {}, ...inside) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...inside);
  return node;
};

// A picture of any source is drawn, not loaded: no policy for images matters. Returns the canvas and what draws on it.
export const SHOWN_PX = 280;
export const drawn = (label, width, height) => {
  const fine = Math.min(2, Math.max(1, devicePixelRatio));
  const canvas = make("canvas", { width: width * fine, height: height * fine, role: "img", "aria-label": label });
  canvas.style.width = `${width}px`;
  const draw = (source) => {
    const share = Math.min(canvas.width / source.width, canvas.height / source.height);
    const [across, down] = [source.width * share, source.height * share];
    canvas.getContext("2d").drawImage(source, (canvas.width - across) / 2, (canvas.height - down) / 2, across, down);
    source.close();
  };
  return [canvas, draw];
};

// `at` is where the talk takes place:
//   log, scroll, fault, offline: elements
//   words(): what is said around the talk, in the visitor's language
//   ask(path, options): a request to the server, as this visitor
//   here(): whether this visitor may have a talk at all; open(): whether they look at it
//   status(now): who answers has changed
//   picture(file, link): puts a picture into its link; sound: whether it may be played here
//   begin(): before a message leaves; first(next): the talk was read for the first time; heard(items): these are new
export const startTalk = (at) => {
  const FIRST_EVENT_MS = 10000;
  const SILENCE_MS = 50000;
  const PERSON_WRITES_MS = 12000;
  const EXPECTED_MS = 4000;
  const CLOSED_SOON_MS = 15000;
  const SELDOM_MS = 30000;
  const WAIT_FOR_ANSWER_MS = 90000;
  const { log, scroll, fault, offline } = at;

  let status = "bot";
  let sending = false;
  let streams = 0;
  let written = 0;
  let last = "";
  let dots = null;
  let personWrites = 0;
  let slow = 0;
  let timer = 0;
  let line = null;
  let failed = 0;
  let rated = Promise.resolve();
  const queue = [];
  const kept = [];
  const known = new Set();
  const fieldsOf = new WeakMap();

  const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120;
  const toEnd = () => {
    scroll.scrollTop = scroll.scrollHeight;
  };

  // What is told takes room from the talk: whoever stands at its end stays there.
  const tell = (text) => {
    const stay = atEnd();
    fault.textContent = text;
    fault.hidden = !text;
    if (stay) toEnd();
  };

  const bubble = (author, text) => {
    const own = author === "customer";
    const { you, name, operator } = at.words();
    const row = make("div", { class: `message ${own ? "own" : "theirs"}` });
    row.append(make("span", { class: "unseen" }, `${own ? you : name}: `));
    if (author === "operator") row.append(make("span", { class: "who" }, operator));
    row.append(make("p", { class: "bubble", dir: "auto" }, text));
    return row;
  };
  const bubbleOf = (row) => row.querySelector(".bubble");

  const forgetFate = (row) => {
    row.classList.remove("unsent");
    row.querySelector(".fate")?.remove();
  };

  // Files: a picture and sound are seen and heard here where that may be, everything else is a link.

  const nameOf = ({ name, size }) => `📎 ${name} (${size})`;
  const fileOf = (file) => {
    const place = make("span", { class: "sent-file" });
    const href = at.address(file.url);
    if (file.shown === "audio" && at.sound) {
      place.append(make("audio", { controls: true, preload: "none", src: href, "aria-label": file.name }));
      return place;
    }
    const link = make("a", { href, target: "_blank", rel: "noopener" });
    const plain = () => {
      place.classList.remove("seen");
      link.replaceChildren(nameOf(file));
    };
    if (file.shown === "image") {
      place.classList.add("seen");
      at.picture(file, link, plain);
    } else {
      link.setAttribute("download", "");
      plain();
    }
    place.append(link);
    return place;
  };

  const showFiles = (row, { files = [], instead }) => {
    // What was drawn from the visitor's own file stays to be seen as long as the page does.
    if (!files.length || row.querySelector(".sent-file, canvas")) return;
    const nodes = files.map(fileOf);
    if (!instead) {
      row.append(...nodes);
      return;
    }
    bubbleOf(row).replaceChildren(...nodes);
    if (files.every(({ shown }) => shown === "image")) bubbleOf(row).classList.add("shown");
  };

  // What the visitor thinks of an answer; pressed again, the other thumb takes its place.
  const thumbs = ({ id, rating }) => {
    const { up, down } = at.words();
    const group = make("div", { class: "thumbs" });
    for (const [value, sign, label] of [[1, "👍", up], [-1, "👎", down]]) {
      const pressed = String(rating === value);
      const attributes = { type: "button", value: `rate:${value}:${id}`, "aria-pressed": pressed, "aria-label": label, title: label };
      group.append(make("button", attributes, make("span", { "aria-hidden": "true" }, sign)));
    }
    return group;
  };

  const press = (button) => {
    const group = button.closest(".thumbs");
    const mark = (one) => group.querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", String(each === one)));
    const before = group.querySelector("[aria-pressed='true']");
    mark(button);
    // One after the other: the last one pressed is the one that holds.
    rated = rated.then(async () => {
      try {
        const response = await at.ask("ratings", {
          method: "POST",
          body: new URLSearchParams({ rating: button.value }),
          headers: { Accept: "application/json" },
        });
        if (!response.ok) throw new Error(String(response.status));
      } catch {
        if (button.getAttribute("aria-pressed") === "true") mark(before);
        tell(at.words().unrated);
      }
    });
  };

  log.addEventListener("click", (event) => {
    const button = event.target.closest(".thumbs button, .choices button");
    if (!button) return;
    event.preventDefault();
    if (button.closest(".thumbs")) press(button);
    else write(button.textContent, { data: button.value });
  });

  const finish = (row, item) => {
    row.dataset.id = item.id;
    row.removeAttribute("aria-busy");
    if (!row.querySelector("canvas")) bubbleOf(row).textContent = item.text;
    forgetFate(row);
    showFiles(row, item);
    if (item.buttons?.length) {
      const buttons = item.buttons.map(({ text, data }) => make("button", { class: "pill", type: "button", value: data }, text));
      row.append(make("div", { class: "choices" }, ...buttons));
    }
    if (typeof item.rating === "number") row.append(thumbs(item));
    row.append(make("time", { datetime: item.at, title: item.exact }, item.time));
    learn(item.id);
  };

  const learn = (id) => {
    known.add(id);
    if (id > last) last = id;
  };

  // A message that the server knows; returns whether it is new here. Our own one takes the place of the bubble that was shown
  // while it was under way.
  const show = (item, before = dots, old = false) => {
    const stay = atEnd();
    let row = null;
    if (known.has(item.id)) {
      // A picture is fetched after its message was stored.
      row = log.querySelector(`[data-id="${item.id}"]`);
      if (row) showFiles(row, item);
      if (stay) toEnd();
      return false;
    }
    if (item.author === "customer" && !old) {
      const unnamed = [...log.querySelectorAll(".own[data-tried]:not([data-id])")];
      // A typed command comes back as what its button is called: it is the oldest one that the server has not named yet.
      const commands = () => unnamed.find((one) => one.dataset.text.startsWith("/"));
      row = unnamed.find((one) => one.dataset.text === item.text) || commands() || null;
      const waits = row ? queue.indexOf(row) : -1;
      if (waits >= 0) queue.splice(waits, 1);
    }
    if (!row) {
      row = bubble(item.author, item.text);
      log.insertBefore(row, before);
    }
    finish(row, item);
    if (stay && before === dots) toEnd();
    return true;
  };

  const setStatus = (now = status) => {
    status = now;
    at.status(now);
  };

  // The sign that somebody writes: a person, or the bot while something is awaited and no piece of it has come.
  const showDots = () => {
    const wanted = streams > written ? "writing" : personWrites ? "typing" : "";
    if (dots?.dataset.sign === (wanted || undefined)) return;
    const stay = atEnd();
    dots?.remove();
    dots = null;
    if (wanted) {
      const words = at.words();
      const inside = make("p", { class: "bubble dots", role: "img", "aria-label": words[wanted] }, make("i"), make("i"), make("i"));
      dots = make("div", { class: "message theirs", "data-sign": wanted });
      if (wanted === "typing") dots.append(make("span", { class: "who", "aria-hidden": "true" }, words.typing));
      dots.append(inside);
      log.append(dots);
    }
    if (stay) toEnd();
  };

  // Said again while it lasts; if that is not heard any more, it ends by itself.
  const setPersonWrites = (now) => {
    clearTimeout(personWrites);
    personWrites = now ? setTimeout(() => setPersonWrites(false), PERSON_WRITES_MS) : 0;
    showDots();
  };

  const mark = (row) => {
    const stay = atEnd();
    forgetFate(row);
    row.classList.add("unsent");
    const again = make("button", { class: "pill", type: "button" }, at.words().again);
    again.addEventListener("click", () => retry(row));
    row.append(make("span", { class: "fate" }, at.words().unsent, again));
    if (stay) toEnd();
  };

  // An answer is on its way, though nobody holds the stream that it was to come by.
  const awaitAnswer = (wanted) => {
    clearTimeout(slow);
    slow = wanted ? setTimeout(() => {
      slow = 0;
      tell(at.words().slow);
    }, WAIT_FOR_ANSWER_MS) : 0;
  };

  const answered = (row) => {
    const theirs = [...log.querySelectorAll(".theirs[data-id]")].pop();
    return Boolean(theirs && row.compareDocumentPosition(theirs) & Node.DOCUMENT_POSITION_FOLLOWING);
  };

  // Reading

  async function* eventsOf(response, alive = () => {}) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      rest += decoder.decode(value, { stream: true });
      const parts = rest.split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = /^event: (.+)$/m.exec(part);
        const data = /^data: (.+)$/m.exec(part);
        if (event && data) yield [event[1], JSON.parse(data[1])];
      }
    }
  }

  const history = async (query) => {
    const response = await at.ask(`messages?${query}`, { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(String(response.status));
    return response.json();
  };

  const take = ({ items, status: now, typing }) => {
    const fresh = items.filter((item) => show(item));
    setStatus(now);
    setPersonWrites(typing && !fresh.some(({ author }) => author === "operator"));
    if (slow && fresh.some(({ author }) => author !== "customer")) {
      awaitAnswer(false);
      tell("");
    }
    at.heard(fresh);
  };

  // Everything at first, later what is new; nothing of somebody who has never written.
  const refresh = async () => {
    if (!at.here()) {
      setStatus("bot");
      return;
    }
    if (last) {
      take(await history(`after=${last}`));
      return;
    }
    const { items, next, status: now } = await history("");
    // What was said long ago is not read out again, and what the visitor has just written stands below all of it.
    if (items.length) log.setAttribute("aria-live", "off");
    const below = log.querySelector(".own:not([data-id])") || dots;
    const fresh = items.filter((item) => show(item, below));
    if (items.length) setTimeout(() => log.setAttribute("aria-live", "polite"));
    setStatus(now);
    at.first(next);
    at.heard(fresh);
  };

  const earlier = async (before, place) => {
    const { items, next } = await history(`before=${before}`);
    items.forEach((item) => show(item, place, true));
    return next;
  };

  // Hearing: a stream while the visitor looks, else a question from time to time; nothing in a hidden tab.

  const drop = () => {
    clearTimeout(timer);
    line?.abort();
    line = null;
  };

  const plan = (delay) => {
    clearTimeout(timer);
    if (document.hidden || !at.here()) {
      drop();
      return;
    }
    if (!at.open()) drop();
    if (line) return;
    const soon = slow ? EXPECTED_MS : status === "waiting" || status === "human" ? CLOSED_SOON_MS : SELDOM_MS;
    timer = setTimeout(check, delay ?? (at.open() && last && !failed ? 0 : soon));
  };

  const check = async () => {
    if (sending || streams) {
      plan(EXPECTED_MS);
      return;
    }
    if (at.open() && last) {
      hold();
      return;
    }
    await look();
    plan();
  };

  const look = async () => {
    try {
      await refresh();
      offline.hidden = true;
    } catch {
      offline.hidden = navigator.onLine;
    }
  };

  const hold = async () => {
    const mine = new AbortController();
    line = mine;
    let heard = false;
    let silence = 0;
    let rest = 0;
    const within = (ms) => {
      clearTimeout(silence);
      silence = setTimeout(() => mine.abort(), ms);
    };
    try {
      // What stands between may gather what it should pass on.
      within(FIRST_EVENT_MS);
      const response = await at.ask(`events?after=${last}`, { signal: mine.signal, headers: { Accept: "text/event-stream" } });
      if (response.status === 200) {
        for await (const [kind, data] of eventsOf(response, () => within(SILENCE_MS))) {
          heard = true;
          failed = 0;
          offline.hidden = true;
          if (kind !== "talk") continue;
          // What an answer's own stream is about to say is not said twice.
          if (sending || streams) kept.push(data);
          else take(data);
        }
      } else {
        rest = Number(response.headers.get("Retry-After")) * 1000;
      }
    } catch {
      // Lost, or given up: what was missed is asked for.
    }
    clearTimeout(silence);
    if (line !== mine) return;
    line = null;
    if (heard) {
      plan(300 + Math.random() * 2000);
      return;
    }
    failed += 1;
    if (!sending && !streams) await look();
    if (!line) plan(Math.max(rest, Math.min(SELDOM_MS, 1000 * 2 ** failed)) * (0.75 + Math.random() / 2));
  };

  // Writing

  // Show what comes back. Returns whether the server took the message; null when that is not known.
  const follow = async (response) => {
    if (!response.ok) {
      const refused = await response.json().catch(() => null);
      tell(refused?.error ? refused.error.message : at.words().lost);
      return false;
    }
    let taken = null;
    let writing = null;
    const stop = () => {
      if (writing) written -= 1;
      writing = null;
    };
    try {
      for await (const [kind, data] of eventsOf(response)) {
        if (kind === "delta") {
          const stay = atEnd();
          if (!writing) {
            writing = bubble("bot", "");
            writing.setAttribute("aria-busy", "true");
            log.insertBefore(writing, dots);
            written += 1;
            showDots();
          }
          bubbleOf(writing).append(data.text);
          if (stay) toEnd();
        } else if (kind === "restart") {
          writing?.remove();
          stop();
          showDots();
        } else if (kind === "message") {
          if (writing && data.author === "bot" && !known.has(data.id)) {
            finish(writing, data);
            stop();
          } else {
            show(data);
          }
        } else if (kind === "done") {
          setStatus(data.status);
          data.items.forEach((item) => show(item));
          taken = true;
        } else if (kind === "error") {
          tell(data.message);
          taken = data.code === "unavailable" ? null : false;
        }
      }
      return taken;
    } catch {
      return taken;
    } finally {
      writing?.remove();
      stop();
      at.heard([]);
    }
  };

  const expect = (change) => {
    streams += change;
    showDots();
    if (!streams && !sending) kept.splice(0).forEach(take);
  };

  const post = (fields) => {
    const picture = Boolean(fields.file);
    const body = picture ? new FormData() : new URLSearchParams();
    for (const [name, value] of Object.entries({ ...fields, after: last })) body.append(name, value);
    return at.ask(picture ? "pictures" : "messages", { method: "POST", body, headers: { Accept: "text/event-stream" } });
  };

  // The next message leaves when this one is with the server; their answers are shown as they come.
  const deliver = async (row) => {
    sending = true;
    tell("");
    forgetFate(row);
    expect(1);
    await at.begin();
    row.dataset.tried = "1";
    let response = null;
    try {
      response = await post(fieldsOf.get(row));
    } catch {
      // The connection broke: only the server knows whether the message arrived.
    }
    if (!response) await settle(row);
    sending = false;
    next();
    const taken = response ? await follow(response) : true;
    expect(-1);
    if (taken === false) mark(row);
    else if (response && (taken === null || !row.dataset.id)) await settle(row);
    failed = 0;
    plan();
  };

  const settle = async (row) => {
    try {
      await refresh();
    } catch {
      tell(at.words().lost);
      mark(row);
      return;
    }
    if (row.dataset.id) awaitAnswer(!answered(row));
    else mark(row);
  };

  const retry = async (row) => {
    if (sending || row.dataset.id) return;
    try {
      await refresh();
    } catch {
      tell(at.words().lost);
      return;
    }
    if (!row.dataset.id && !queue.includes(row)) {
      log.append(row);
      queue.push(row);
    }
    next();
  };

  const next = () => {
    if (sending) return;
    const row = queue.shift();
    if (row) deliver(row);
    else plan();
  };

  const write = (text, fields = { text }) => {
    const row = bubble("customer", text);
    row.dataset.text = text;
    fieldsOf.set(row, fields);
    log.insertBefore(row, dots);
    toEnd();
    queue.push(row);
    next();
    return row;
  };

  // What the visitor chose is seen at once, out of their own file.
  const preview = async (row, file) => {
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      return;
    }
    const share = Math.min(1, SHOWN_PX / Math.max(bitmap.width, bitmap.height));
    const sides = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * share)));
    const stay = atEnd();
    const [canvas, draw] = drawn(at.words().photo, ...sides);
    draw(bitmap);
    bubbleOf(row).replaceChildren(canvas);
    bubbleOf(row).classList.add("shown");
    if (stay) toEnd();
  };

  const give = (file, { types, bytes }) => {
    const { photo, kind, large } = at.words();
    if (!types.includes(file.type)) tell(kind);
    else if (file.size > bytes) tell(large);
    else preview(write(photo, { file }), file);
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? drop() : plan(1)));
  addEventListener("offline", () => {
    offline.hidden = false;
    drop();
  });
  addEventListener("online", () => {
    offline.hidden = true;
    failed = 0;
    tell("");
    const fate = log.querySelector(".fate");
    if (fate) retry(fate.closest(".message"));
    else plan(1);
  });

  return { write, give, bubble, tell, toEnd, atEnd, plan, refresh, earlier, learn, setStatus, awaitAnswer, last: () => last };
};
