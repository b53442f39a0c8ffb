// Numbers as the page's language writes them. Browsers without Uzbek would write them as English does, and shorten them in English.
const LANGUAGE = document.documentElement.lang;
const SHORT = { uz: ["ming", "mln", "mlrd"], "uz-Cyrl": ["минг", "млн", "млрд"] }[LANGUAGE];

const written = (value, options) => new Intl.NumberFormat(SHORT ? "ru" : LANGUAGE, options).format(value);

export const number = (value, most = 2, least = 0) =>
  written(value, { maximumFractionDigits: most, minimumFractionDigits: least });

// "4,4 mln" for 4 446 150.
export function short(value) {
  if (!SHORT) return written(value, { maximumFractionDigits: 1, notation: "compact" });
  const power = Math.min(Math.floor(Math.log10(Math.max(Math.abs(value), 1)) / 3), SHORT.length);
  return power ? `${number(value / 1000 ** power, 1)} ${SHORT[power - 1]}` : number(value, 1);
}
