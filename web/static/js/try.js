// The owner's test chat: the answer as it is written, then what it was made of.
import { number } from "./numbers.js";
import { messageOf } from "./toast.js";

// What the owner taught comes under this name; a file's has a suffix.
const TAUGHT = "answers";
const seconds = (ms) => number(ms / 1000, 2, 2);
const NAMES = { uz: "O‘zbekcha", "uz-Cyrl": "Ўзбекча", ru: "Русский", en: "English" };

export function setUpChat(chat) {
  const lines = chat.querySelector(".chat-lines");
  const form = chat.querySelector(".chat-form");
  const field = form.querySelector("textarea");
  const button = form.querySelector("button");
  const words = chat.dataset;
  // Beside the settings their form is tried as it is now; what was said is known to this page alone.
  const settings = words.words ? document.querySelector(words.words) : null;
  let said = [];
  let spoken = "";

  function question(text) {
    if (!settings) return new URLSearchParams({ text });
    const body = new URLSearchParams(new FormData(settings));
    body.delete("csrf");
    body.set("text", text);
    body.set("words", "1");
    body.set("said", JSON.stringify(said));
    body.set("language", spoken);
    return body;
  }

  const add = (tag, className, text = "") => {
    const node = document.createElement(tag);
    node.className = className;
    node.textContent = text;
    lines.append(node);
    lines.scrollTop = lines.scrollHeight;
    return node;
  };
  const waiting = (bubble) => {
    bubble.innerHTML = '<span class="typing"><i></i><i></i><i></i></span>';
  };

  function showFiles(message) {
    for (const { url, name } of message.files ?? []) {
      const link = document.createElement("a");
      link.className = "file-link";
      link.href = url;
      link.target = "_blank";
      link.rel = "noopener";
      link.textContent = `📎 ${name}`;
      add("div", "sent-file").append(link);
    }
  }

  function show(bubble, data) {
    const said = data.messages.length ? data.messages : [{ text: words.noAnswer }];
    bubble.textContent = said[0].text;
    showFiles(said[0]);
    for (const more of said.slice(1)) {
      add("div", "bubble bubble-out", more.text);
      showFiles(more);
    }
    if (!data.messages.length) return;
    const facts = add("div", "made-of");
    const fact = (name, value) => {
      const item = document.createElement("span");
      const strong = document.createElement("b");
      strong.textContent = value;
      item.append(`${name}: `, strong);
      facts.append(item);
    };
    fact(words.language, NAMES[data.language] ?? data.language);
    if (data.model) fact(words.model, data.model);
    else if (data.answered && data.sources?.length) fact(words.model, words.quoted);
    if (data.took_ms) fact(words.took, words.seconds.replace("{n}", seconds(data.took_ms)));
    if (Number(data.usage?.cost_usd) > 0) fact(words.cost, `$${number(Number(data.usage.cost_usd), 8)}`);
    if (data.published === false) {
      const mark = document.createElement("span");
      mark.className = "state state-warn";
      mark.textContent = words.unsaved;
      facts.append(mark);
    }
    for (const name of data.attached ?? []) add("div", "sent-file", `📎 ${words.attached.replace("{name}", name)}`);
    if (!data.answered) {
      const mark = document.createElement("span");
      mark.className = "not-known";
      mark.textContent = words.unanswered;
      facts.append(mark);
    }
    if (data.sources?.length) {
      const sources = add("details", "sources");
      const summary = document.createElement("summary");
      summary.textContent = `${data.answered ? words.sources : words.closest}: ${data.sources.length}`;
      const list = document.createElement("ol");
      for (const source of data.sources) {
        const item = document.createElement("li");
        const name = document.createElement("b");
        name.textContent = source.document_name === TAUGHT ? words.taught : source.document_name;
        const text = document.createElement("p");
        text.textContent = source.snippet;
        const fit = number(Number(source.score), 2, 2);
        item.append(name, ` ${fit}`, text);
        list.append(item);
      }
      sources.append(summary, list);
    }
    lines.scrollTop = lines.scrollHeight;
  }

  async function ask(text) {
    chat.querySelector(".chat-empty")?.remove();
    add("div", "bubble bubble-in", text);
    const bubble = add("div", "bubble bubble-out");
    waiting(bubble);
    chat.dataset.busy = "1";
    button.disabled = true;
    const fail = (message) => {
      bubble.classList.add("bubble-bad");
      bubble.textContent = message;
      // To be sent again; what was typed meanwhile stays.
      field.value ||= text;
    };
    try {
      const response = await fetch(chat.dataset.chat, {
        method: "POST",
        headers: { "X-CSRF-Token": document.body.dataset.csrf, Accept: "text/event-stream" },
        body: question(text),
      });
      if (!response.ok) {
        fail(await messageOf(response));
        return;
      }
      let ended = false;
      let sofar = "";
      for await (const [kind, data] of eventsOf(response)) {
        if (kind === "delta") {
          sofar += data.text;
          bubble.textContent = sofar;
          lines.scrollTop = lines.scrollHeight;
        } else if (kind === "restart") {
          sofar = "";
          waiting(bubble);
        } else if (kind === "done") {
          show(bubble, data);
          if (settings) {
            said = [...said, ["user", text], ["assistant", data.messages[0].text]].slice(-10);
            spoken = data.language;
          }
          ended = true;
        } else if (kind === "error") {
          fail(data.message);
          ended = true;
        }
        if (ended) break;
      }
      if (!ended) fail(words.error);
    } catch {
      fail(words.error);
    } finally {
      button.disabled = false;
      delete chat.dataset.busy;
    }
  }

  // What to do first changes when there is something to answer from.
  document.addEventListener("documents", ({ detail }) => {
    const next = chat.querySelector("[data-next]");
    if (next) next.textContent = detail.querySelector(".state-good") ? words.ask : words.begin;
  });

  // Questions to begin with stand in the chat once the documents that answer them have been read.
  const tries = chat.querySelector("[data-tries]");
  const offer = (list) => {
    tries.hidden = list.dataset.reading === "1" || !tries.querySelector("button");
  };
  if (tries) {
    offer(document.querySelector("[data-reading]"));
    document.addEventListener("documents", ({ detail }) => offer(detail));
    tries.addEventListener("click", ({ target }) => {
      const question = target.closest("button");
      if (!question || chat.dataset.busy) return;
      // Not the field: on a phone its keyboard would cover the answer.
      (question.nextElementSibling ?? lines).focus({ preventScroll: true });
      question.remove();
      tries.hidden = !tries.querySelector("button");
      ask(question.textContent);
    });
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (!text || chat.dataset.busy) return;
    field.value = "";
    ask(text).then(() => field.focus());
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
        const block = rest.slice(0, end);
        rest = rest.slice(end + 2);
        const kind = /^event: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (kind && data) yield [kind, JSON.parse(data)];
      }
    }
  } finally {
    reader.cancel();
  }
}
