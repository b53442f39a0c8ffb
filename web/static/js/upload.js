// Dropping and choosing files: a bar for the way here; the list below shows the reading.
import { messageOf } from "./toast.js";

const KINDS = [".pdf", ".docx", ".csv", ".txt"];
const PICTURES = [".jpg", ".jpeg", ".png", ".webp"];

export function setUpDrop(form) {
  const input = form.querySelector("input[type=file]");
  const lines = form.querySelector(".uploads");
  const say = (text) => {
    const line = document.createElement("div");
    line.className = "upload-line";
    line.textContent = text;
    lines.append(line);
    return line;
  };
  const fail = (line, text) => {
    line.classList.add("bad");
    line.textContent = text;
    setTimeout(() => line.remove(), 15_000);
  };

  function send(file) {
    const named = (text) => text.replace("{name}", file.name);
    const isOf = (kinds) => kinds.some((kind) => file.name.toLowerCase().endsWith(kind));
    if (isOf(PICTURES)) {
      document.getElementById("picture")?.setAttribute("open", "");
      return fail(say(""), named(form.dataset.picture));
    }
    if (!isOf(KINDS)) return fail(say(""), named(form.dataset.wrongKind));
    if (file.size > Number(form.dataset.max) * 1024 * 1024) return fail(say(""), named(form.dataset.tooLarge));
    const line = say(named(form.dataset.uploading));
    const bar = document.createElement("progress");
    bar.className = "bar";
    bar.max = 100;
    bar.value = 0;
    bar.setAttribute("aria-label", named(form.dataset.uploading));
    line.append(bar);
    const body = new FormData();
    body.append("file", file, file.name);
    return new Promise((done) => {
      const request = new XMLHttpRequest();
      request.open("POST", form.action);
      request.setRequestHeader("X-CSRF-Token", document.body.dataset.csrf);
      request.setRequestHeader("Accept", "application/json");
      request.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable) bar.value = (100 * event.loaded) / event.total;
      });
      request.addEventListener("load", async () => {
        if (request.status === 202) line.remove();
        else fail(line, `${file.name}: ${await messageOf(new Response(request.responseText))}`);
        window.htmx.trigger("#documents", "refresh");
        done();
      });
      request.addEventListener("error", () => {
        fail(line, `${file.name}: ${document.body.dataset.failed}`);
        done();
      });
      request.send(body);
    });
  }

  async function sendAll(files) {
    for (const file of files) await send(file);
  }

  input.required = false;
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    sendAll(files);
  });
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => {
      event.preventDefault();
      form.classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) form.addEventListener(name, () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    sendAll([...event.dataTransfer.files]);
  });
}
