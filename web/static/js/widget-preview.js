// The chat in the corner follows the colour and the corner of the form before they are saved.
const form = document.querySelector("[data-widget-form]");

// Black or white, whichever is read more easily on the colour (WCAG 2.2); the server decides the same way.
function inkOn(color) {
  const [red, green, blue] = [1, 3, 5]
    .map((place) => parseInt(color.slice(place, place + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
  return light / 0.05 > 1.05 / light ? "#000000" : "#ffffff";
}

form?.addEventListener("input", () => {
  const chat = document.querySelector("botfactory-chat");
  const color = form.elements.color.value;
  if (!chat || !/^#[0-9a-f]{6}$/i.test(color)) return;
  chat.style.setProperty("--botfactory-color", color);
  chat.style.setProperty("--botfactory-ink", inkOn(color));
  chat.shadowRoot.querySelector(".root").classList.toggle("left", form.elements.position.value === "left");
});
