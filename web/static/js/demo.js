// The demo chat of the first page: without it the form brings the page with the answer.
export function setUpDemo(demo) {
  const lines = demo.querySelector(".demo-lines");
  const field = demo.querySelector("#demo-text");
  let busy = false;

  const add = (side, text = "") => {
    const bubble = document.createElement("div");
    bubble.className = `bubble bubble-${side}`;
    bubble.textContent = text;
    lines.append(bubble);
    lines.scrollTop = lines.scrollHeight;
    return bubble;
  };

  async function ask(text) {
    if (busy || !text.trim()) return;
    busy = true;
    add("in", text);
    const bubble = add("out");
    bubble.innerHTML = '<span class="typing"><i></i><i></i><i></i></span>';
    try {
      const answer = await fetch(demo.dataset.demo, {
        method: "POST",
        headers: { Accept: "application/json", "X-CSRF-Token": document.body.dataset.csrf },
        body: new URLSearchParams({ text }),
      });
      const said = await answer.json();
      bubble.textContent = said.text ?? said.error.message;
    } catch {
      bubble.textContent = document.body.dataset.failed;
    }
    lines.scrollTop = lines.scrollHeight;
    busy = false;
  }

  demo.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.submitter?.value) ask(event.submitter.value);
    else {
      ask(field.value);
      field.value = "";
      field.focus();
    }
  });
}
