// Light or dark theme: the reader's choice, or the system setting. Runs before the page is rendered, to avoid a flash.
(() => {
  const themes = { automatic: "", light: "light", dark: "dark" };
  let chosen = "automatic";
  try {
    chosen = localStorage.getItem("labbook-theme") ?? chosen;
  } catch {} // storage may be disabled; the choice then applies to this page only
  const apply = () => { document.documentElement.style.colorScheme = themes[chosen] ?? ""; };
  apply();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => { button.textContent = `Theme: ${chosen}`; };
    button.hidden = false;
    button.addEventListener("click", () => {
      const names = Object.keys(themes);
      chosen = names[(names.indexOf(chosen) + 1) % names.length];
      try {
        localStorage.setItem("labbook-theme", chosen);
      } catch {}
      apply();
      name();
    });
    name();
  });
})();
